//! One request: who asks, for what, with which headers; and what every method needs to know of it.

use crate::conditions::Conditions;
use crate::failure::Failure;
use crate::path::{self, Last, Place, Spot};
use crate::{Role, Service, User};
use http::header;
use http::uri::{Authority, Uri};
use http::{HeaderMap, Method, StatusCode};
use larder_core::Result;
use larder_drive::{Actor, Door};
use std::sync::Arc;

/// A request without its body.
pub(crate) struct Call {
    pub service: Arc<Service>,
    pub user: User,
    pub head: http::request::Parts,
    pub place: Place,
    pub conditions: Conditions,
}

/// The Depth header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Zero,
    One,
    Infinity,
}

impl Call {
    /// Reads what every method needs.
    ///
    /// # Errors
    /// 400 and 404 for the URL, 400 for conditions, 403 where the user may only read.
    pub(crate) fn new(
        service: Arc<Service>,
        user: User,
        head: http::request::Parts,
    ) -> Result<Self, Failure> {
        let settings = &service.settings;
        let place = path::parse(&head.uri, &settings.prefix, &settings.projects)?;
        let conditions = Conditions::of(&head.headers)?;
        Ok(Self { service, user, head, place, conditions })
    }

    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// A header as text; `None` where it is absent.
    ///
    /// # Errors
    /// 400 where it is not ASCII text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.head.headers.get(name) else { return Ok(None) };
        let text = value.to_str().map_err(|_| Failure::bad_request(format!("{name} is no text")))?;
        Ok(Some(text.trim()))
    }

    /// Refuses those who may only read, and changes of the list of projects.
    pub(crate) fn may_write(&self) -> Result<(), Failure> {
        match (self.user.role, &self.place) {
            (Role::Viewer, _) => Err(Failure::new(StatusCode::FORBIDDEN, "this user may only read")),
            (_, Place::Top) => Err(Failure::new(StatusCode::FORBIDDEN, "projects are not made over WebDAV")),
            (Role::Owner | Role::Editor, _) => Ok(()),
        }
    }

    /// Who acts, with the lock tokens that the request submits.
    pub(crate) fn actor(&self) -> Actor {
        let settings = &self.service.settings;
        let mut actor = Actor::new(Door::Dav, settings.uid, settings.gid, self.user.name.clone());
        actor.lock_tokens = self.conditions.tokens().map(str::to_owned).collect();
        actor
    }

    /// Looks up what the URL names.
    pub(crate) fn spot(&self, last: Last) -> Result<Spot> {
        self.place.spot(&self.service.drive, &self.service.settings.projects, last)
    }

    pub(crate) fn depth(&self) -> Result<Option<Depth>, Failure> {
        match self.text("depth")? {
            None => Ok(None),
            Some("0") => Ok(Some(Depth::Zero)),
            Some("1") => Ok(Some(Depth::One)),
            Some(infinity) if infinity.eq_ignore_ascii_case("infinity") => Ok(Some(Depth::Infinity)),
            Some(_) => Err(Failure::bad_request("Depth is neither 0, 1 nor infinity")),
        }
    }

    /// The place of a URL that a header holds; `None` where another server, or nobody, answers for it.
    pub(crate) fn same_server(&self, url: &str) -> Option<Place> {
        let uri: Uri = url.parse().ok()?;
        if uri.authority().is_some_and(|authority| !self.is_own(authority)) {
            return None;
        }
        path::parse(&uri, &self.service.settings.prefix, &self.service.settings.projects).ok()
    }

    /// Says whether `authority` is the one that the client reached us under, perhaps through a proxy.
    pub(crate) fn is_own(&self, authority: &Authority) -> bool {
        let own = |name: &str| {
            let values = self.head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values
                .filter_map(|value| value.trim().parse::<Authority>().ok())
                .any(|a| same_host(&a, authority))
        };
        own(header::HOST.as_str())
            || own("x-forwarded-host")
            || self.head.uri.authority().is_some_and(|a| same_host(a, authority))
    }
}

fn same_host(a: &Authority, b: &Authority) -> bool {
    // The scheme is not compared: a proxy may have taken TLS off, and then 443 and no port are the same.
    let port = |a: &Authority| a.port_u16().filter(|port| !matches!(port, 80 | 443));
    a.host().eq_ignore_ascii_case(b.host()) && port(a) == port(b)
}
