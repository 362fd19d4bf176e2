//! A folder as a page for a browser: plain, escaped, as long as the folder is.

use crate::body::{Batches, Body};
use crate::call::Call;
use crate::path::Place;
use crate::walk::Walk;
use crate::xml::escape;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response};
use larder_core::{Node, Result};
use std::collections::VecDeque;

/// The page of `folder`, or of the list of projects.
pub(crate) fn page(call: &Call, folder: Option<&Node>) -> Response<Body> {
    let settings = &call.service.settings;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("content-security-policy", HeaderValue::from_static("default-src 'none'"));
    if call.method() == Method::HEAD {
        return response;
    }
    let name = call.place.name(&settings.projects);
    let title = name.map_or("Projects".to_owned(), |name| escape(&name.to_string_lossy()));
    let href = call.place.href(&settings.prefix, &settings.projects, true);
    let mut head = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body><h1>{title}</h1><ul>\n"
    );
    let (Some(folder), Place::In { project, .. }) = (folder, &call.place) else {
        for (index, project) in settings.projects.iter().enumerate() {
            let place = Place::In { project: index, path: Default::default(), slash: true };
            let href = place.href(&settings.prefix, &settings.projects, true);
            let href = String::from_utf8_lossy(&href).into_owned();
            head.push_str(&format!(
                "<li><a href=\"{href}\">{}/</a>\n",
                escape(&project.name.to_string_lossy())
            ));
        }
        head.push_str(TAIL);
        *response.body_mut() = Body::whole(head.into());
        return response;
    };
    let root = settings.projects[*project].root;
    head.push_str("<li><a href=\"../\">../</a>\n");
    let walk = Walk::new(call.service.drive.clone(), root, folder.id, href, false);
    *response.body_mut() = Body::feed(call.service.gate.clone(), Page { head: Some(head), walk }, None);
    response
}

const TAIL: &str = "</ul></body></html>\n";

struct Page {
    head: Option<String>,
    walk: Walk,
}

impl Batches for Page {
    fn next(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool> {
        let mut out = self.head.take().unwrap_or_default().into_bytes();
        let more = self.walk.page(|entry| {
            let slash = if entry.node.is_folder() { "/" } else { "" };
            out.extend_from_slice(b"<li><a href=\"");
            out.extend_from_slice(entry.folder);
            crate::path::encode(entry.name.as_bytes(), &mut out);
            let label = escape(&entry.name.to_string_lossy());
            out.extend_from_slice(format!("{slash}\">{label}{slash}</a>\n").as_bytes());
            Ok(())
        })?;
        if !more {
            out.extend_from_slice(TAIL.as_bytes());
        }
        into.push_back(out.into());
        Ok(more)
    }
}
