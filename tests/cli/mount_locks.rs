//! One server, two doors: what is in use in its mount answers 423, and what is locked over WebDAV is busy in its mount.

use crate::support::http::{Answer, Client};
use crate::support::server::Place;
use crate::support::{lacking, skip};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Result;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

const EXCLUSIVE: &[u8] = br#"<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype></D:lockinfo>"#;
const PROPERTY: &[u8] =
    br#"<D:propertyupdate xmlns:D="DAV:" xmlns:c="urn:c"><D:set><D:prop><c:color>blue</c:color>
</D:prop></D:set></D:propertyupdate>"#;

/// A request: method, path, headers, body.
type Request = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [u8]);

/// A way to have a file in use, and what is refused meanwhile.
type Hold<'a> = (&'static str, &'a dyn Fn() -> File, Vec<Request>);
/// A call on a file of the mount.
type Step = (&'static str, fn(&Path) -> Result<()>);

/// What changes the content, the name or the existence of `d/f`. `/dav/home/new` is taken by nobody.
const CHANGES: [Request; 7] = [
    ("LOCK", "/dav/home/d/f", &[("Timeout", "Second-60")], EXCLUSIVE),
    ("PUT", "/dav/home/d/f", &[], b"from WebDAV"),
    ("PUT", "/dav/home/d/f", &[("Content-Range", "bytes 0-0/*")], b"F"),
    ("MOVE", "/dav/home/d/f", &[("Destination", "/dav/home/new")], b""),
    ("MOVE", "/dav/home/other", &[("Destination", "/dav/home/d/f"), ("Overwrite", "T")], b""),
    ("COPY", "/dav/home/other", &[("Destination", "/dav/home/d/f"), ("Overwrite", "T")], b""),
    ("DELETE", "/dav/home/d/f", &[], b""),
];
/// What takes the folder of `d/f` away.
const FOLDER: [Request; 2] =
    [("MOVE", "/dav/home/d", &[("Destination", "/dav/home/new")], b""), ("DELETE", "/dav/home/d", &[], b"")];

fn send(client: &mut Client, request: Request) -> Answer {
    let (method, path, headers, body) = request;
    client.send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
}

/// Puts `d/f` and `other`, and nothing else.
fn prepare(client: &mut Client) {
    for gone in ["/dav/home/d", "/dav/home/new", "/dav/home/other"] {
        let answer = once_free(client, ("DELETE", gone, &[], b""));
        assert!([204, 404].contains(&answer.status), "DELETE {gone}: {} {}", answer.status, answer.text());
    }
    client.ok("MKCOL", "/dav/home/d", &[], b"");
    client.ok("PUT", "/dav/home/d/f", &[], b"first");
    client.ok("PUT", "/dav/home/other", &[], b"other");
}

/// Sends a request until nothing holds the file: the server hears of the last close after close(2) returned.
#[track_caller]
fn once_free(client: &mut Client, request: Request) -> Answer {
    let pause = || std::sync::mpsc::channel::<()>().1.recv_timeout(Duration::from_millis(5)).is_ok();
    let answer = (0..1000).map(|_| send(client, request)).find(|answer| answer.status != 423 || pause());
    answer.unwrap_or_else(|| panic!("{request:?}: still 423"))
}

#[test]
fn what_is_in_use_in_the_mount_answers_423() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(300);
    let server = place.start();
    let mut client = server.client();
    let file = place.mount().join("d/f");
    let written = || File::options().read(true).write(true).open(&file).expect("opens");
    let locked = || {
        let file = File::open(&file).expect("opens");
        flock(&file, FlockOperation::NonBlockingLockExclusive).expect("nobody else has it");
        file
    };
    let holds: [Hold<'_>; 2] = [
        ("open for writing", &written, [&CHANGES[..], &FOLDER].concat()),
        ("locked by flock(2)", &locked, CHANGES.to_vec()),
    ];
    for (what, hold, changes) in holds {
        prepare(&mut client);
        let held = hold();
        for request in &changes {
            let answer = send(&mut client, *request);
            assert_eq!(answer.status, 423, "{what}: {request:?}: {}", answer.text());
        }
        // Others read, copy it and note things about it meanwhile.
        assert_eq!(client.ok("GET", "/dav/home/d/f", &[], b"").body, b"first", "{what}");
        client.ok("COPY", "/dav/home/d/f", &[("Destination", "/dav/home/new")], b"");
        let noted = client.ok("PROPPATCH", "/dav/home/d/f", &[], PROPERTY);
        assert!(noted.text().contains("200 OK"), "{what}: {}", noted.text());
        drop(held);
        for request in changes {
            prepare(&mut client);
            drop(hold());
            let answer = once_free(&mut client, request);
            assert!(answer.is_success(), "{what}, once: {request:?}: {}", answer.text());
            if let Some(token) = answer.header("lock-token") {
                client.ok("UNLOCK", request.1, &[("Lock-Token", token)], b"");
            }
        }
    }
    server.stop();
    place.assert_no_panic();
}

/// truncate(2): by path, without an open file.
fn truncate(path: &Path) -> Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL in a path");
    // SAFETY: the path is a C string that lives until the call returns.
    match unsafe { libc::truncate(path.as_ptr(), 1) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// What changes `f` or takes its name.
const STEPS: [Step; 6] = [
    ("open for writing", |f| File::options().write(true).open(f).map(drop)),
    ("open with O_TRUNC", |f| File::options().write(true).truncate(true).open(f).map(drop)),
    ("truncate", truncate),
    ("rename over it", |f| {
        fs::write(f.with_file_name("fresh"), "fresh").and_then(|()| fs::rename(f.with_file_name("fresh"), f))
    }),
    ("rename", |f| fs::rename(f, f.with_file_name("moved"))),
    ("unlink", |f| fs::remove_file(f)),
];

#[test]
fn what_is_locked_over_webdav_is_busy_in_the_mount() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(300);
    let server = place.start();
    let (mut client, file) = (server.client(), place.mount().join("d/f"));
    // A lock of the file, and one of its folder with all that is in it.
    for root in ["/dav/home/d/f", "/dav/home/d"] {
        prepare(&mut client);
        let lock: Request = ("LOCK", root, &[("Timeout", "Second-300"), ("Depth", "infinity")], EXCLUSIVE);
        let answer = once_free(&mut client, lock);
        let token = answer.header("lock-token").expect("a token").to_string();
        for (what, step) in STEPS {
            // In a locked folder nothing new comes up either.
            let refused = step(&file).expect_err(what).raw_os_error();
            assert_eq!(refused, Some(Errno::BUSY.raw_os_error()), "{what}, {root} locked");
        }
        assert_eq!(fs::read(&file).expect("a lock keeps nobody from reading"), b"first");
        // Nor do other clients get in: only who carries the token.
        let property = send(&mut client, ("PROPPATCH", "/dav/home/d/f", &[], PROPERTY));
        assert_eq!(property.status, 423, "{}", property.text());
        let carried = format!("<http://{}{root}> ({token})", server.address());
        client.ok("PUT", "/dav/home/d/f", &[("If", &carried)], b"second");
        assert_eq!(fs::read(&file).expect("read"), b"second");
        client.ok("UNLOCK", root, &[("Lock-Token", &token)], b"");
        for (what, step) in STEPS {
            fs::write(&file, "text").unwrap_or_else(|e| panic!("a file again before {what}: {e}"));
            step(&file).unwrap_or_else(|e| panic!("{what}, {root} unlocked: {e}"));
        }
    }
    server.stop();
    place.assert_no_panic();
}
