//! PROPPATCH: all changes in one commit, or none. Source: RFC 4918 § 9.2.

use crate::body::Body;
use crate::call::Call;
use crate::failure::Failure;
use crate::path::{Last, Place, Spot};
use crate::propfind::multistatus;
use crate::props::{self, Live};
use crate::xml::{self, Element, PropName};
use crate::{Incoming, date, dead, whole};
use http::{Response, StatusCode};
use larder_core::{Error, Node, Result, Timestamp};
use larder_store::catalog::{Attrs, XATTR_MAX_BYTES, XattrMode};
use larder_store::{Durability, Op};
use std::sync::Arc;

/// Answers PROPPATCH.
pub(crate) async fn proppatch(call: Call, body: Incoming) -> Result<Response<Body>, Failure> {
    call.may_write()?;
    let body = whole(body, call.service.settings.limits.xml_bytes).await?;
    let source = String::from_utf8(body).map_err(|_| Failure::bad_request("XML: not UTF-8"))?;
    let root = xml::parse(&source)?;
    if !root.is_dav("propertyupdate") {
        return Err(Failure::bad_request("XML: propertyupdate expected"));
    }
    let changes: Vec<Change> = changes(&root, &source);
    if changes.is_empty() {
        return Err(Failure::bad_request("XML: nothing to set or remove"));
    }
    let call = Arc::new(call);
    let gate = call.service.gate.clone();
    let answer = gate.call(move || Ok(apply(&call, changes))).await?;
    answer.map(|body| multistatus(Body::whole(body.into())))
}

/// One property and what happens to it.
struct Change {
    name: PropName,
    step: Step,
}

enum Step {
    Dead(Option<String>),
    Attrs(Attrs),
    Executable(bool),
    /// Removing what is not there is no error; removing a live value leaves it.
    Nothing,
    /// The status, and the element of RFC 4918 § 16.
    Refused(StatusCode, &'static str),
}

const PROTECTED: Step = Step::Refused(StatusCode::FORBIDDEN, "<D:cannot-modify-protected-property/>");
const UNREADABLE: Step = Step::Refused(StatusCode::CONFLICT, "");
const TOO_LARGE: Step = Step::Refused(StatusCode::INSUFFICIENT_STORAGE, "");

fn changes(root: &Element, source: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    for instruction in &root.children {
        let set = instruction.is_dav("set");
        if !set && !instruction.is_dav("remove") {
            continue;
        }
        for property in
            instruction.children.iter().filter(|child| child.is_dav("prop")).flat_map(|p| &p.children)
        {
            let step = if set { setting(property, source) } else { removing(&property.name) };
            changes.push(Change { name: property.name.clone(), step });
        }
    }
    changes
}

fn setting(property: &Element, source: &str) -> Step {
    let name = &property.name;
    let text = property.text.trim();
    let time = |set: fn(Timestamp) -> Attrs| match date::parse_http(text) {
        Some(time) => Step::Attrs(set(time)),
        None => UNREADABLE,
    };
    match Live::of(name) {
        Some(Live::WinCreation) => time(|t| Attrs { btime: Some(t), ..Attrs::default() }),
        Some(Live::WinModified) => time(|t| Attrs { mtime: Some(t), ..Attrs::default() }),
        Some(Live::WinAccess) => time(|t| Attrs { atime: Some(t), ..Attrs::default() }),
        Some(Live::WinAttributes) if is_hex(text) => Step::Dead(Some(text.to_owned())),
        Some(Live::WinAttributes) => UNREADABLE,
        Some(Live::Executable) => match text {
            "T" => Step::Executable(true),
            "F" => Step::Executable(false),
            _ => UNREADABLE,
        },
        Some(_) => PROTECTED,
        // How rclone sets the time of an upload: seconds of Unix time.
        None if name.ns == "DAV:" && name.local == "lastmodified" => match text.parse() {
            Ok(secs) => Step::Attrs(Attrs { mtime: Some(Timestamp::new(secs, 0)), ..Attrs::default() }),
            Err(_) => UNREADABLE,
        },
        None => {
            let value = property.standalone(source);
            if value.len() > XATTR_MAX_BYTES || name.ns.len() + name.local.len() > dead::NAME_MAX_BYTES {
                return TOO_LARGE;
            }
            Step::Dead(Some(value))
        }
    }
}

fn removing(name: &PropName) -> Step {
    match Live::of(name) {
        None | Some(Live::WinAttributes) => Step::Dead(None),
        Some(Live::WinCreation | Live::WinModified | Live::WinAccess) => Step::Nothing,
        Some(_) => PROTECTED,
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn apply(call: &Call, changes: Vec<Change>) -> Result<String, Failure> {
    let spot = call.spot(Last::Follow)?;
    call.conditions.check(call, &spot)?;
    let Spot::Known(found) = &spot else {
        return Err(Error::not_found(call.head.uri.path()).into());
    };
    let drive = &call.service.drive;
    let refused = changes.iter().any(|change| matches!(change.step, Step::Refused(..)));
    if !refused {
        let ops = ops(call, &found.node, &changes)?;
        if !ops.is_empty() {
            let expect = call.conditions.expectations(&spot);
            drive.commit(&call.actor(), expect, ops, Durability::Power)?;
        }
    }
    Ok(report(call, &found.node, &changes, refused))
}

fn ops(call: &Call, node: &Node, changes: &[Change]) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    // In document order, so that the last word on a property counts. Source: RFC 4918 § 9.2.
    let mut there = std::collections::HashMap::new();
    for change in changes {
        match &change.step {
            Step::Attrs(attrs) => ops.push(Op::SetAttrs { node: node.id, attrs: *attrs }),
            Step::Executable(on) => {
                let mode = if *on { node.mode | props::EXECUTE } else { node.mode & !props::EXECUTE };
                ops.push(Op::SetAttrs {
                    node: node.id,
                    attrs: Attrs { mode: Some(mode), ..Attrs::default() },
                });
            }
            Step::Dead(value) => {
                let name = dead::key(&change.name);
                let known = match there.get(&name) {
                    Some(known) => *known,
                    None => dead::get(&call.service.drive, node.id, &change.name)?.is_some(),
                };
                there.insert(name.clone(), value.is_some());
                if known || value.is_some() {
                    let value = value.clone().map(String::into_bytes);
                    ops.push(Op::SetXattr { node: node.id, name, value, mode: XattrMode::Any });
                }
            }
            Step::Nothing | Step::Refused(..) => {}
        }
    }
    Ok(ops)
}

fn report(call: &Call, node: &Node, changes: &[Change], refused: bool) -> String {
    let settings = &call.service.settings;
    let place: &Place = &call.place;
    let href = place.href(&settings.prefix, &settings.projects, node.is_folder());
    let mut out = String::from_utf8_lossy(props::MULTISTATUS).into_owned();
    out.push_str(&format!("<D:response><D:href>{}</D:href>", String::from_utf8_lossy(&href)));
    for change in changes {
        let (status, condition) = match change.step {
            Step::Refused(status, condition) => (status, condition),
            _ if refused => (StatusCode::FAILED_DEPENDENCY, ""),
            _ => (StatusCode::OK, ""),
        };
        out.push_str(&format!(
            "<D:propstat><D:prop>{}</D:prop><D:status>HTTP/1.1 {} {}</D:status>",
            props::empty_element(&change.name),
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        ));
        if !condition.is_empty() {
            out.push_str(&format!("<D:error>{condition}</D:error>"));
        }
        out.push_str("</D:propstat>");
    }
    out.push_str("</D:response>\n");
    out.push_str(&String::from_utf8_lossy(props::MULTISTATUS_END));
    out
}
