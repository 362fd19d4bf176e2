//! Chunks by hash: one, or many in one request, of a node that holds them.

use crate::failure::Failure;
use crate::frames::Frames;
use crate::{BODY_BYTES, Body, Incoming, Service, answer};
use http::{HeaderValue, Response, StatusCode, header, request};
use http_body_util::BodyExt;
use larder_core::{ChunkId, Error, Kind, NodeId};
use std::sync::Arc;

/// Chunks of one request.
const CHUNKS_MAX: usize = 256;
/// A chunk is its hash: it never changes, and whoever may not read it must not be given it by a cache on the way.
const FOR_EVER: HeaderValue = HeaderValue::from_static("private, immutable, max-age=31536000");

/// Sends one chunk as it is.
pub(crate) async fn one(
    service: Arc<Service>,
    node: NodeId,
    id: ChunkId,
    head: &request::Parts,
) -> Result<Response<Body>, Failure> {
    let tag = format!("\"{id}\"");
    let known = head.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let (own, gate) = (service.clone(), service.gate.clone());
    let body = gate.call(move || {
        let absent = || Error::not_found(format!("node {node} holds no chunk {id}"));
        let _hold = own.drive.hold();
        if !own.holdings.held(&own.drive, node, &[id])?.contains(&id) {
            return Err(absent());
        }
        own.drive.chunk_once(node, &id).map_err(|error| match error.kind() {
            Kind::NotFound => absent(),
            _ => error,
        })
    });
    let body = body.await?;
    let mut response = match unchanged {
        true => answer::empty(StatusCode::NOT_MODIFIED),
        false => answer::bytes(answer::BYTES, body),
    };
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits");
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, FOR_EVER);
    Ok(response)
}

/// Sends many in the order asked.
pub(crate) async fn many(
    service: Arc<Service>,
    node: NodeId,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = answer::whole(&head.headers, body, answer::BYTES, BODY_BYTES).await?;
    let (ids, rest) = body.as_chunks::<32>();
    if !rest.is_empty() || !(1..=CHUNKS_MAX).contains(&ids.len()) {
        return Err(Failure::invalid("body", format_args!("1 to {CHUNKS_MAX} ids of 32 bytes each")));
    }
    let ids: Vec<ChunkId> = ids.iter().map(|id| ChunkId(*id)).collect();
    let own = service.clone();
    let look = move || {
        let hold = own.drive.hold();
        let held = own.holdings.held(&own.drive, node, &ids)?;
        let ids = ids.into_iter().map(|id| (id, held.contains(&id))).collect();
        Ok::<_, Error>(Frames { drive: own.drive.clone(), node, ids, _hold: hold })
    };
    let frames = service.gate.call(look).await?;
    let mut response = Response::new(frames.body(service.gate.clone()).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer::BYTES));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
