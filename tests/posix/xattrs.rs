//! Extended attributes.

use crate::support::mount::TestMount;
use rustix::fs::{XattrFlags, getxattr, lgetxattr, listxattr, lsetxattr, removexattr, setxattr};
use rustix::io::Errno;
use std::fs;
use std::path::Path;

fn value(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; 70_000];
    let len = getxattr(path, name, &mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

fn names(path: &Path) -> Vec<String> {
    let mut bytes = vec![0; 70_000];
    let len = listxattr(path, &mut bytes).expect("listed");
    let names = bytes[..len].split(|b| *b == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// An access control list as setfacl(1) sends one: owner, group and others, each with a tag, rights and no id.
/// Source: include/uapi/linux/posix_acl_xattr.h.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, rights: u16| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &[0xff; 4]].concat();
    [2_u32.to_le_bytes().to_vec(), entry(1, 6), entry(4, 4), entry(32, 4)].concat()
}

#[test]
fn attributes_come_back_as_they_were_set() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "x").expect("written");
    let values = [("user.a", vec![1, 2, 0, 3]), ("user.empty", Vec::new()), ("user.large", vec![7; 65_536])];
    for (name, bytes) in &values {
        setxattr(&path, *name, bytes, XattrFlags::empty()).expect("set");
        assert_eq!(value(&path, name).as_ref(), Ok(bytes), "{name}");
    }
    assert_eq!(names(&path), ["user.a", "user.empty", "user.large"]);
    assert_eq!(setxattr(&path, "user.a", b"", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(setxattr(&path, "user.b", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
    setxattr(&path, "user.a", b"new", XattrFlags::REPLACE).expect("replaced");
    assert_eq!(value(&path, "user.a"), Ok(b"new".to_vec()));
    removexattr(&path, "user.a").expect("removed");
    assert_eq!(removexattr(&path, "user.a"), Err(Errno::NODATA));
    assert_eq!(value(&path, "user.a"), Err(Errno::NODATA));
    fs::rename(&path, mount.path("g")).expect("renamed");
    assert_eq!(names(&mount.path("g")), ["user.empty", "user.large"]);
}

#[test]
fn sizes_are_asked_and_kept() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::create_dir(&path).expect("made");
    setxattr(&path, "user.a", b"12345", XattrFlags::empty()).expect("set");
    let c_path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    let nothing = std::ptr::null_mut();
    // SAFETY: with a size of 0 the calls tell the size and write nothing
    let sizes = unsafe {
        (
            libc::getxattr(c_path.as_ptr(), c"user.a".as_ptr(), nothing, 0),
            libc::listxattr(c_path.as_ptr(), nothing.cast(), 0),
        )
    };
    assert_eq!(sizes, (5, 7));
    assert_eq!(getxattr(&path, "user.a", &mut [0; 4]), Err(Errno::RANGE));
    assert_eq!(listxattr(&path, &mut [0; 3]), Err(Errno::RANGE));
}

#[test]
fn what_is_not_stored_is_refused() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "x").expect("written");
    for name in ["system.posix_acl_access", "system.other"] {
        assert_eq!(value(&path, name), Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(setxattr(&path, name, &acl(), XattrFlags::empty()), Err(Errno::OPNOTSUPP), "{name}");
    }
    // a refusal is for that name only
    setxattr(&path, "user.ok", b"x", XattrFlags::empty()).expect("set");
    std::os::unix::fs::symlink("f", mount.path("l")).expect("made");
    assert_eq!(lsetxattr(mount.path("l"), "user.a", b"x", XattrFlags::empty()), Err(Errno::PERM));
    if crate::support::is_root() {
        lsetxattr(mount.path("l"), "trusted.a", b"x", XattrFlags::empty()).expect("set");
        assert_eq!(lgetxattr(mount.path("l"), "trusted.a", &mut [0; 9]), Ok(1));
        setxattr(&path, "trusted.a", b"x", XattrFlags::empty()).expect("set");
        assert_eq!(names(&path), ["trusted.a", "user.ok"]);
        let nobody = "[ -z \"$(getfattr -n trusted.a f 2>/dev/null)\" ]";
        assert!(crate::as_nobody(&mount, nobody));
    }
}

#[test]
fn tools_can_ask_about_a_file() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "x").expect("written");
    let text = |name: &str| value(&path, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let head = mount.drive().node(mount.node("f")).expect("committed").head().expect("a file").etag();
    assert_eq!(text("user.larder.hash"), Ok(head));
    assert_eq!(text("user.larder.state").as_deref(), Ok("available"));
    assert!(text("user.larder.why").is_ok());
    fs::write(&path, "y").expect("written");
    assert!(text("user.larder.versions").expect("counted").parse::<u32>().expect("a number") >= 1);
    assert_eq!(text("user.larder.none"), Err(Errno::NODATA));
    assert_eq!(setxattr(&path, "user.larder.hash", b"x", XattrFlags::empty()), Err(Errno::PERM));
    assert!(names(&path).is_empty(), "not listed, so that copies do not take them along");
}
