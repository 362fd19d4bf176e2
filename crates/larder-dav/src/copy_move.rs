//! COPY and MOVE: one commit each, whatever they replace. Source: RFC 4918 § 9.8 and § 9.9.

use crate::body::Body;
use crate::call::{Call, Depth};
use crate::failure::Failure;
use crate::get::value;
use crate::path::{self, Found, Last, Place, Spot};
use http::header;
use http::{Response, StatusCode, Uri};
use larder_core::{Error, Kind, Name, NodeId, Result};
use larder_drive::{CopyDepth, undisturbed};
use larder_store::Expect;
use larder_store::catalog::Replace;
use std::sync::Arc;

/// Answers COPY and MOVE.
pub(crate) async fn copy_move(call: Call) -> Result<Response<Body>, Failure> {
    call.may_write()?;
    let to = destination(&call)?;
    let replace = match call.text("overwrite")? {
        None | Some("T" | "t") => Replace::Tree,
        Some("F" | "f") => Replace::Nothing,
        Some(_) => return Err(Failure::bad_request("Overwrite is neither T nor F")),
    };
    let moves = call.method().as_str() == "MOVE";
    let depth = match (call.depth()?, moves) {
        (None | Some(Depth::Infinity), _) => CopyDepth::Infinity,
        (Some(Depth::Zero), false) => CopyDepth::Zero,
        // Source: RFC 4918 § 9.9.2 for MOVE, § 9.8.3 for COPY.
        (Some(_), _) => return Err(Failure::bad_request("this Depth is not for this method")),
    };
    let call = Arc::new(call);
    let gate = call.service.gate.clone();
    let attempt = move || if moves { rename(&call, &to, replace) } else { copy(&call, &to, replace, depth) };
    // Both ends, and the conditions of the request, are looked at again where somebody else was first; a client would not
    // know what to do with that.
    gate.call(move || Ok(undisturbed(Failure::is_disturbed, attempt))).await?
}

/// The place that Destination names.
fn destination(call: &Call) -> Result<Place, Failure> {
    let text = call.text("destination")?.ok_or_else(|| Failure::bad_request("Destination is missing"))?;
    // Parsing cuts a fragment off and a path has no query: what is left would be the name of something else.
    if text.contains(['#', '?']) {
        return Err(Failure::bad_request("Destination has a `#` or `?`, which a name has as %23 or %3F"));
    }
    let uri: Uri = text.parse().map_err(|_| Failure::bad_request("Destination is no URL"))?;
    let elsewhere = || Failure::new(StatusCode::BAD_GATEWAY, "Destination is not on this server");
    if uri.authority().is_some_and(|authority| !call.is_own(authority)) {
        return Err(elsewhere());
    }
    let place = path::parse(&uri, &call.service.settings.prefix, &call.service.settings.projects);
    let place = place
        .map_err(|failure| if failure.status() == StatusCode::NOT_FOUND { elsewhere() } else { failure })?;
    if place == Place::Top {
        return Err(Failure::new(StatusCode::FORBIDDEN, "projects are not made over WebDAV"));
    }
    Ok(place)
}

/// The two ends of a change that may be made.
struct Ends {
    source: Found,
    to: (NodeId, Name),
    replaces: bool,
    /// What the commit has to expect so that the conditions hold at that moment too.
    expect: Vec<Expect>,
}

fn ends(call: &Call, to: &Place, last: Last, replace: Replace) -> Result<Ends, Failure> {
    let spot = call.spot(last)?;
    call.conditions.check(call, &spot)?;
    let expect = call.conditions.expectations(&spot);
    let Spot::Known(source) = spot else {
        return Err(Error::not_found(call.head.uri.path()).into());
    };
    let service = &call.service;
    let same =
        || Failure::new(StatusCode::FORBIDDEN, "source and destination are the same, or one holds the other");
    let (to, replaces) = match to.spot(&service.drive, &service.settings.projects, Last::Keep)? {
        Spot::Free { parent, name } => ((parent, name), false),
        Spot::Known(Found { entry: Some(entry), node }) => {
            if node.id == source.node.id && source.entry.as_ref() == Some(&entry) {
                return Err(same());
            }
            (entry, true)
        }
        Spot::Known(_) | Spot::Top => return Err(same()),
        Spot::Nowhere => {
            return Err(Failure::new(StatusCode::CONFLICT, "the folder of Destination does not exist"));
        }
    };
    if replaces && replace == Replace::Nothing {
        return Err(Failure::new(StatusCode::PRECONDITION_FAILED, "Destination exists and Overwrite is F"));
    }
    Ok(Ends { source, to, replaces, expect })
}

/// Neither end may hold the other: the drive says `Invalid` for a folder into itself or over one that holds it.
fn refused(error: Error, replace: Replace) -> Failure {
    match error.kind() {
        Kind::Invalid => Failure::new(StatusCode::FORBIDDEN, error.to_string()),
        Kind::Exists if replace == Replace::Nothing => {
            Failure::new(StatusCode::PRECONDITION_FAILED, error.to_string())
        }
        Kind::NotFound => Failure::new(StatusCode::CONFLICT, error.to_string()).disturbed(),
        _ => error.into(),
    }
}

fn copy(call: &Call, to: &Place, replace: Replace, depth: CopyDepth) -> Result<Response<Body>, Failure> {
    let ends = ends(call, to, Last::Follow, replace)?;
    let source = ends.source.node.id;
    let copied = call.service.drive.copy(&call.actor(), source, ends.to, replace, depth, ends.expect);
    copied.map_err(|error| refused(error, replace))?;
    answer(call, to, ends.replaces, ends.source.node.is_folder())
}

fn rename(call: &Call, to: &Place, replace: Replace) -> Result<Response<Body>, Failure> {
    let ends = ends(call, to, Last::Keep, replace)?;
    let from =
        ends.source.entry.ok_or_else(|| Failure::new(StatusCode::FORBIDDEN, "a project is not moved"))?;
    let drive = &call.service.drive;
    let target = if ends.replaces { Some(drive.lookup(ends.to.0, &ends.to.1)?.id) } else { None };
    // A folder that holds the source would go with all it holds, the source too.
    if target.map_or(Ok(false), |target| holds(call, target, from.0))? {
        return Err(Failure::new(StatusCode::FORBIDDEN, "Destination holds the source"));
    }
    let source = ends.source.node.id;
    let renamed = if target == Some(source) {
        drive.join(&call.actor(), source, from, ends.to, ends.expect)
    } else {
        drive.rename(&call.actor(), from, ends.to, replace, ends.expect)
    };
    renamed.map_err(|error| refused(error, replace))?;
    answer(call, to, ends.replaces, ends.source.node.is_folder())
}

fn holds(call: &Call, above: NodeId, folder: NodeId) -> Result<bool> {
    let mut at = folder;
    while at != above {
        if at == NodeId::ROOT {
            return Ok(false);
        }
        at = call.service.drive.node(at)?.parent;
    }
    Ok(true)
}

fn answer(call: &Call, to: &Place, replaced: bool, folder: bool) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(Body::empty());
    if replaced {
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    *response.status_mut() = StatusCode::CREATED;
    let settings = &call.service.settings;
    let href = to.href(&settings.prefix, &settings.projects, folder);
    response.headers_mut().insert(header::LOCATION, value(href)?);
    Ok(response)
}
