//! Steps of a device's entries, in JSON.

use super::text::{base64_of, bytes_of, id_of, name_of, number, strange, text_of};
use super::{WireHead, WireNode};
use crate::catalog::{Attrs, Entry, Removal, STEPS_MAX, Spot, Step};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use larder_core::{Head, NodeId, OpId, Result, Timestamp, XATTR_MAX_BYTES, XATTR_NAME_MAX_BYTES};
use serde::{Deserialize, Serialize};

/// An [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntryOf {
    /// [`Entry::op_id`], 32 hexadecimal digits.
    pub op: String,
    /// Its steps.
    pub steps: Vec<WireStep>,
}

/// A folder and a name in it, and what it names where that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSpot {
    /// The folder, decimal.
    pub parent: String,
    /// The name.
    pub name: String,
    /// What it names, decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// What must be at a name that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireOver {
    /// The node, decimal.
    pub node: String,
    /// What that file must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<WireHead>,
}

/// A [`Step`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are those of Step")]
pub enum WireStep {
    Create {
        at: WireSpot,
        node: Box<WireNode>,
    },
    Content {
        node: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<WireHead>,
        file: WireHead,
        mtime: String,
    },
    Attrs {
        node: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        atime: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtime: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        btime: Option<String>,
    },
    Xattr {
        node: String,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    Link {
        node: String,
        at: WireSpot,
    },
    Unlink {
        at: WireSpot,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<WireHead>,
        what: WireRemoval,
    },
    Rename {
        from: WireSpot,
        to: WireSpot,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<WireOver>,
    },
    Exchange {
        a: WireSpot,
        b: WireSpot,
    },
    Undelete {
        node: String,
        to: WireSpot,
    },
}

/// A [`Removal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "those of Removal")]
pub enum WireRemoval {
    File,
    Folder,
    Tree,
}

impl WireEntryOf {
    /// Describes `entry`.
    pub fn new(entry: &Entry) -> Self {
        let steps = entry.steps.iter().map(WireStep::new).collect();
        Self { op: format!("{:032x}", entry.op_id.0), steps }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Corrupt` for anything that no device of ours would send.
    pub fn read(&self) -> Result<Entry> {
        let is_id = self.op.len() == 32 && self.op.bytes().all(|digit| digit.is_ascii_hexdigit());
        let id = u128::from_str_radix(&self.op, 16).ok().filter(|_| is_id);
        let op_id = OpId(id.ok_or_else(|| strange("no id of an operation"))?);
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(strange("an entry of no steps, or too many"));
        }
        Ok(Entry { op_id, steps: self.steps.iter().map(WireStep::read).collect::<Result<_>>()? })
    }
}

impl WireSpot {
    fn new((parent, name): &Spot, node: Option<NodeId>) -> Self {
        let node = node.map(|node| node.to_string());
        Self { parent: parent.to_string(), name: text_of(name.as_bytes()), node }
    }

    fn read(&self) -> Result<Spot> {
        Ok((id_of(&self.parent)?, name_of(&self.name)?))
    }

    fn node(&self) -> Result<NodeId> {
        id_of(self.node.as_deref().ok_or_else(|| strange("a name without its node"))?)
    }
}

fn head(wire: &Option<WireHead>) -> Result<Option<Head>> {
    wire.as_ref().map(WireHead::read).transpose()
}

fn time(text: &Option<String>) -> Result<Option<Timestamp>> {
    text.as_deref().map(|text| number(text).map(Timestamp)).transpose()
}

impl WireStep {
    /// Describes `step`.
    pub fn new(step: &Step) -> Self {
        let was = |head: &Option<Head>| head.as_ref().map(WireHead::new);
        let nanos = |time: Option<Timestamp>| time.map(|time| time.0.to_string());
        match step {
            Step::Create { at, node } => WireStep::Create {
                at: WireSpot::new(at, None),
                node: Box::new(WireNode::new(&node.node, &node.xattrs)),
            },
            Step::Content { node, was: before, head, mtime } => WireStep::Content {
                node: node.to_string(),
                was: was(before),
                file: WireHead::new(head),
                mtime: mtime.0.to_string(),
            },
            Step::Attrs { node, attrs } => WireStep::Attrs {
                node: node.to_string(),
                mode: attrs.mode,
                uid: attrs.uid,
                gid: attrs.gid,
                atime: nanos(attrs.atime),
                mtime: nanos(attrs.mtime),
                btime: nanos(attrs.btime),
            },
            Step::Xattr { node, name, value } => WireStep::Xattr {
                node: node.to_string(),
                name: text_of(name),
                value: value.as_ref().map(|value| STANDARD.encode(value)),
            },
            Step::Link { node, at } => WireStep::Link { node: node.to_string(), at: WireSpot::new(at, None) },
            Step::Unlink { at, node, was: before, what } => WireStep::Unlink {
                at: WireSpot::new(at, Some(*node)),
                was: was(before),
                what: match what {
                    Removal::File => WireRemoval::File,
                    Removal::Folder => WireRemoval::Folder,
                    Removal::Tree => WireRemoval::Tree,
                },
            },
            Step::Rename { node, from, to, over } => WireStep::Rename {
                from: WireSpot::new(from, Some(*node)),
                to: WireSpot::new(to, None),
                over: over.as_ref().map(|(node, head)| WireOver { node: node.to_string(), was: was(head) }),
            },
            Step::Exchange { a, b } => {
                WireStep::Exchange { a: WireSpot::new(&a.0, Some(a.1)), b: WireSpot::new(&b.0, Some(b.1)) }
            }
            Step::Undelete { node, to } => {
                WireStep::Undelete { node: node.to_string(), to: WireSpot::new(to, None) }
            }
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Corrupt` for anything that no device of ours would send.
    pub fn read(&self) -> Result<Step> {
        Ok(match self {
            WireStep::Create { at, node } => {
                let node = node.read()?;
                if node.node.id == NodeId::ROOT {
                    return Err(strange("a second root"));
                }
                Step::Create { at: at.read()?, node: Box::new(node) }
            }
            WireStep::Content { node, was, file, mtime } => Step::Content {
                node: id_of(node)?,
                was: head(was)?,
                head: file.read()?,
                mtime: Timestamp(number(mtime)?),
            },
            WireStep::Attrs { node, mode, uid, gid, atime, mtime, btime } => {
                let (uid, gid) = (*uid, *gid);
                let mode = mode.map(|mode| mode & 0o7777);
                let (atime, mtime, btime) = (time(atime)?, time(mtime)?, time(btime)?);
                Step::Attrs { node: id_of(node)?, attrs: Attrs { mode, uid, gid, atime, mtime, btime } }
            }
            WireStep::Xattr { node, name, value } => {
                let (name, value) = (bytes_of(name)?, value.as_deref().map(base64_of).transpose()?);
                let is_one = (1..=XATTR_NAME_MAX_BYTES).contains(&name.len())
                    && value.as_ref().is_none_or(|value| value.len() <= XATTR_MAX_BYTES);
                if !is_one {
                    return Err(strange("no attribute"));
                }
                Step::Xattr { node: id_of(node)?, name, value }
            }
            WireStep::Link { node, at } => Step::Link { node: id_of(node)?, at: at.read()? },
            WireStep::Unlink { at, was, what } => Step::Unlink {
                at: at.read()?,
                node: at.node()?,
                was: head(was)?,
                what: match what {
                    WireRemoval::File => Removal::File,
                    WireRemoval::Folder => Removal::Folder,
                    WireRemoval::Tree => Removal::Tree,
                },
            },
            WireStep::Rename { from, to, over } => Step::Rename {
                node: from.node()?,
                from: from.read()?,
                to: to.read()?,
                over: over.as_ref().map(|over| Ok((id_of(&over.node)?, head(&over.was)?))).transpose()?,
            },
            WireStep::Exchange { a, b } => {
                Step::Exchange { a: (a.read()?, a.node()?), b: (b.read()?, b.node()?) }
            }
            WireStep::Undelete { node, to } => Step::Undelete { node: id_of(node)?, to: to.read()? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Described;
    use larder_core::{Content, Name, Node, NodeKind};

    fn spot(name: &str) -> Spot {
        (NodeId(7), Name::new(name).expect("a name"))
    }

    fn file() -> Box<Described> {
        let node = Node {
            id: NodeId(1 << 40),
            kind: NodeKind::File,
            mode: 0o640,
            uid: 1000,
            gid: 100,
            nlink: 1,
            version: 1,
            atime: Timestamp(1),
            mtime: Timestamp(-2),
            ctime: Timestamp(3),
            btime: Timestamp(4),
            parent: NodeId(7),
            name: Some(spot("a%").1),
            draft: false,
            content: Content::File(Head::default()),
        };
        Box::new(Described { node, xattrs: vec![(b"user.a".to_vec(), vec![255])] })
    }

    fn entry() -> Entry {
        let (node, head, was) = (NodeId(9), Head::default(), Some(Head::default()));
        let attrs = Attrs { mode: Some(0o600), mtime: Some(Timestamp(5)), ..Attrs::default() };
        let steps = vec![
            Step::Create { at: spot("a%"), node: file() },
            Step::Content { node, was: was.clone(), head, mtime: Timestamp(6) },
            Step::Attrs { node, attrs },
            Step::Xattr { node, name: b"user.b".to_vec(), value: None },
            Step::Link { node, at: spot("b") },
            Step::Unlink { at: spot("b"), node, was: was.clone(), what: Removal::Tree },
            Step::Rename { node, from: spot("a"), to: spot("c"), over: Some((NodeId(8), was)) },
            Step::Exchange { a: (spot("c"), node), b: (spot("d"), NodeId(8)) },
            Step::Undelete { node, to: spot("e") },
        ];
        Entry { op_id: OpId(0xab), steps }
    }

    #[test]
    fn an_entry_comes_back() {
        let json = serde_json::to_string(&WireEntryOf::new(&entry())).expect("plain values");
        let back: WireEntryOf = serde_json::from_str(&json).expect("what was written");
        assert_eq!(back.read().expect("an entry"), entry());
    }

    #[test]
    fn steps_are_golden() {
        let steps = WireEntryOf::new(&entry()).steps;
        let json = |at: usize| serde_json::to_string(&steps[at]).expect("plain values");
        let head = r#"{"size":"0","allocated":"0","depth":0,"extents":""}"#;
        assert_eq!(
            json(1),
            format!(r#"{{"content":{{"node":"9","was":{head},"file":{head},"mtime":"6"}}}}"#)
        );
        assert_eq!(json(2), r#"{"attrs":{"node":"9","mode":384,"mtime":"5"}}"#);
        assert_eq!(
            json(6),
            format!(
                r#"{{"rename":{{"from":{{"parent":"7","name":"a","node":"9"}},"to":{{"parent":"7","name":"c"}},"over":{{"node":"8","was":{head}}}}}}}"#
            )
        );
        assert_eq!(
            json(5),
            format!(
                r#"{{"unlink":{{"at":{{"parent":"7","name":"b","node":"9"}},"was":{head},"what":"tree"}}}}"#
            )
        );
    }

    #[test]
    fn what_no_device_sends_is_no_entry() {
        let good = WireEntryOf::new(&entry());
        let bad: [fn(&mut WireEntryOf); 6] = [
            |e| e.op = "x".repeat(32),
            |e| e.op.truncate(31),
            |e| e.steps.clear(),
            |e| e.steps = vec![e.steps[2].clone(); STEPS_MAX + 1],
            |e| match &mut e.steps[4] {
                WireStep::Link { at, .. } => at.name = "..".into(),
                _ => unreachable!("the fifth step links"),
            },
            |e| match &mut e.steps[5] {
                WireStep::Unlink { at, .. } => at.node = None,
                _ => unreachable!("the sixth step unlinks"),
            },
        ];
        for spoil in bad {
            let mut entry = good.clone();
            spoil(&mut entry);
            assert_eq!(entry.read().expect_err("spoiled").kind(), larder_core::Kind::Corrupt, "{entry:?}");
        }
    }
}
