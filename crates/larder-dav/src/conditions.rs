//! What the headers of a conditional request ask to hold; [`crate::evaluate`] finds out whether it does.

use crate::date;
use crate::failure::Failure;
use crate::if_header::{self, Test};
use crate::path::Spot;
use http::header::{self, HeaderMap, HeaderName};
use larder_core::{Head, Node, Result, Timestamp};
use larder_store::Expect;

/// The entity tag of a file with its quotes; folders have none.
pub(crate) fn etag(node: &Node) -> Option<String> {
    node.head().map(tag)
}

/// The entity tag of a content, with its quotes.
pub(crate) fn tag(head: &Head) -> String {
    format!("\"{}\"", head.etag())
}

/// What the headers of a request ask to hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    pub if_lists: Vec<if_header::List>,
    pub if_match: Option<Tags>,
    pub if_none_match: Option<Tags>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    Any,
    /// With quotes, and `W/` where weak.
    List(Vec<String>),
}

impl Conditions {
    /// Reads the headers.
    ///
    /// # Errors
    /// 400 where If, If-Match or If-None-Match break their grammar. Dates that are none count as absent.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut ifs = headers.get_all("if").iter();
        let if_lists = match (ifs.next(), ifs.next()) {
            (None, _) => Vec::new(),
            (Some(value), None) => if_header::parse(value.as_bytes())?,
            (Some(_), Some(_)) => return Err(Failure::bad_request("more than one If header")),
        };
        Ok(Self {
            if_lists,
            if_match: tags(headers, header::IF_MATCH)?,
            if_none_match: tags(headers, header::IF_NONE_MATCH)?,
            if_modified_since: http_date(headers, header::IF_MODIFIED_SINCE),
            if_unmodified_since: http_date(headers, header::IF_UNMODIFIED_SINCE),
        })
    }

    /// The state tokens that the request submits. Source: RFC 4918 § 10.4.1.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.if_lists.iter().flat_map(|list| &list.conditions).filter_map(|condition| match &condition.test {
            Test::Token(token) => Some(token.as_str()),
            Test::Tag(_) => None,
        })
    }

    /// Says whether a condition is about the version of the resource, so that a write has to hold it to its commit.
    fn pins_version(&self) -> bool {
        self.if_match.is_some()
            || self.if_unmodified_since.is_some()
            || self.if_lists.iter().flat_map(|list| &list.conditions).any(|c| matches!(c.test, Test::Tag(_)))
    }

    /// What a commit has to expect so that the conditions hold at that moment too.
    pub(crate) fn expectations(&self, spot: &Spot) -> Vec<Expect> {
        match spot {
            Spot::Known(found) if self.pins_version() => {
                vec![Expect::Version(found.node.id, found.node.version)]
            }
            Spot::Free { parent, name } if self.if_none_match.is_some() => {
                vec![Expect::Name(*parent, name.clone(), None)]
            }
            _ => Vec::new(),
        }
    }
}

/// How entity tags are compared. Source: RFC 9110 § 8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Strong,
    Weak,
}

impl Tags {
    pub(crate) fn holds(&self, exists: bool, tag: Option<&str>, how: Compare) -> bool {
        match (self, tag) {
            (Tags::Any, _) => exists,
            (Tags::List(_), None) => false,
            (Tags::List(list), Some(tag)) => list.iter().any(|wanted| match how {
                Compare::Strong => wanted == tag,
                Compare::Weak => wanted.trim_start_matches("W/") == tag,
            }),
        }
    }
}

fn tags(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Failure> {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        let bad = || Failure::bad_request(format!("{name} is no list of entity tags"));
        let mut rest = value.to_str().map_err(|_| bad())?.trim();
        if rest == "*" {
            return Ok(Some(Tags::Any));
        }
        while !rest.is_empty() {
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => ("W/", quoted),
                None => ("", rest),
            };
            let Some((opaque, after)) = quoted.strip_prefix('"').and_then(|tag| tag.split_once('"')) else {
                // Old clients leave the quotes out: the tag then matches nothing of ours.
                let (bare, after) = rest.split_once(',').unwrap_or((rest, ""));
                if bare.contains('"') {
                    return Err(bad());
                }
                list.push(bare.trim().to_owned());
                rest = after.trim_start();
                continue;
            };
            list.push(format!("{weak}\"{opaque}\""));
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(bad()),
            };
        }
    }
    Ok(headers.contains_key(&name).then_some(Tags::List(list)))
}

fn http_date(headers: &HeaderMap, name: HeaderName) -> Option<Timestamp> {
    date::parse_http(headers.get(name)?.to_str().ok()?)
}

/// Says whether a range may be served although the file may have changed. Source: RFC 9110 § 13.1.5.
pub(crate) fn if_range_holds(headers: &HeaderMap, node: &Node) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    match date::parse_http(value) {
        Some(since) => node.mtime.secs() == since.secs(),
        None => etag(node).is_some_and(|tag| tag == value.trim()),
    }
}
