//! dav-server over the drive: LOCK, UNLOCK, MKCOL and DELETE.
//!
//! Each request gets a handler of its own whose file system and lock system know the request: whatever path
//! dav-server asks about, it is the one of the request, parsed and looked up by us. What goes wrong in the drive is
//! kept in [`Passage::failed`] and replaces dav-server's answer, whose own errors have no 409, 412 or 503.
//!
//! What dav-server gets is made anew: the method, our own spelling of the URL, Depth, Lock-Token, and for a refresh
//! the one token that covers the resource. Conditions were checked before.

use crate::body::Body;
use crate::call::{Call, Depth};
use crate::failure::Failure;
use crate::path::{Found, Last, Spot};
use crate::{Incoming, date, whole};
use bytes::Bytes;
use dav_server::DavHandler;
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavMetaData, FsError, FsFuture, FsResult, FsStream, GuardedFileSystem, OpenOptions,
    ReadDirMeta,
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use larder_core::{Error, Kind, Node, Result};
use larder_store::catalog::Unlink;
use larder_store::{Durability, Op};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::SystemTime;

/// Permissions of a new folder.
const FOLDER_MODE: u16 = 0o755;

/// A request on its way through dav-server.
pub(crate) struct Passage {
    pub call: Call,
    /// What the URL named when the conditions were checked.
    pub spot: Spot,
    /// What LOCK says of its owner.
    pub owner_xml: String,
    /// LOCK made the file that it locks.
    pub created: bool,
    pub failed: Mutex<Option<Failure>>,
}

/// The view of one request that dav-server works on.
#[derive(Clone)]
pub(crate) struct Bridge(pub Arc<Passage>);

/// Has dav-server answer the request.
pub(crate) async fn pass(call: Call, body: Incoming) -> Result<Response<Body>, Failure> {
    if call.method() != "UNLOCK" {
        call.may_write()?;
    }
    let limit = call.service.settings.limits.xml_bytes;
    let body = match call.method().as_str() {
        // A body of DELETE means nothing and does no harm. Source: RFC 9110 § 9.3.5.
        "DELETE" | "UNLOCK" => Vec::new(),
        _ => whole(body, limit).await?,
    };
    // A task of its own: a disconnect does not cut a change that has begun.
    let task = tokio::spawn(async move { Bridge::run(call, body).await });
    task.await
        .unwrap_or_else(|panic| Err(Error::corrupt("a request's own work failed").because(panic).into()))
}

impl Bridge {
    async fn run(call: Call, body: Vec<u8>) -> Result<Response<Body>, Failure> {
        let last = if call.method() == "DELETE" { Last::Keep } else { Last::Follow };
        let spot = call.spot(last)?;
        call.conditions.check(&call, &spot)?;
        let owner_xml = String::new();
        let mut passage = Passage { call, spot, owner_xml, created: false, failed: Mutex::new(None) };
        let request = match passage.call.method().as_str() {
            "LOCK" if body.is_empty() => passage.refresh_request()?,
            "LOCK" => {
                let request = passage.lock_request(&body)?;
                passage.create_unmapped().await?;
                request
            }
            "DELETE" => passage.delete_request()?,
            _ => passage.request(body)?,
        };
        let principal = passage.call.user.name.clone();
        let bridge = Bridge(Arc::new(passage));
        let handler = DavHandler::builder()
            .filesystem(Box::new(bridge.clone()))
            .locksystem(Box::new(bridge.clone()))
            .build_handler();
        // The credentials are the bridge itself, which the file system has already.
        let answer = handler.handle_guarded(request, principal, ()).await;
        if bridge.0.created && (bridge.0.failed.lock().is_some() || !answer.status().is_success()) {
            bridge.undo_creation().await;
        }
        bridge.finish(answer).await
    }

    /// A LOCK that was refused leaves no file behind.
    async fn undo_creation(&self) {
        let passage = self.0.clone();
        let undone = self.0.call.service.gate.call(move || Ok(passage.undo_creation())).await;
        if let Err(failure) = undone.unwrap_or_else(|error| Err(error.into())) {
            tracing::warn!(?failure, "an empty file stays behind a failed LOCK");
        }
    }

    async fn finish(&self, answer: Response<dav_server::body::Body>) -> Result<Response<Body>, Failure> {
        if let Some(failure) = self.0.failed.lock().take() {
            return Err(failure);
        }
        let (mut head, body) = answer.into_parts();
        if self.0.created && head.status == StatusCode::OK {
            head.status = StatusCode::CREATED;
        }
        head.headers.remove(header::CONTENT_LENGTH);
        let body = body.collect().await.map_err(|error| Error::io("answer of dav-server", error))?;
        Ok(Response::from_parts(head, Body::whole(body.to_bytes())))
    }

    /// Runs a change of the drive; what goes wrong is kept for the answer.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Passage) -> Result<T, Failure> + Send + 'static,
    ) -> Option<T> {
        let bridge = self.clone();
        let done = self.0.call.service.gate.call(move || Ok(job(&bridge.0))).await;
        match done.unwrap_or_else(|error| Err(error.into())) {
            Ok(value) => Some(value),
            Err(failure) => {
                *self.0.failed.lock() = Some(failure);
                None
            }
        }
    }
}

impl Passage {
    pub(crate) fn known(&self) -> Option<&Found> {
        match &self.spot {
            Spot::Known(found) => Some(found),
            Spot::Top | Spot::Free { .. } | Spot::Nowhere => None,
        }
    }

    fn href(&self) -> Vec<u8> {
        let settings = &self.call.service.settings;
        let folder = self.known().is_some_and(|found| found.node.is_folder());
        self.call.place.href(&settings.prefix, &settings.projects, folder)
    }

    pub(crate) fn request(&self, body: impl Into<Bytes>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(self.call.method()).uri(self.href());
        for name in ["depth", "lock-token"] {
            if let Some(value) = self.call.headers().get(name) {
                request = request.header(name, value);
            }
        }
        let built = request.body(Full::new(body.into()));
        built.map_err(|error| Failure::bad_request(format!("request: {error}")))
    }

    fn delete_request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        // Source: RFC 4918 § 9.6.1, a folder goes with all it holds.
        if !matches!(self.call.depth()?, None | Some(Depth::Infinity)) {
            return Err(Failure::bad_request("DELETE takes no Depth but infinity"));
        }
        if self.known().is_some_and(Found::is_root) {
            return Err(Failure::new(StatusCode::FORBIDDEN, "a project is not deleted over WebDAV"));
        }
        self.request(Bytes::new())
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bridge({} {:?})", self.0.call.method(), self.0.call.place)
    }
}

/// What dav-server asks of a node.
#[derive(Clone, Debug)]
struct Meta(Node);

impl DavMetaData for Meta {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }

    fn modified(&self) -> FsResult<SystemTime> {
        Ok(date::system(self.0.mtime))
    }

    fn is_dir(&self) -> bool {
        self.0.is_folder()
    }
}

impl GuardedFileSystem<()> for Bridge {
    /// Never called: LOCK finds the file that [`Passage::create_unmapped`] made.
    fn open<'a>(&'a self, _: &'a DavPath, _: OpenOptions, (): &'a ()) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(std::future::ready(Err(FsError::NotImplemented)))
    }

    /// Empty: a folder goes with all it holds in one commit.
    fn read_dir<'a>(
        &'a self,
        _: &'a DavPath,
        _: ReadDirMeta,
        (): &'a (),
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        let none: FsStream<Box<dyn DavDirEntry>> = Box::pin(futures_util::stream::empty());
        Box::pin(std::future::ready(Ok(none)))
    }

    fn metadata<'a>(&'a self, _: &'a DavPath, (): &'a ()) -> FsFuture<'a, Box<dyn DavMetaData>> {
        let meta = self.0.known().map(|found| Box::new(Meta(found.node.clone())) as Box<dyn DavMetaData>);
        Box::pin(std::future::ready(meta.ok_or(FsError::NotFound)))
    }

    fn create_dir<'a>(&'a self, _: &'a DavPath, (): &'a ()) -> FsFuture<'a, ()> {
        let (parent, name) = match &self.0.spot {
            Spot::Free { parent, name } => (*parent, name.clone()),
            Spot::Nowhere => return Box::pin(std::future::ready(Err(FsError::NotFound))),
            Spot::Known(_) | Spot::Top => return Box::pin(std::future::ready(Err(FsError::Exists))),
        };
        let job = move |passage: &Passage| {
            let made =
                passage.call.service.drive.make_folder(&passage.call.actor(), parent, name, FOLDER_MODE);
            made.map(drop).map_err(|error| match error.kind() {
                Kind::NotFound => Failure::new(StatusCode::CONFLICT, error.to_string()),
                _ => error.into(),
            })
        };
        Box::pin(async move { self.change(job).await.ok_or(FsError::GeneralFailure) })
    }

    fn remove_dir<'a>(&'a self, path: &'a DavPath, (): &'a ()) -> FsFuture<'a, ()> {
        self.remove_file(path, &())
    }

    fn remove_file<'a>(&'a self, _: &'a DavPath, (): &'a ()) -> FsFuture<'a, ()> {
        let job = |passage: &Passage| {
            let found = passage.known().and_then(|found| Some((found.node.id, found.entry.clone()?)));
            let (node, (parent, name)) =
                found.ok_or_else(|| Error::not_found(passage.call.head.uri.path()))?;
            let expect = passage.call.conditions.expectations(&passage.spot);
            let op = Op::Unlink { parent, name, what: Unlink::Tree };
            let drive = &passage.call.service.drive;
            drive.commit(&passage.call.actor(), expect, vec![op], Durability::Power)?;
            Ok(drive.locks().end_in(drive, node)?)
        };
        Box::pin(async move { self.change(job).await.ok_or(FsError::GeneralFailure) })
    }
}
