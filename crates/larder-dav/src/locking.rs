//! LOCK and UNLOCK for dav-server: what a request asks for, and the drive's locks as its lock system.
//!
//! Source: RFC 4918 § 6, § 7, § 9.10 and § 9.11.

use crate::bridge::{Bridge, Passage};
use crate::call::Depth;
use crate::failure::Failure;
use crate::get::value;
use crate::path::{Found, Spot};
use crate::put::FILE_MODE;
use crate::{date, propfind, xml};
use bytes::Bytes;
use dav_server::davpath::DavPath;
use dav_server::ls::{DavLock, DavLockSystem, LsFuture};
use http::{Request, StatusCode};
use http_body_util::Full;
use larder_core::{Error, Kind};
use larder_drive::{LOCK_OWNER_MAX_BYTES, Lock, LockRequest, Target};
use larder_store::catalog::Unlink;
use larder_store::{Durability, Expect, Op};
use std::time::Duration;

/// How long a lock lives whose client does not say, in seconds.
const LOCK_DEFAULT_S: u64 = 3600;

impl Passage {
    /// A refresh names one lock by the If header: the one that covers the resource.
    pub(crate) fn refresh_request(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let found = self.known().ok_or_else(|| Error::not_found(self.call.head.uri.path()))?;
        let drive = &self.call.service.drive;
        let held = drive.locks().covering(drive, found.node.id)?;
        let token = self.call.conditions.tokens().find(|token| held.iter().any(|lock| lock.token == *token));
        let token = token.ok_or_else(|| {
            let failure = Failure::new(StatusCode::PRECONDITION_FAILED, "If names no lock of this resource");
            failure.condition("<D:lock-token-matches-request-uri/>")
        })?;
        let mut request = self.request(Bytes::new())?;
        request.headers_mut().insert("if", value(format!("(<{token}>)"))?);
        Ok(request)
    }

    /// What dav-server needs of lockinfo; other elements are ignored. Source: RFC 4918 § 17.
    pub(crate) fn lock_request(&mut self, body: &[u8]) -> Result<Request<Full<Bytes>>, Failure> {
        let source = std::str::from_utf8(body).map_err(|_| Failure::bad_request("XML: not UTF-8"))?;
        let root = xml::parse(source)?;
        // What would be refused later is refused before a file is made for it.
        if self.call.depth()? == Some(Depth::One) {
            return Err(Failure::bad_request("LOCK takes Depth 0 or infinity"));
        }
        let scope = root.dav_child("lockscope");
        let is = |name| scope.is_some_and(|scope| scope.dav_child(name).is_some());
        let write = root.dav_child("locktype").is_some_and(|locktype| locktype.dav_child("write").is_some());
        let scope = match (is("exclusive"), is("shared")) {
            (true, false) => "exclusive",
            (false, true) => "shared",
            _ => return Err(Failure::bad_request("XML: lockscope is neither exclusive nor shared")),
        };
        if !root.is_dav("lockinfo") || !write {
            return Err(Failure::bad_request("XML: lockinfo with a locktype of write expected"));
        }
        self.owner_xml = root.dav_child("owner").map(|owner| owner.standalone(source)).unwrap_or_default();
        if self.owner_xml.len() > LOCK_OWNER_MAX_BYTES {
            return Err(Failure::bad_request(format!("owner of a lock over {LOCK_OWNER_MAX_BYTES} bytes")));
        }
        self.request(format!(
            "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:{scope}/></D:lockscope>\
             <D:locktype><D:write/></D:locktype>{}</D:lockinfo>",
            self.owner_xml
        ))
    }

    /// LOCK of a URL without a resource makes an empty file. Source: RFC 4918 § 7.3.
    pub(crate) async fn create_unmapped(&mut self) -> Result<(), Failure> {
        let (parent, name) = match &self.spot {
            Spot::Free { parent, name } => (*parent, name.clone()),
            Spot::Known(_) => return Ok(()),
            Spot::Top | Spot::Nowhere => {
                return Err(Failure::new(StatusCode::CONFLICT, "the folder does not exist"));
            }
        };
        let drive = self.call.service.drive.clone();
        let actor = self.call.actor();
        let entry = Some((parent, name.clone()));
        let expect = vec![Expect::Name(parent, name.clone(), None)];
        let job = move || {
            let target = Target { parent, name, expect, mtime: None, mode: FILE_MODE };
            drive.node(drive.upload().finish(&actor, target)?.id)
        };
        let node = self.call.service.gate.call(job).await?;
        self.spot = Spot::Known(Found { node, entry });
        self.created = true;
        Ok(())
    }

    /// Takes the file that [`Passage::create_unmapped`] made away again, unless somebody wrote to it.
    pub(crate) fn undo_creation(&self) -> Result<(), Failure> {
        let Some(Found { node, entry: Some((parent, name)) }) = self.known() else { return Ok(()) };
        let expect = vec![Expect::Version(node.id, node.version)];
        let op = Op::Unlink { parent: *parent, name: name.clone(), what: Unlink::File };
        let drive = &self.call.service.drive;
        match drive.commit(&self.call.actor(), expect, vec![op], Durability::Power) {
            Err(error) if error.kind() != Kind::Conflict => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn acquire(&self, shared: bool, deep: bool) -> Result<Lock, Failure> {
        let found = self.known().ok_or_else(|| Error::not_found(self.call.head.uri.path()))?;
        let drive = &self.call.service.drive;
        let actor = self.call.actor();
        let request = LockRequest {
            root: found.node.id,
            // A lock of infinite depth on a file covers the file.
            deep: deep && found.node.is_folder(),
            shared,
            owner_xml: self.owner_xml.clone(),
            timeout_s: self.timeout_s()?,
        };
        let lock = drive.locks().acquire(drive, &actor, request);
        lock.map_err(|error| {
            let locked = larder_drive::is_locked(&error);
            let failure = Failure::from(error);
            if locked { failure.condition("<D:no-conflicting-lock/>") } else { failure }
        })
    }

    fn release(&self, token: &str) -> Result<(), Failure> {
        let drive = &self.call.service.drive;
        let mismatch = || {
            let failure = Failure::new(StatusCode::CONFLICT, "no such lock on this resource");
            failure.condition("<D:lock-token-matches-request-uri/>")
        };
        let found = self.known().ok_or_else(mismatch)?;
        let held = drive.locks().covering(drive, found.node.id)?;
        if !held.iter().any(|lock| lock.token == token) {
            return Err(mismatch());
        }
        Ok(drive.locks().release(drive, &self.call.actor(), token)?)
    }

    /// Sources: RFC 4918 § 10.7: the first value that is understood counts.
    fn timeout_s(&self) -> Result<u64, Failure> {
        let limit = self.call.service.settings.limits.lock_s;
        let wanted = self.call.text("timeout")?.unwrap_or_default().split(',').find_map(|one| {
            let one = one.trim();
            if one.eq_ignore_ascii_case("infinite") {
                return Some(limit);
            }
            let secs = one.get(..7).filter(|word| word.eq_ignore_ascii_case("second-")).map(|_| &one[7..])?;
            secs.bytes().all(|byte| byte.is_ascii_digit()).then(|| secs.parse().unwrap_or(u64::MAX))
        });
        Ok(wanted.unwrap_or(LOCK_DEFAULT_S).clamp(1, limit))
    }

    /// The lock as dav-server shows it.
    fn shown(&self, lock: &Lock) -> DavLock {
        let drive = &self.call.service.drive;
        let mut href = Vec::new();
        propfind::lock_root(&self.call.service, lock, &mut href);
        let path = String::from_utf8(href).ok().and_then(|href| DavPath::new(&href).ok());
        // Rounded: what was granted a moment ago is not a second less.
        let left_ns = lock.expires.0.saturating_sub(drive.now().0).max(0) as u64;
        let left = Duration::from_secs((left_ns + 500_000_000) / 1_000_000_000);
        DavLock {
            token: lock.token.clone(),
            path: Box::new(path.unwrap_or_else(|| DavPath::new("/").expect("the root is a path"))),
            principal: Some(lock.user.clone()),
            owner: xmltree::Element::parse(lock.owner_xml.as_bytes()).ok().map(Box::new),
            timeout_at: Some(date::system(lock.expires)),
            timeout: Some(left),
            shared: lock.shared,
            deep: lock.deep,
        }
    }
}

/// dav-server asks for a lock where it reports a conflict; the answer itself is [`Passage::failed`].
fn conflict() -> DavLock {
    DavLock {
        token: String::new(),
        path: Box::new(DavPath::new("/").expect("the root is a path")),
        principal: None,
        owner: None,
        timeout_at: None,
        timeout: None,
        shared: false,
        deep: false,
    }
}

impl DavLockSystem for Bridge {
    fn lock(
        &'_ self,
        _path: &DavPath,
        _principal: Option<&str>,
        _owner: Option<&xmltree::Element>,
        _timeout: Option<Duration>,
        shared: bool,
        deep: bool,
    ) -> LsFuture<'_, Result<DavLock, DavLock>> {
        Box::pin(async move {
            let lock = self.change(move |passage| Ok(passage.shown(&passage.acquire(shared, deep)?))).await;
            lock.ok_or_else(conflict)
        })
    }

    fn unlock(&'_ self, _path: &DavPath, token: &str) -> LsFuture<'_, Result<(), ()>> {
        let token = token.to_owned();
        Box::pin(async move { self.change(move |passage| passage.release(&token)).await.ok_or(()) })
    }

    fn refresh(
        &'_ self,
        _path: &DavPath,
        token: &str,
        _timeout: Option<Duration>,
    ) -> LsFuture<'_, Result<DavLock, ()>> {
        let token = token.to_owned();
        let job = move |passage: &Passage| {
            let drive = &passage.call.service.drive;
            let lock = drive.locks().refresh(drive, &passage.call.actor(), &token, passage.timeout_s()?)?;
            Ok(passage.shown(&lock))
        };
        Box::pin(async move { self.change(job).await.ok_or(()) })
    }

    /// The drive asks its locks at each commit; the If header was evaluated before.
    fn check(
        &'_ self,
        _path: &DavPath,
        _principal: Option<&str>,
        _ignore_principal: bool,
        _deep: bool,
        _submitted_tokens: &[String],
    ) -> LsFuture<'_, Result<(), DavLock>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn discover(&'_ self, _path: &DavPath) -> LsFuture<'_, Vec<DavLock>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// The drive ends the locks of what it deletes.
    fn delete(&'_ self, _path: &DavPath) -> LsFuture<'_, Result<(), ()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
