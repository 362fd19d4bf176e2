//! Live properties: their names, their values as XML, and which of them a client may set.
//!
//! Sources: RFC 4918 § 15, RFC 4331 (quota), [MS-WDV] § 2.2.10 (Win32 times), Apache mod_dav (executable).

use crate::checksum::{self, OWNCLOUD};
use crate::conditions::etag;
use crate::date;
use crate::get::media_type;
use crate::xml::{PropName, escape};
use larder_core::{Name, Node, Result};
use larder_drive::{Drive, Lock, Usage};

const DAV: &str = "DAV:";
const MICROSOFT: &str = "urn:schemas-microsoft-com:";
const APACHE: &str = "http://apache.org/dav/props/";

/// Declares the prefixes that [`Live::tag`] uses.
pub(crate) const MULTISTATUS: &[u8] =
    b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\" \
xmlns:Z=\"urn:schemas-microsoft-com:\" xmlns:A=\"http://apache.org/dav/props/\" xmlns:O=\"http://owncloud.org/ns\">\n";
/// Ends what [`MULTISTATUS`] began.
pub(crate) const MULTISTATUS_END: &[u8] = b"</D:multistatus>\n";

/// The permission bits that let somebody execute.
pub(crate) const EXECUTE: u16 = 0o111;

macro_rules! live {
    ($($variant:ident $ns:ident $prefix:literal $local:literal;)*) => {
        /// A property that the server computes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Live { $($variant,)* }

        impl Live {
            /// Every one of them.
            pub(crate) const ALL: &[Live] = &[$(Live::$variant,)*];

            /// The property of that name.
            pub(crate) fn of(name: &PropName) -> Option<Live> {
                match (name.ns.as_str(), name.local.as_str()) {
                    $(($ns, $local) => Some(Live::$variant),)*
                    _ => None,
                }
            }

            /// The element's name with a prefix of [`MULTISTATUS`].
            pub(crate) fn tag(self) -> &'static str {
                match self { $(Live::$variant => concat!($prefix, ":", $local),)* }
            }
        }
    };
}

live! {
    CreationDate DAV "D" "creationdate";
    DisplayName DAV "D" "displayname";
    ContentLength DAV "D" "getcontentlength";
    ContentType DAV "D" "getcontenttype";
    Etag DAV "D" "getetag";
    LastModified DAV "D" "getlastmodified";
    ResourceType DAV "D" "resourcetype";
    SupportedLock DAV "D" "supportedlock";
    LockDiscovery DAV "D" "lockdiscovery";
    QuotaAvailable DAV "D" "quota-available-bytes";
    QuotaUsed DAV "D" "quota-used-bytes";
    IsCollection DAV "D" "iscollection";
    WinCreation MICROSOFT "Z" "Win32CreationTime";
    WinModified MICROSOFT "Z" "Win32LastModifiedTime";
    WinAccess MICROSOFT "Z" "Win32LastAccessTime";
    WinAttributes MICROSOFT "Z" "Win32FileAttributes";
    Executable APACHE "A" "executable";
    Checksums OWNCLOUD "O" "checksums";
}

/// What allprop answers. Sources: RFC 4918 § 9.1.5 and § 15; RFC 4331 § 3 keeps quota out of it.
pub(crate) const ALLPROP: &[Live] = &[
    Live::CreationDate,
    Live::DisplayName,
    Live::ContentLength,
    Live::ContentType,
    Live::Etag,
    Live::LastModified,
    Live::ResourceType,
    Live::SupportedLock,
    Live::LockDiscovery,
];

/// What allprop answers to Explorer besides, which asks for nothing by name.
pub(crate) const ALLPROP_WINDOWS: &[Live] =
    &[Live::WinCreation, Live::WinModified, Live::WinAccess, Live::WinAttributes];

const SUPPORTED_LOCK: &[u8] = b"<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>\
</D:locktype></D:lockentry><D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>";

/// The stored name of Win32FileAttributes, which has no place in a node.
pub(crate) fn attributes_name() -> PropName {
    PropName { ns: MICROSOFT.to_owned(), local: "Win32FileAttributes".to_owned() }
}

/// What the values of one answer have in common.
pub(crate) struct Values<'a> {
    pub drive: &'a Drive,
    pub usage: Option<Usage>,
    /// Writes the href of a lock's root.
    pub lock_root: &'a dyn Fn(&Lock, &mut Vec<u8>),
}

impl Values<'_> {
    /// Adds the property of `node` as an element; `false` where the node does not have it.
    pub(crate) fn write(
        &self,
        live: Live,
        node: &Node,
        name: Option<&Name>,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let mark = out.len();
        let tag = live.tag().as_bytes();
        out.push(b'<');
        out.extend_from_slice(tag);
        out.push(b'>');
        if !self.value(live, node, name, out)? {
            out.truncate(mark);
            return Ok(false);
        }
        out.extend_from_slice(b"</");
        out.extend_from_slice(tag);
        out.push(b'>');
        Ok(true)
    }

    fn value(&self, live: Live, node: &Node, name: Option<&Name>, out: &mut Vec<u8>) -> Result<bool> {
        match live {
            Live::CreationDate => date::rfc3339(out, node.btime),
            Live::LastModified | Live::WinModified => date::http(out, node.mtime),
            Live::WinCreation => date::http(out, node.btime),
            Live::WinAccess => date::http(out, node.atime),
            Live::WinAttributes => out.extend_from_slice(&attributes(self.drive, node)),
            Live::DisplayName => display_name(name, out),
            Live::ResourceType if node.is_folder() => out.extend_from_slice(b"<D:collection/>"),
            Live::ResourceType => {}
            Live::IsCollection => out.push(if node.is_folder() { b'1' } else { b'0' }),
            Live::SupportedLock => out.extend_from_slice(SUPPORTED_LOCK),
            Live::LockDiscovery => {
                for lock in self.drive.locks().covering(self.drive, node.id)? {
                    self.active_lock(&lock, out);
                }
            }
            Live::QuotaUsed | Live::QuotaAvailable => {
                let (Some(usage), true) = (self.usage, node.is_folder()) else { return Ok(false) };
                let used = live == Live::QuotaUsed;
                number(out, if used { usage.used_bytes } else { usage.available_bytes });
            }
            Live::ContentLength | Live::ContentType | Live::Etag | Live::Executable if !node.is_file() => {
                return Ok(false);
            }
            Live::ContentLength => number(out, node.size_bytes()),
            Live::ContentType => {
                let name = name.map_or(Default::default(), Name::to_string_lossy);
                out.extend_from_slice(media_type(&name).as_bytes());
            }
            Live::Etag => out.extend_from_slice(etag(node).unwrap_or_default().as_bytes()),
            Live::Checksums => match checksum::kept(self.drive, node) {
                Some(kept) => {
                    out.extend_from_slice(format!("<O:checksum>{}</O:checksum>", escape(&kept)).as_bytes());
                }
                None => return Ok(false),
            },
            Live::Executable => out.push(if node.mode & EXECUTE == 0 { b'F' } else { b'T' }),
        }
        Ok(true)
    }

    /// Source: RFC 4918 § 14.1.
    fn active_lock(&self, lock: &Lock, out: &mut Vec<u8>) {
        let scope = if lock.shared { "shared" } else { "exclusive" };
        let depth = if lock.deep { "infinity" } else { "0" };
        let left_ns = lock.expires.0.saturating_sub(self.drive.now().0).max(0);
        let text = format!(
            "<D:activelock><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype>\
             <D:depth>{depth}</D:depth>{}<D:timeout>Second-{}</D:timeout>\
             <D:locktoken><D:href>{}</D:href></D:locktoken><D:lockroot><D:href>",
            lock.owner_xml,
            left_ns / 1_000_000_000,
            escape(&lock.token)
        );
        out.extend_from_slice(text.as_bytes());
        (self.lock_root)(lock, out);
        out.extend_from_slice(b"</D:href></D:lockroot></D:activelock>");
    }
}

fn display_name(name: Option<&Name>, out: &mut Vec<u8>) {
    let Some(name) = name else { return };
    let bytes = name.as_bytes();
    if bytes.iter().all(|byte| (0x20..0x7f).contains(byte) && !b"&<>\"".contains(byte)) {
        out.extend_from_slice(bytes);
    } else {
        out.extend_from_slice(escape(&name.to_string_lossy()).as_bytes());
    }
}

/// What was set, or FILE_ATTRIBUTE_DIRECTORY and FILE_ATTRIBUTE_ARCHIVE. Source: [MS-FSCC] § 2.6.
fn attributes(drive: &Drive, node: &Node) -> Vec<u8> {
    let stored = drive.catalog().xattr(node.id, &crate::dead::key(&attributes_name()));
    stored.unwrap_or_else(|_| if node.is_folder() { b"00000010".to_vec() } else { b"00000020".to_vec() })
}

fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The element without content, declaring its own namespace: how an answer names a property.
pub(crate) fn empty_element(name: &PropName) -> String {
    match Live::of(name) {
        Some(live) => format!("<{}/>", live.tag()),
        None if name.ns.is_empty() => format!("<{} xmlns=\"\"/>", name.local),
        None => format!("<x:{} xmlns:x=\"{}\"/>", name.local, escape(&name.ns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 7, 10, 1_234_567, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }

    #[test]
    fn names_are_found_again() {
        for live in Live::ALL {
            let (prefix, local) = live.tag().split_once(':').expect("a prefix");
            let ns = match prefix {
                "D" => DAV,
                "Z" => MICROSOFT,
                "O" => OWNCLOUD,
                _ => APACHE,
            };
            assert_eq!(Live::of(&PropName { ns: ns.to_owned(), local: local.to_owned() }), Some(*live));
        }
    }
}
