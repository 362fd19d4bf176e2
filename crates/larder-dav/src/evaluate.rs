//! Whether the conditions of a request hold: RFC 9110 § 13.2.2 in its order, with the If header of RFC 4918 in front.

use crate::call::Call;
use crate::conditions::{Compare, Conditions, etag};
use crate::failure::Failure;
use crate::if_header::Test;
use crate::path::{Last, Spot};
use http::{Method, StatusCode, header};
use larder_core::{NodeId, Result};

impl Conditions {
    /// Checks everything against what the request's URL names.
    ///
    /// # Errors
    /// 412, or 304 for GET and HEAD; those of the catalog.
    pub(crate) fn check(&self, call: &Call, spot: &Spot) -> Result<(), Failure> {
        if !self.if_lists.is_empty() && !self.any_list_holds(call, spot)? {
            return Err(precondition("If"));
        }
        let node = match spot {
            Spot::Known(found) => Some(&found.node),
            Spot::Top | Spot::Free { .. } | Spot::Nowhere => None,
        };
        let exists = matches!(spot, Spot::Known(_) | Spot::Top);
        let tag = node.and_then(etag);
        let reads = matches!(call.method(), &Method::GET | &Method::HEAD);
        if let Some(wanted) = &self.if_match {
            if !wanted.holds(exists, tag.as_deref(), Compare::Strong) {
                return Err(precondition("If-Match"));
            }
        } else if let (Some(since), Some(node)) = (self.if_unmodified_since, node)
            && node.mtime.secs() > since.secs()
        {
            return Err(precondition("If-Unmodified-Since"));
        }
        if let Some(unwanted) = &self.if_none_match {
            if unwanted.holds(exists, tag.as_deref(), Compare::Weak) {
                return Err(if reads { not_modified(tag) } else { precondition("If-None-Match") });
            }
        } else if let (Some(since), Some(node), true) = (self.if_modified_since, node, reads)
            && node.mtime.secs() <= since.secs()
        {
            return Err(not_modified(tag));
        }
        Ok(())
    }

    fn any_list_holds(&self, call: &Call, own: &Spot) -> Result<bool, Failure> {
        for list in &self.if_lists {
            let tagged;
            let spot = match &list.tag {
                None => Some(own),
                Some(url) => {
                    tagged = call.same_server(url).and_then(|place| {
                        place.spot(&call.service.drive, &call.service.settings.projects, Last::Follow).ok()
                    });
                    tagged.as_ref()
                }
            };
            let Some(spot) = spot else { continue };
            let mut holds = true;
            for condition in &list.conditions {
                holds &= matches(call, spot, &condition.test)? != condition.not;
            }
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Says whether the resource is in the state that `test` names. Source: RFC 4918 § 10.4.4.
fn matches(call: &Call, spot: &Spot, test: &Test) -> Result<bool, Failure> {
    match test {
        Test::Tag(wanted) => Ok(match spot {
            Spot::Known(found) => etag(&found.node).is_some_and(|tag| tag == *wanted),
            Spot::Top | Spot::Free { .. } | Spot::Nowhere => false,
        }),
        Test::Token(token) => {
            let drive = &call.service.drive;
            let covering = |node: NodeId, deep_only: bool| -> Result<bool> {
                let locks = drive.locks().covering(drive, node)?;
                Ok(locks.iter().any(|lock| lock.token == *token && (lock.deep || !deep_only)))
            };
            Ok(match spot {
                Spot::Known(found) => covering(found.node.id, false)?,
                Spot::Free { parent, .. } => covering(*parent, true)?,
                Spot::Top | Spot::Nowhere => false,
            })
        }
    }
}

fn precondition(header: &str) -> Failure {
    Failure::new(StatusCode::PRECONDITION_FAILED, format!("{header} does not hold"))
}

fn not_modified(tag: Option<String>) -> Failure {
    let failure = Failure::new(StatusCode::NOT_MODIFIED, "not modified");
    match tag.and_then(|tag| tag.try_into().ok()) {
        Some(tag) => failure.header(header::ETAG, tag),
        None => failure,
    }
}
