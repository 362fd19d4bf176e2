//! PROPFIND: which properties are asked for, and a multistatus that is written as fast as the catalog reads.
//!
//! Every depth is answered, infinity too: the answer is made a page of entries at a time, so memory is flat.

use crate::body::{Batches, Body};
use crate::call::{Call, Depth};
use crate::failure::Failure;
use crate::path::{self, Found, Last, Place, Spot};
use crate::props::{self, Live, Values};
use crate::walk::Walk;
use crate::xml::{self, Element, PropName};
use crate::{Incoming, Service, dead, whole};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use larder_core::{Error, Name, Node, Result};
use larder_drive::{Drive, Lock, Usage};
use std::collections::VecDeque;
use std::sync::Arc;

/// Room for a page of entries with the usual properties.
const PAGE_BYTES: usize = 1 << 20;
/// The most properties asked for by name; bounds what one entry costs.
const PROPS_MAX: usize = 500;

/// Which properties are asked for. Source: RFC 4918 § 14.20.
#[derive(Debug)]
enum Asked {
    /// All live ones and the dead ones; the names included beyond that.
    All(Vec<Item>),
    Names,
    Some(Vec<Item>),
}

#[derive(Debug)]
enum Item {
    Live(Live),
    /// A dead property, with the element that says that it is missing.
    Dead(PropName, String),
}

/// Answers PROPFIND.
pub(crate) async fn propfind(call: Call, body: Incoming) -> Result<Response<Body>, Failure> {
    let depth = call.depth()?.unwrap_or(Depth::Infinity);
    let body = whole(body, call.service.settings.limits.xml_bytes).await?;
    let asked = asked(&call, &body)?;
    let spot = call.spot(Last::Follow)?;
    let (node, root) = match (&spot, &call.place) {
        (Spot::Top, _) => return Ok(top(&call, asked, depth)),
        (Spot::Known(Found { node, .. }), Place::In { project, .. }) if path::is_shown(node.kind) => {
            (node.clone(), call.service.settings.projects[*project].root)
        }
        _ => return Err(Error::not_found(call.head.uri.path()).into()),
    };
    call.conditions.check(&call, &spot)?;
    let settings = &call.service.settings;
    let href = call.place.href(&settings.prefix, &settings.projects, node.is_folder());
    let walk = (node.is_folder() && depth != Depth::Zero).then(|| {
        Walk::new(call.service.drive.clone(), root, node.id, href.clone(), depth == Depth::Infinity)
    });
    let name = call.place.name(&settings.projects);
    let writer = Writer::new(call.service.clone(), asked)?;
    let mut answer = Answer { writer, first: VecDeque::from([(href, name, node)]), walk, begun: false };
    if answer.walk.is_some() {
        return Ok(multistatus(Body::feed(call.service.gate.clone(), answer, None)));
    }
    let mut out = VecDeque::new();
    answer.next(&mut out)?;
    Ok(multistatus(Body::whole(out.pop_front().unwrap_or_default())))
}

pub(crate) fn multistatus(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::MULTI_STATUS;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The list of projects: it has no node, so it borrows that of each project's root.
fn top(call: &Call, asked: Asked, depth: Depth) -> Response<Body> {
    let service = &call.service;
    let settings = &service.settings;
    let mut first = VecDeque::new();
    let root = |place: &Place| {
        let index = if let Place::In { project, .. } = place { *project } else { 0 };
        let node = service.drive.node(settings.projects.get(index)?.root).ok()?;
        Some((place.href(&settings.prefix, &settings.projects, true), place.name(&settings.projects), node))
    };
    first.extend(root(&Place::Top));
    if depth != Depth::Zero {
        let places = (0..settings.projects.len()).map(|project| Place::In {
            project,
            path: Default::default(),
            slash: true,
        });
        first.extend(places.filter_map(|place| root(&place)));
    }
    let body = Writer::new(service.clone(), asked).and_then(|writer| {
        let mut out = VecDeque::new();
        Answer { writer, first, walk: None, begun: false }.next(&mut out)?;
        Ok(out.pop_front().unwrap_or_default())
    });
    match body {
        Ok(body) => multistatus(Body::whole(body)),
        Err(error) => Failure::from(error).into_response(),
    }
}

/// Reads the request's body; an empty one asks for all. Source: RFC 4918 § 9.1.
fn asked(call: &Call, body: &[u8]) -> Result<Asked, Failure> {
    let windows = call.text("user-agent").ok().flatten().is_some_and(|agent| agent.contains("Microsoft"));
    let extra = || {
        let live: &[Live] = if windows { props::ALLPROP_WINDOWS } else { &[] };
        live.iter().copied().map(Item::Live).collect::<Vec<_>>()
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Asked::All(extra()));
    }
    let source = std::str::from_utf8(body).map_err(|_| Failure::bad_request("XML: not UTF-8"))?;
    let root = xml::parse(source)?;
    if !root.is_dav("propfind") {
        return Err(Failure::bad_request("XML: propfind expected"));
    }
    let wanted = |name: &str| root.dav_child(name);
    match (wanted("prop"), wanted("allprop"), wanted("propname")) {
        (Some(prop), None, None) => Ok(Asked::Some(items(prop)?)),
        (None, None, Some(_)) => Ok(Asked::Names),
        (None, Some(_), None) => {
            let mut all = extra();
            if let Some(include) = wanted("include") {
                all.extend(items(include)?);
            }
            all.retain(|item| !matches!(item, Item::Live(live) if props::ALLPROP.contains(live)));
            Ok(Asked::All(all))
        }
        _ => Err(Failure::bad_request("XML: one of prop, allprop and propname expected")),
    }
}

fn items(prop: &Element) -> Result<Vec<Item>, Failure> {
    if prop.children.len() > PROPS_MAX {
        return Err(Failure::bad_request(format!("more than {PROPS_MAX} properties")));
    }
    let item = |element: &Element| match Live::of(&element.name) {
        Some(live) => Item::Live(live),
        None => Item::Dead(element.name.clone(), props::empty_element(&element.name)),
    };
    Ok(prop.children.iter().map(item).collect())
}

struct Answer {
    writer: Writer,
    /// What the URL itself names: href, name, node.
    first: VecDeque<(Vec<u8>, Option<Name>, Node)>,
    walk: Option<Walk>,
    begun: bool,
}

impl Batches for Answer {
    fn next(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool> {
        let mut out = Vec::with_capacity(if self.walk.is_some() { PAGE_BYTES } else { 4096 });
        if !self.begun {
            self.begun = true;
            out.extend_from_slice(props::MULTISTATUS);
        }
        while let Some((href, name, node)) = self.first.pop_front() {
            self.writer.response(&mut out, &[&href], name.as_ref(), &node)?;
        }
        let writer = &mut self.writer;
        let mut encoded = Vec::new();
        let more = match &mut self.walk {
            None => false,
            Some(walk) => walk.page(|entry| {
                encoded.clear();
                path::encode(entry.name.as_bytes(), &mut encoded);
                if entry.node.is_folder() {
                    encoded.push(b'/');
                }
                writer.response(&mut out, &[entry.folder, &encoded], Some(entry.name), entry.node)
            })?,
        };
        if !more {
            out.extend_from_slice(props::MULTISTATUS_END);
        }
        into.push_back(out.into());
        Ok(more)
    }
}

/// Writes the response element of one resource after the other.
struct Writer {
    service: Arc<Service>,
    asked: Asked,
    usage: Option<Usage>,
    missing: Vec<u8>,
}

impl Writer {
    fn new(service: Arc<Service>, asked: Asked) -> Result<Self> {
        let quota = |item: &Item| matches!(item, Item::Live(Live::QuotaUsed | Live::QuotaAvailable));
        let wanted = match &asked {
            Asked::All(items) | Asked::Some(items) => items.iter().any(quota),
            Asked::Names => true,
        };
        let usage = if wanted { Some(service.drive.usage()?) } else { None };
        Ok(Self { service, asked, usage, missing: Vec::new() })
    }

    fn response(
        &mut self,
        out: &mut Vec<u8>,
        href: &[&[u8]],
        name: Option<&Name>,
        node: &Node,
    ) -> Result<()> {
        out.extend_from_slice(b"<D:response><D:href>");
        href.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"</D:href><D:propstat><D:prop>");
        let begin = out.len();
        self.missing.clear();
        let service = self.service.clone();
        let lock_root = |lock: &Lock, out: &mut Vec<u8>| lock_root(&service, lock, out);
        let values = Values { drive: &self.service.drive, usage: self.usage, lock_root: &lock_root };
        match &self.asked {
            Asked::Names => names(&values, node, name, out)?,
            Asked::Some(items) => some(&values, items, node, name, out, &mut self.missing)?,
            Asked::All(more) => {
                for live in props::ALLPROP {
                    values.write(*live, node, name, out)?;
                }
                for property in dead_names(values.drive, node)? {
                    out.extend(dead::get(values.drive, node.id, &property)?.unwrap_or_default());
                }
                some(&values, more, node, name, out, &mut self.missing)?;
            }
        }
        if out.len() == begin && !self.missing.is_empty() {
            out.truncate(begin - b"<D:propstat><D:prop>".len());
        } else {
            out.extend_from_slice(b"</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>");
        }
        if !self.missing.is_empty() {
            out.extend_from_slice(b"<D:propstat><D:prop>");
            out.extend_from_slice(&self.missing);
            out.extend_from_slice(b"</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>");
        }
        out.extend_from_slice(b"</D:response>\n");
        Ok(())
    }
}

fn some(
    values: &Values<'_>,
    items: &[Item],
    node: &Node,
    name: Option<&Name>,
    out: &mut Vec<u8>,
    missing: &mut Vec<u8>,
) -> Result<()> {
    for item in items {
        match item {
            Item::Live(live) => {
                if !values.write(*live, node, name, out)? {
                    missing.extend_from_slice(format!("<{}/>", live.tag()).as_bytes());
                }
            }
            Item::Dead(property, empty) => match dead::get(values.drive, node.id, property)? {
                Some(element) => out.extend_from_slice(&element),
                None => missing.extend_from_slice(empty.as_bytes()),
            },
        }
    }
    Ok(())
}

fn names(values: &Values<'_>, node: &Node, name: Option<&Name>, out: &mut Vec<u8>) -> Result<()> {
    let mut value = Vec::new();
    for live in Live::ALL {
        value.clear();
        if values.write(*live, node, name, &mut value)? {
            out.extend_from_slice(format!("<{}/>", live.tag()).as_bytes());
        }
    }
    for property in dead_names(values.drive, node)? {
        out.extend_from_slice(props::empty_element(&property).as_bytes());
    }
    Ok(())
}

fn dead_names(drive: &Drive, node: &Node) -> Result<Vec<PropName>> {
    let mut names = dead::names(drive, node.id)?;
    names.retain(|name| Live::of(name).is_none());
    Ok(names)
}

/// Writes the href of the node that a lock was taken on.
pub(crate) fn lock_root(service: &Service, lock: &Lock, out: &mut Vec<u8>) {
    let Ok(path) = service.drive.path_of(lock.root) else { return };
    let folder = service.drive.node(lock.root).is_ok_and(|node| node.is_folder());
    let settings = &service.settings;
    out.extend_from_slice(&Place::In { project: 0, path, slash: folder }.href(
        &settings.prefix,
        &settings.projects,
        folder,
    ));
}
