//! URLs and what they name: percent-encoding, projects, and the walk through folders and symlinks.
//!
//! A path is parsed once, here; `..`, `%2f` and NUL never get behind it. Symlinks are followed inside the project, at
//! most [`LINKS_MAX`] of them: an absolute target starts at the project's root and `..` stops there. A link that leads
//! nowhere answers 404 and is left out of listings.

use crate::failure::Failure;
use http::Uri;
use larder_core::{Content, DrivePath, Error, Kind, Name, Node, NodeId, NodeKind, Result};
use larder_drive::Drive;

/// The most symlinks on the way to one node. Source: path_resolution(7), MAXSYMLINKS.
pub(crate) const LINKS_MAX: usize = 40;

/// A folder of the server's top level.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name in URLs.
    pub name: Name,
    /// The folder it shows.
    pub root: NodeId,
}

/// What a URL names, by name only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The list of projects.
    Top,
    /// Something in the project with this index.
    In { project: usize, path: DrivePath, slash: bool },
}

/// What a URL names, looked up.
#[derive(Clone, Debug)]
pub(crate) enum Spot {
    /// The list of projects.
    Top,
    /// A node.
    Known(Found),
    /// Nothing yet; its folder exists.
    Free { parent: NodeId, name: Name },
    /// Nothing, in a folder that does not exist either.
    Nowhere,
}

/// A node and the name it was found under.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub node: Node,
    /// Folder and name; `None` for the root of a project.
    pub entry: Option<(NodeId, Name)>,
}

impl Found {
    pub(crate) fn is_root(&self) -> bool {
        self.entry.is_none()
    }
}

/// Whether a symlink at the end of a path stands for itself or for its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// The target: reading and writing.
    Follow,
    /// The link: DELETE, MOVE.
    Keep,
}

/// Says whether clients may see a node of this kind.
pub(crate) fn is_shown(kind: NodeKind) -> bool {
    matches!(kind, NodeKind::File | NodeKind::Folder)
}

/// Reads the path of `uri` below `prefix`.
///
/// # Errors
/// 400 for a path that is none; 404 outside of `prefix` and for unknown projects.
pub(crate) fn parse(uri: &Uri, prefix: &str, projects: &[Project]) -> Result<Place, Failure> {
    let rest = uri.path().strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = rest.ok_or_else(|| Failure::from(Error::not_found(uri.path())))?;
    let mut names = Vec::new();
    for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
        names.push(Name::new(decode(segment.as_bytes())?)?);
    }
    let mut names = names.into_iter();
    let Some(first) = names.next() else { return Ok(Place::Top) };
    let project = projects.iter().position(|project| project.name == first);
    let project = project.ok_or_else(|| Failure::from(Error::not_found(format!("project {first}"))))?;
    // Joined and parsed again for the limit on depth.
    let joined = names.as_slice().iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/');
    Ok(Place::In { project, path: DrivePath::parse(joined)?, slash: rest.ends_with('/') })
}

/// Decodes `%41` to `A`; every other byte stays as it is.
///
/// # Errors
/// `Invalid` for `%` without two hexadecimal digits.
pub(crate) fn decode(encoded: &[u8]) -> Result<Vec<u8>> {
    let digit = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(Error::invalid("percent sign without two hexadecimal digits"));
        };
        out.push((high * 16 + low) as u8);
    }
    Ok(out)
}

/// Adds `name` percent-encoded: all but the unreserved characters. Source: RFC 3986 § 2.3.
pub(crate) fn encode(name: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in name {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

impl Place {
    /// The canonical URL path, with a slash at the end if `folder`.
    pub(crate) fn href(&self, prefix: &str, projects: &[Project], folder: bool) -> Vec<u8> {
        let mut out = prefix.as_bytes().to_vec();
        if let Place::In { project, path, .. } = self {
            for name in [&projects[*project].name].into_iter().chain(path.names()) {
                out.push(b'/');
                encode(name.as_bytes(), &mut out);
            }
        }
        if folder {
            out.push(b'/');
        }
        out
    }

    /// The last name of the URL.
    pub(crate) fn name(&self, projects: &[Project]) -> Option<Name> {
        match self {
            Place::Top => None,
            Place::In { project, path, .. } => {
                Some(path.names().last().unwrap_or(&projects[*project].name).clone())
            }
        }
    }

    /// Looks the place up.
    ///
    /// # Errors
    /// Those of the catalog; what does not exist is no error.
    pub(crate) fn spot(&self, drive: &Drive, projects: &[Project], last: Last) -> Result<Spot> {
        match self {
            Place::Top => Ok(Spot::Top),
            Place::In { project, path, .. } => walk(drive, projects[*project].root, path.names(), last),
        }
    }
}

enum Step {
    Up,
    Root,
    Into(Name),
}

/// Follows `names` from `root`.
///
/// # Errors
/// Those of the catalog, and `NotFound` for a loop of symlinks.
pub(crate) fn walk(drive: &Drive, root: NodeId, names: &[Name], last: Last) -> Result<Spot> {
    take_steps(drive, root, root, names, last)
}

/// Follows `name` in `folder` of the project at `root` to what it stands for.
///
/// # Errors
/// Those of [`walk`].
pub(crate) fn walk_from(drive: &Drive, root: NodeId, folder: NodeId, name: &Name) -> Result<Spot> {
    take_steps(drive, root, folder, std::slice::from_ref(name), Last::Follow)
}

fn take_steps(drive: &Drive, root: NodeId, from: NodeId, names: &[Name], last: Last) -> Result<Spot> {
    let catalog = drive.catalog();
    let mut pending: Vec<Step> = names.iter().rev().cloned().map(Step::Into).collect();
    let mut at = from;
    let mut entry = None;
    let mut links = 0;
    while let Some(step) = pending.pop() {
        let name = match step {
            Step::Root => {
                (at, entry) = (root, None);
                continue;
            }
            Step::Up => {
                let folder = catalog.node(at)?;
                at = if at == root { root } else { folder.parent };
                entry = None;
                continue;
            }
            Step::Into(name) => name,
        };
        let node = match catalog.lookup(at, &name) {
            Ok(node) if !node.draft => node,
            Ok(_) => return Ok(nothing(at, name, &pending)),
            Err(error) if error.kind() == Kind::NotFound => return Ok(nothing(at, name, &pending)),
            Err(error) if error.kind() == Kind::NotADirectory => return Ok(Spot::Nowhere),
            Err(error) => return Err(error),
        };
        let ends = pending.is_empty();
        match &node.content {
            Content::Target(target) if !ends || last == Last::Follow => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::not_found(format!("{name}: more than {LINKS_MAX} symbolic links")));
                }
                follow(target, &mut pending)?;
            }
            _ if ends => return Ok(Spot::Known(Found { node, entry: Some((at, name)) })),
            _ if node.kind == NodeKind::Folder => {
                entry = Some((at, name));
                at = node.id;
            }
            _ => return Ok(Spot::Nowhere),
        }
    }
    let node = catalog.node(at)?;
    if at == root {
        return Ok(Spot::Known(Found { node, entry: None }));
    }
    // A path that ended in `..` of a symlink: the folder's own name is its entry.
    let entry = entry.or_else(|| Some((node.parent, node.name.clone()?)));
    Ok(Spot::Known(Found { node, entry }))
}

fn nothing(parent: NodeId, name: Name, pending: &[Step]) -> Spot {
    if pending.is_empty() { Spot::Free { parent, name } } else { Spot::Nowhere }
}

fn follow(target: &[u8], pending: &mut Vec<Step>) -> Result<()> {
    for part in target.rsplit(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => pending.push(Step::Up),
            _ => pending.push(Step::Into(Name::new(part)?)),
        }
    }
    if target.starts_with(b"/") {
        pending.push(Step::Root);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projects() -> Vec<Project> {
        vec![Project { name: Name::new("home").expect("a name"), root: NodeId::ROOT }]
    }

    fn place(path: &str) -> Result<Place, Failure> {
        parse(&path.parse().expect("a URI"), "/dav", &projects())
    }

    #[test]
    fn hostile_paths_are_refused() {
        for bad in [
            "/dav/home/../x",
            "/dav/home/%2e%2e/x",
            "/dav/home/a%2fb",
            "/dav/home/a%00b",
            "/dav/home/%zz",
            "/dav/home/%4",
        ] {
            assert_eq!(place(bad).expect_err(bad).status(), 400, "{bad}");
        }
        for outside in ["/", "/davx/home", "/dav/other/x"] {
            assert_eq!(place(outside).expect_err(outside).status(), 404, "{outside}");
        }
    }

    #[test]
    fn every_byte_survives_the_url() {
        let name: Vec<u8> = (1..=254).filter(|byte| *byte != b'/').collect();
        let mut encoded = Vec::new();
        encode(&name, &mut encoded);
        let url = format!("/dav/home/{}/", String::from_utf8(encoded).expect("ASCII"));
        let parsed = place(&url).expect("a place");
        assert_eq!(parsed.name(&projects()).expect("a name").as_bytes(), name);
        assert_eq!(parsed.href("/dav", &projects(), true), url.as_bytes());
    }
}
