//! GET and HEAD: whole files, ranges and folders as a page.
//!
//! What the kernel has in memory is read, checked and sent chunk by chunk on the connection's own thread: 256 KiB take about
//! 100 µs, less than handing them between threads costs, and stay in the processor's caches. What must come from the
//! disk, be decrypted or decompressed is made a batch ahead of the socket on a blocking thread.
//! Looking a path up happens without a thread: it takes about a microsecond a name, and at worst a few pages of the
//! index from the disk.

use crate::body::{Batches, Body, Near};
use crate::call::Call;
use crate::conditions::{etag, if_range_holds};
use crate::failure::Failure;
use crate::gate::Gate;
use crate::listing;
use crate::path::{Found, Last, Spot};
use crate::ranges::{self, Asked};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use larder_core::{Error, Node, Result};
use larder_drive::Reader;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one batch: read from the disk while the socket takes the one before.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that the disk is asked for ahead of the socket.
const AHEAD_BYTES: u64 = 8 << 20;
/// Files up to this size are answered from memory without a thread, if they are there.
const INLINE_BYTES: u64 = 64 << 10;

/// Answers GET and HEAD.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, Failure> {
    let spot = call.spot(Last::Follow)?;
    if let Spot::Known(_) | Spot::Top = &spot {
        call.conditions.check(call, &spot)?;
    }
    match spot {
        Spot::Known(Found { node, .. }) if node.is_file() => file(call, &node).await,
        Spot::Known(Found { node, .. }) if node.is_folder() => Ok(listing::page(call, Some(&node))),
        Spot::Top => Ok(listing::page(call, None)),
        Spot::Known(_) | Spot::Free { .. } | Spot::Nowhere => {
            Err(Error::not_found(call.head.uri.path()).into())
        }
    }
}

/// The media type by the extension of `name`.
pub(crate) fn media_type(name: &str) -> &'static str {
    mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream")
}

async fn file(call: &Call, node: &Node) -> Result<Response<Body>, Failure> {
    let size = node.size_bytes();
    let name = call.place.name(&call.service.settings.projects);
    let media = name.map_or("application/octet-stream", |name| media_type(&name.to_string_lossy()));
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), node)?;
    let range = call.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let asked = match range {
        // Source: RFC 9110 § 14.2, ranges are for GET only.
        Some(range) if call.method() == Method::GET && if_range_holds(call.headers(), node) => {
            ranges::parse(range, size, call.service.settings.limits.ranges)
        }
        _ => Asked::Whole,
    };
    let parts = match asked {
        Asked::Whole => {
            send(call, node, &mut response, 0..size, media).await?;
            return Ok(response);
        }
        Asked::Unsatisfiable => {
            let failure =
                Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {size} bytes"));
            return Err(failure.header(header::CONTENT_RANGE, value(format!("bytes */{size}"))?));
        }
        Asked::Parts(parts) => parts,
    };
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    if let [part] = &parts[..] {
        let shown = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, value(shown)?);
        send(call, node, &mut response, part.clone(), media).await?;
    } else {
        send_parts(call, node, &mut response, &parts, media).await?;
    }
    Ok(response)
}

/// The headers that say which version this is.
pub(crate) fn describe(headers: &mut HeaderMap, node: &Node) -> Result<(), Failure> {
    if let Some(tag) = etag(node) {
        headers.insert(header::ETAG, value(tag)?);
    }
    let mut date = Vec::with_capacity(29);
    crate::date::http(&mut date, node.mtime);
    headers.insert(header::LAST_MODIFIED, value(date)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(())
}

pub(crate) fn value<T: TryInto<HeaderValue>>(text: T) -> Result<HeaderValue, Failure> {
    text.try_into()
        .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "a header could not be written"))
}

async fn send(
    call: &Call,
    node: &Node,
    response: &mut Response<Body>,
    range: Range<u64>,
    media: &'static str,
) -> Result<(), Failure> {
    let len = range.end - range.start;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    if call.method() == Method::HEAD || len == 0 {
        return Ok(());
    }
    let reader = reader(call, node).await?;
    if len <= INLINE_BYTES
        && let Some(bytes) = reader.try_read(range.start, len as usize)
        && bytes.len() as u64 == len
    {
        *response.body_mut() = Body::whole(bytes);
        return Ok(());
    }
    let gate = call.service.gate.clone();
    let feed = FileBytes::new(gate.clone(), reader, VecDeque::from([Piece::Bytes(range)]));
    *response.body_mut() = Body::feed(gate, feed, Some(len));
    Ok(())
}

/// Sends several ranges as multipart/byteranges. Source: RFC 9110 § 14.6, RFC 2046 § 5.1.1.
async fn send_parts(
    call: &Call,
    node: &Node,
    response: &mut Response<Body>,
    parts: &[Range<u64>],
    media: &'static str,
) -> Result<(), Failure> {
    let mut random = [0; 16];
    (call.service.settings.random)(&mut random);
    let boundary: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let size = node.size_bytes();
    let mut pieces = VecDeque::new();
    let mut len = 0;
    for part in parts {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes {}-{}/{size}\r\n\r\n",
            part.start,
            part.end - 1
        );
        len += head.len() as u64 + (part.end - part.start);
        pieces.push_back(Piece::Text(head.into()));
        pieces.push_back(Piece::Bytes(part.clone()));
    }
    let tail = format!("\r\n--{boundary}--\r\n");
    len += tail.len() as u64;
    pieces.push_back(Piece::Text(tail.into()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, value(format!("multipart/byteranges; boundary={boundary}"))?);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    let reader = reader(call, node).await?;
    let gate = call.service.gate.clone();
    *response.body_mut() = Body::feed(gate.clone(), FileBytes::new(gate, reader, pieces), Some(len));
    Ok(())
}

/// A long file's manifest has pages to be read first, which may wait for the disk.
async fn reader(call: &Call, node: &Node) -> Result<Reader> {
    let drive = &call.service.drive;
    if node.head().is_none_or(|head| head.depth == 0) {
        return drive.reader(node);
    }
    let (drive, node) = (drive.clone(), node.clone());
    call.service.gate.call(move || drive.reader(&node)).await
}

enum Piece {
    Text(Bytes),
    Bytes(Range<u64>),
}

struct FileBytes {
    reader: Arc<Reader>,
    gate: Gate,
    pieces: VecDeque<Piece>,
    /// Up to where the disk was asked to read; `None` as long as it was not needed.
    asked: Option<u64>,
}

impl FileBytes {
    fn new(gate: Gate, reader: Reader, pieces: VecDeque<Piece>) -> Self {
        Self { reader: Arc::new(reader), gate, pieces, asked: None }
    }

    /// Takes the next bytes, which `read` returns for a place and the end of the range; `None` at the end.
    fn take<E>(
        &mut self,
        read: impl FnOnce(&Reader, u64, u64) -> Result<Bytes, E>,
    ) -> Result<Option<Bytes>, E> {
        while let Some(Piece::Bytes(range)) = self.pieces.front()
            && range.is_empty()
        {
            self.pieces.pop_front();
        }
        match self.pieces.front_mut() {
            None => Ok(None),
            Some(Piece::Text(text)) => {
                let text = std::mem::take(text);
                self.pieces.pop_front();
                Ok(Some(text))
            }
            Some(Piece::Bytes(range)) => {
                let bytes = read(&self.reader, range.start, range.end)?;
                range.start += bytes.len() as u64;
                Ok(Some(bytes))
            }
        }
    }

    /// The range to have read from the disk now, if any.
    fn ahead(&mut self) -> Option<Range<u64>> {
        let Some(Piece::Bytes(range)) = self.pieces.front() else { return None };
        let asked = self.asked.unwrap_or_default().clamp(range.start, range.end);
        let to = range.end.min(range.start + AHEAD_BYTES);
        let due = asked < to && asked - range.start <= AHEAD_BYTES / 2;
        due.then(|| {
            self.asked = Some(to);
            asked..to
        })
    }
}

impl Batches for FileBytes {
    fn try_next(&mut self) -> Near {
        let taken =
            self.take(|reader, at, end| reader.try_stream(at, end).filter(|b| !b.is_empty()).ok_or(()));
        if self.asked.is_some()
            && let Some(range) = self.ahead()
        {
            let reader = self.reader.clone();
            drop(self.gate.spawn(move || {
                reader.prefetch(range);
                Ok(())
            }));
        }
        match taken {
            Ok(Some(bytes)) => Near::Bytes(bytes),
            Ok(None) => Near::End,
            Err(()) => Near::Far,
        }
    }

    fn next(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool> {
        if let Some(range) = self.ahead() {
            self.reader.prefetch(range);
        }
        let mut taken = 0;
        while taken < BATCH_BYTES {
            let bytes = self.take(|reader, at, end| match reader.stream(at, end) {
                Ok(bytes) if bytes.is_empty() => Err(Error::corrupt("a file ended before its size")),
                read => read,
            })?;
            let Some(bytes) = bytes else { return Ok(false) };
            taken += bytes.len();
            into.push_back(bytes);
        }
        Ok(true)
    }
}
