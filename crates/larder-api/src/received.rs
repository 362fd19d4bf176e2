//! Chunks that a device sends before the commit that refers to them.
//!
//! They come as frames, a length of 4 bytes, little endian, and a body, and are stored in batches on a blocking thread while
//! the next one comes from the socket. So a request holds at most two batches and the chunk that is coming.

use crate::answer::{self, Carried};
use crate::failure::Failure;
use crate::gate::join;
use crate::{Body, Incoming, Service};
use bytes::{Buf, Bytes};
use http::{Response, StatusCode, request};
use larder_core::{ChunkId, Error, Kind, chunker, manifest};
use larder_drive::Drive;
use larder_store::Lease;
use larder_store::origin::{ASKED_MAX, SENT_MAX, SENT_MAX_BYTES};
use std::sync::Arc;

/// Bytes of an id.
const ID_BYTES: usize = 32;
/// Bytes in front of a body.
const LENGTH_BYTES: usize = 4;
const PAGE_MAX_BYTES: usize = manifest::PAGE_EXTENTS * manifest::EXTENT_BYTES;
/// The longest chunk, or page of a manifest.
const CHUNK_MAX_BYTES: usize =
    if chunker::MAX_BYTES > PAGE_MAX_BYTES { chunker::MAX_BYTES } else { PAGE_MAX_BYTES };
/// Bytes of one batch, and the chunk that passes it.
const BATCH_BYTES: usize = 1 << 20;

/// Tells which chunks the store lacks.
pub(crate) async fn missing(
    service: Arc<Service>,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = answer::whole(&head.headers, body, answer::BYTES, ASKED_MAX * ID_BYTES).await?;
    let (ids, rest) = body.as_chunks::<ID_BYTES>();
    if !rest.is_empty() || ids.is_empty() {
        return Err(Failure::invalid("body", format_args!("1 to {ASKED_MAX} ids of {ID_BYTES} bytes each")));
    }
    let ids: Vec<ChunkId> = ids.iter().copied().map(ChunkId).collect();
    let own = service.clone();
    let missing = service.gate.call::<_, Error>(move || own.drive.chunks().missing(&ids)).await?;
    Ok(told(&missing))
}

/// Stores chunks, as far as they come whole, and tells their ids.
pub(crate) async fn store(
    service: Arc<Service>,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let limit = SENT_MAX_BYTES + SENT_MAX * LENGTH_BYTES;
    let mut body = Carried::new(&head.headers, body, answer::BYTES, limit)?;
    let mut storing = Storing::new(&service);
    let outcome = storing.take_all(&mut body).await;
    // What came whole before a body broke off is stored all the same.
    let ids = storing.end().await?;
    outcome.map(|()| told(&ids))
}

fn told(ids: &[ChunkId]) -> Response<Body> {
    answer::bytes(answer::BYTES, ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>().into())
}

/// The chunks of one request.
struct Storing<'a> {
    service: &'a Service,
    lease: Arc<Lease>,
    frame: Frame,
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    bytes: usize,
    ids: Vec<ChunkId>,
    job: Option<tokio::task::JoinHandle<Result<Vec<ChunkId>, Error>>>,
}

impl<'a> Storing<'a> {
    fn new(service: &'a Service) -> Self {
        Self {
            service,
            lease: Arc::new(service.drive.chunks().lease()),
            frame: Frame::default(),
            batch: Vec::new(),
            batch_bytes: 0,
            bytes: 0,
            ids: Vec::new(),
            job: None,
        }
    }

    async fn take_all(&mut self, body: &mut Carried) -> Result<(), Failure> {
        let mut count = 0;
        while let Some(mut piece) = body.piece().await? {
            while let Some(chunk) = self.frame.take(&mut piece)? {
                self.bytes += chunk.len();
                count += 1;
                if self.bytes > SENT_MAX_BYTES || count > SENT_MAX {
                    let what =
                        format!("body: more than {SENT_MAX} chunks, or {SENT_MAX_BYTES} bytes of them");
                    return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::Invalid, what));
                }
                self.batch_bytes += chunk.len();
                self.batch.push(chunk);
                if self.batch_bytes >= BATCH_BYTES {
                    self.store_batch().await?;
                }
            }
        }
        match self.frame.is_empty() {
            true => Ok(()),
            false => Err(Failure::invalid("body", "it ends within a chunk")),
        }
    }

    /// Has the batch stored once the one before is.
    async fn store_batch(&mut self) -> Result<(), Error> {
        self.join().await?;
        let (drive, lease) = (self.service.drive.clone(), self.lease.clone());
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.job = Some(self.service.gate.spawn(move || put(&drive, &lease, &batch)));
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Error> {
        if let Some(job) = self.job.take() {
            self.ids.extend(join(job).await?);
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Vec<ChunkId>, Error> {
        self.store_batch().await?;
        self.join().await?;
        Ok(self.ids)
    }
}

fn put(drive: &Drive, lease: &Lease, batch: &[Vec<u8>]) -> Result<Vec<ChunkId>, Error> {
    let store = |body: &Vec<u8>| {
        let id = ChunkId::of(body);
        drive.chunks().put(lease, &id, body).map(|_| id)
    };
    batch.iter().map(store).collect()
}

/// A frame that is coming.
#[derive(Default)]
struct Frame {
    length: Vec<u8>,
    body: Vec<u8>,
}

impl Frame {
    fn is_empty(&self) -> bool {
        self.length.is_empty()
    }

    /// Takes bytes off `piece`; returns a chunk once it is whole, and nothing once `piece` is used up.
    fn take(&mut self, piece: &mut Bytes) -> Result<Option<Vec<u8>>, Failure> {
        let missing = LENGTH_BYTES - self.length.len();
        self.length.extend_from_slice(&piece.split_to(missing.min(piece.len())));
        let Ok(length) = <[u8; LENGTH_BYTES]>::try_from(&self.length[..]) else { return Ok(None) };
        let length = u32::from_le_bytes(length) as usize;
        if !(1..=CHUNK_MAX_BYTES).contains(&length) {
            return Err(Failure::invalid("body", format_args!("a chunk has 1 to {CHUNK_MAX_BYTES} bytes")));
        }
        if self.body.capacity() == 0 {
            self.body.reserve_exact(length);
        }
        let missing = (length - self.body.len()).min(piece.remaining());
        self.body.extend_from_slice(&piece.split_to(missing));
        if self.body.len() < length {
            return Ok(None);
        }
        self.length.clear();
        Ok(Some(std::mem::take(&mut self.body)))
    }
}
