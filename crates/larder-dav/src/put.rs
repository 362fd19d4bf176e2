//! PUT and PATCH: bytes stream into an upload and are published whole, at the end, if they are all there.
//!
//! Frames are collected to batches, and a job takes each to the drive while the next one comes in: at most two
//! batches are in memory and a slow client holds no thread. Dropping the future before the last byte aborts.

use crate::body::Body;
use crate::call::Call;
use crate::checksum::{self, Checksum};
use crate::failure::Failure;
use crate::gate::join;
use crate::get::value;
use crate::partial::Part;
use crate::path::{Last, Place, Spot};
use crate::{Incoming, conditions};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use larder_core::{Error, Kind, Name, Node, NodeId, Result, Timestamp};
use larder_drive::{Target, Upload};
use larder_store::Expect;
use std::sync::Arc;

/// Bytes that are collected before a job takes them.
const BATCH_BYTES: usize = 1 << 20;
/// Permissions of a new file.
pub(crate) const FILE_MODE: u16 = 0o644;

/// Answers PUT.
pub(crate) async fn put(call: Call, body: Incoming) -> Result<Response<Body>, Failure> {
    call.may_write()?;
    if call.headers().contains_key(header::CONTENT_ENCODING) {
        // Stored as it is, the file would not be what the client means. Source: RFC 9110 § 8.4.
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not supported"));
    }
    let part = call.text("content-range")?.map(Part::of_content_range).transpose()?;
    store(call, body, part).await
}

/// Answers PATCH.
pub(crate) async fn patch(call: Call, body: Incoming) -> Result<Response<Body>, Failure> {
    call.may_write()?;
    let media = call.text("content-type")?.unwrap_or_default();
    if !media.eq_ignore_ascii_case("application/x-sabredav-partialupdate") {
        let failure =
            Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "PATCH takes a sabredav partial update");
        let accepted = HeaderValue::from_static("application/x-sabredav-partialupdate");
        return Err(failure.header(header::HeaderName::from_static("accept-patch"), accepted));
    }
    let range =
        call.text("x-update-range")?.ok_or_else(|| Failure::bad_request("X-Update-Range is missing"))?;
    let part = Part::of_update_range(range)?;
    if let Spot::Free { .. } | Spot::Nowhere = call.spot(Last::Follow)? {
        return Err(Error::not_found(call.head.uri.path()).into());
    }
    store(call, body, Some(part)).await
}

/// What is known before the first byte comes.
struct Plan {
    parent: NodeId,
    name: Name,
    expect: Vec<Expect>,
    old: Option<Node>,
    /// Where a part goes, and what must remain before and behind it.
    start: u64,
    part: Option<Part>,
    mtime: Option<Timestamp>,
    /// The length that the body must have.
    len: Option<u64>,
}

async fn store(call: Call, body: Incoming, part: Option<Part>) -> Result<Response<Body>, Failure> {
    let plan = plan(&call, &body, part)?;
    let drive = call.service.drive.clone();
    let sum = call.text("oc-checksum")?.and_then(Checksum::of);
    let mut intake = Intake { upload: drive.upload(), sum, received: 0 };
    let call = Arc::new(call);
    if let (Some(old), true) = (&plan.old, plan.start > 0) {
        let (old, end) = (old.clone(), plan.start);
        intake = call.service.gate.call(move || intake.carry(&drive.reader(&old)?, 0, end)).await?;
    }
    let (intake, rest) = receive(&call, body, intake).await?;
    let gate = call.service.gate.clone();
    gate.call(move || Ok(finish(&call, plan, intake, rest))).await?
}

fn plan(call: &Call, body: &Incoming, part: Option<Part>) -> Result<Plan, Failure> {
    if let Place::In { slash: true, .. } = call.place {
        return Err(Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "PUT makes files, and this URL is a folder's",
        ));
    }
    let spot = call.spot(Last::Follow)?;
    call.conditions.check(call, &spot)?;
    let mut expect = call.conditions.expectations(&spot);
    let actor = call.actor();
    let drive = &call.service.drive;
    let (parent, name, old) = match spot {
        Spot::Known(found) if found.node.is_folder() => {
            return Err(Error::new(Kind::IsADirectory, call.head.uri.path()).into());
        }
        Spot::Known(found) if !found.node.is_file() => return Err(Error::denied(call.head.uri.path()).into()),
        Spot::Known(found) => {
            drive.locks().check(drive, &actor, found.node.id, false)?;
            let (parent, name) = found.entry.ok_or_else(|| Error::denied(call.head.uri.path()))?;
            (parent, name, Some(found.node))
        }
        Spot::Free { parent, name } => {
            drive.locks().check(drive, &actor, parent, false)?;
            (parent, name, None)
        }
        Spot::Nowhere | Spot::Top => {
            return Err(Failure::new(StatusCode::CONFLICT, "the folder does not exist"));
        }
    };
    let size = old.as_ref().map_or(0, Node::size_bytes);
    let start = part.map_or(Ok(0), |part| part.start(size))?;
    if let (Some(old), Some(_)) = (&old, part) {
        // What is carried over must still be what is replaced.
        expect.push(Expect::Version(old.id, old.version));
    }
    let declared = body.size_hint().exact();
    let chunked = number(call, "x-expected-entity-length")?;
    let len = [part.and_then(Part::len), declared, chunked].into_iter().flatten().next();
    if let (Some(want), Some(declared)) = (len, declared)
        && want != declared
    {
        return Err(Failure::bad_request(format!("a body of {want} bytes was announced, not of {declared}")));
    }
    // Unix time, which is below zero before 1970.
    let mtime = number(call, "x-oc-mtime")?.map(|secs| Timestamp::new(secs, 0));
    Ok(Plan { parent, name, expect, old, start, part, mtime, len })
}

fn number<N: std::str::FromStr>(call: &Call, name: &str) -> Result<Option<N>, Failure> {
    let Some(text) = call.text(name)? else { return Ok(None) };
    // Some clients send the fraction of a second too.
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole.parse().map(Some).map_err(|_| Failure::bad_request(format!("{name} is no number")))
}

/// Bytes on their way into the drive.
struct Intake {
    upload: Upload,
    sum: Option<Checksum>,
    received: u64,
}

impl Intake {
    fn take(mut self, batch: &[Bytes]) -> Result<Self> {
        for bytes in batch {
            if let Some(sum) = &mut self.sum {
                sum.update(bytes);
            }
            self.upload.write(bytes)?;
            self.received += bytes.len() as u64;
        }
        Ok(self)
    }

    fn carry(mut self, reader: &larder_drive::Reader, from: u64, to: u64) -> Result<Self> {
        self.upload.write_from(reader, from, to)?;
        Ok(self)
    }
}

/// Takes the body; returns the last batch unwritten, so that a short file needs one job in all.
async fn receive(call: &Call, mut body: Incoming, intake: Intake) -> Result<(Intake, Vec<Bytes>), Failure> {
    let gate = &call.service.gate;
    let mut idle = Some(intake);
    let mut busy = None;
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad_request(format!("request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        batch.push(data);
        if bytes < BATCH_BYTES {
            continue;
        }
        let intake = match (idle.take(), busy.take()) {
            (Some(intake), _) => intake,
            (None, Some(job)) => join(job).await?,
            (None, None) => return Err(Failure::bad_request("upload without an intake")),
        };
        let full = std::mem::take(&mut batch);
        bytes = 0;
        busy = Some(gate.spawn(move || intake.take(&full)));
    }
    match (idle, busy) {
        (Some(intake), _) => Ok((intake, batch)),
        (None, Some(job)) => Ok((join(job).await?, batch)),
        (None, None) => Err(Failure::bad_request("upload without an intake")),
    }
}

fn finish(call: &Call, plan: Plan, intake: Intake, rest: Vec<Bytes>) -> Result<Response<Body>, Failure> {
    let mut intake = intake.take(&rest)?;
    if let Some(want) = plan.len
        && want != intake.received
    {
        return Err(Failure::bad_request(format!("the body had {} bytes of {want}", intake.received)));
    }
    let checksum = intake.sum.take().map(Checksum::verify).transpose()?;
    if let (Some(old), Some(_)) = (&plan.old, plan.part) {
        let end = plan.start + intake.received;
        if end < old.size_bytes() {
            let reader = call.service.drive.reader(old)?;
            intake = intake.carry(&reader, end, old.size_bytes())?;
        }
    }
    let target = Target {
        parent: plan.parent,
        name: plan.name,
        expect: plan.expect,
        mtime: plan.mtime,
        mode: FILE_MODE,
    };
    let sealed = intake.upload.seal()?;
    // The sum is of the body, which is the file only where it is all of it.
    let held = checksum.filter(|_| plan.part.is_none());
    let xattrs = held.map(|held| checksum::attribute(sealed.head(), &held)).into_iter().collect();
    let published = sealed.publish(&call.actor(), target, xattrs)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if published.created { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(conditions::tag(&published.head))?);
    if plan.mtime.is_some() {
        headers.insert("x-oc-mtime", HeaderValue::from_static("accepted"));
    }
    Ok(response)
}
