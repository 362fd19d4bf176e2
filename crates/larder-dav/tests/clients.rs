//! The requests that Explorer, Finder and Office send, in their order, as traces of them show; written anew here.

mod support;

use support::{LOCKINFO, Server};

const EXPLORER: (&str, &str) = ("User-Agent", "Microsoft-WebDAV-MiniRedir/10.0.19045");
const FINDER: (&str, &str) = ("User-Agent", "WebDAVFS/3.0.0 (03008000) Darwin/22.6.0 (x86_64)");
const OFFICE: (&str, &str) = ("User-Agent", "Microsoft Office Word 2014");

#[test]
fn explorer_copies_a_file_in() {
    let server = Server::start();
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![EXPLORER, ("translate", "f")];
        all.extend_from_slice(headers);
        server.send(method, path, &all, body)
    };
    let options = send("OPTIONS", "/dav/home/", &[], "");
    assert_eq!((options.status, options.header("ms-author-via")), (200, Some("DAV")));
    assert!(options.header("dav").expect("classes").contains('2'));
    let root = send("PROPFIND", "/dav/home", &[("Depth", "0")], "");
    assert_eq!(root.element("D:resourcetype").as_deref(), Some("<D:collection/>"));
    let quota = "<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:propfind xmlns:D=\"DAV:\"><D:prop>\
                 <D:quota-available-bytes/><D:quota-used-bytes/></D:prop></D:propfind>";
    assert!(
        send("PROPFIND", "/dav/home", &[("Depth", "0")], quota).element("D:quota-available-bytes").is_some()
    );
    assert_eq!(send("PROPFIND", "/dav/home/a.txt", &[("Depth", "0")], "").status, 404);
    assert_eq!(send("PUT", "/dav/home/a.txt", &[], "").status, 201);
    let locked = send("LOCK", "/dav/home/a.txt", &[("Timeout", "Second-3600")], LOCKINFO);
    assert_eq!(locked.status, 200);
    let token = locked.header("lock-token").expect("a token").to_owned();
    let carried = format!("({token})");
    let times = "<?xml version=\"1.0\" encoding=\"utf-8\" ?><D:propertyupdate xmlns:D=\"DAV:\" xmlns:Z=\"urn:schemas-microsoft-com:\">\
                 <D:set><D:prop><Z:Win32CreationTime>Sun, 06 Nov 1994 08:49:37 GMT</Z:Win32CreationTime>\
                 <Z:Win32LastAccessTime>Sun, 06 Nov 1994 08:49:37 GMT</Z:Win32LastAccessTime>\
                 <Z:Win32LastModifiedTime>Sun, 06 Nov 1994 08:49:37 GMT</Z:Win32LastModifiedTime>\
                 <Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>";
    assert_eq!(send("HEAD", "/dav/home/a.txt", &[], "").status, 200);
    assert_eq!(send("PUT", "/dav/home/a.txt", &[("If", &carried)], "content").status, 204);
    let patched = send("PROPPATCH", "/dav/home/a.txt", &[("If", &carried)], times);
    assert!(patched.status == 207 && !patched.text().contains("HTTP/1.1 4"), "{}", patched.text());
    assert_eq!(send("UNLOCK", "/dav/home/a.txt", &[("Lock-Token", &token)], "").status, 204);
    let listed = send("PROPFIND", "/dav/home", &[("Depth", "1")], "");
    assert!(
        listed.text().contains("<Z:Win32LastModifiedTime>Sun, 06 Nov 1994 08:49:37 GMT<"),
        "{}",
        listed.text()
    );
}

#[test]
fn explorer_makes_a_folder_renames_and_removes_it() {
    let server = Server::start();
    assert_eq!(server.send("MKCOL", "/dav/home/New%20folder", &[EXPLORER], "").status, 201);
    let to = format!("http://{}/dav/home/Photos", server.addr);
    let headers = [EXPLORER, ("Destination", to.as_str()), ("Overwrite", "F")];
    assert_eq!(server.send("MOVE", "/dav/home/New%20folder", &headers, "").status, 201);
    assert_eq!(server.propfind("/dav/home/Photos", "1", "").text().matches("<D:response>").count(), 1);
    assert_eq!(server.send("DELETE", "/dav/home/Photos", &[EXPLORER], "").status, 204);
}

#[test]
fn finder_copies_a_file_in() {
    let server = Server::start();
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![FINDER];
        all.extend_from_slice(headers);
        server.send(method, path, &all, body)
    };
    let stat = "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:propfind xmlns:D=\"DAV:\"><D:prop><D:getlastmodified/>\
                <D:getcontentlength/><D:creationdate/><D:resourcetype/></D:prop></D:propfind>";
    assert_eq!(send("PROPFIND", "/dav/home/", &[("Depth", "0")], stat).status, 207);
    for name in ["._a.txt", ".DS_Store", "._.", ".hidden"] {
        assert_eq!(send("PROPFIND", &format!("/dav/home/{name}"), &[("Depth", "0")], stat).status, 404);
    }
    assert_eq!(send("PUT", "/dav/home/a.txt", &[], "").status, 201);
    let lock = |path: &str| {
        let answer = send("LOCK", path, &[("Depth", "0"), ("Timeout", "Second-600")], LOCKINFO);
        assert_eq!(answer.status, 200);
        answer.header("lock-token").expect("a token").to_owned()
    };
    let token = lock("/dav/home/a.txt");
    let carried = format!("({token})");
    assert_eq!(
        send("PROPFIND", "/dav/home/a.txt", &[("Depth", "0")], stat).element("D:getcontentlength").as_deref(),
        Some("0")
    );
    // Finder streams: no Content-Length, the length in a header of its own.
    let head = format!(
        "PUT /dav/home/a.txt HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nIf: {carried}\r\nTransfer-Encoding: Chunked\r\n\
         X-Expected-Entity-Length: 7\r\n\r\n7\r\ncontent\r\n0\r\n\r\n",
        server.addr
    );
    assert!(server.raw(head).starts_with(b"HTTP/1.1 204"));
    // Its resource fork goes into a file of its own.
    assert_eq!(send("PUT", "/dav/home/._a.txt", &[], "").status, 201);
    let fork = lock("/dav/home/._a.txt");
    assert_eq!(
        send("PUT", "/dav/home/._a.txt", &[("If", &format!("({fork})"))], "\u{5}\u{16}\u{7}").status,
        204
    );
    assert_eq!(send("UNLOCK", "/dav/home/._a.txt", &[("Lock-Token", &fork)], "").status, 204);
    assert_eq!(send("UNLOCK", "/dav/home/a.txt", &[("Lock-Token", &token)], "").status, 204);
    assert_eq!(server.get("/dav/home/a.txt").text(), "content");
    let quota = "<D:propfind xmlns:D='DAV:'><D:prop><D:quota-available-bytes/><D:quota-used-bytes/><D:quota/><D:quotaused/></D:prop></D:propfind>";
    assert!(send("PROPFIND", "/dav/home/", &[("Depth", "0")], quota).text().contains("404"));
}

#[test]
fn office_edits_in_place() {
    let server = Server::start();
    server.put("/dav/home/report.docx", "first");
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![OFFICE];
        all.extend_from_slice(headers);
        server.send(method, path, &all, body)
    };
    assert_eq!(send("OPTIONS", "/dav/home/", &[], "").status, 200);
    assert_eq!(send("HEAD", "/dav/home/report.docx", &[], "").status, 200);
    let locked = send("LOCK", "/dav/home/report.docx", &[("Timeout", "Second-3600")], LOCKINFO);
    let token = locked.header("lock-token").expect("a token").to_owned();
    let carried = format!("({token})");
    let got = send("GET", "/dav/home/report.docx", &[], "");
    assert_eq!(got.text(), "first");
    // Its own note that somebody has the file open.
    let note = send("LOCK", "/dav/home/~$report.docx", &[("Timeout", "Second-3600")], LOCKINFO);
    assert_eq!(note.status, 201);
    let note_token = note.header("lock-token").expect("a token").to_owned();
    assert_eq!(
        send("PUT", "/dav/home/~$report.docx", &[("If", &format!("({note_token})"))], "me").status,
        204
    );
    assert_eq!(
        send("LOCK", "/dav/home/report.docx", &[("If", &carried), ("Timeout", "Second-3600")], "").status,
        200
    );
    let tag = got.header("etag").expect("a tag").to_owned();
    let both = format!("({token} [{tag}])");
    assert_eq!(send("PUT", "/dav/home/report.docx", &[("If", &both)], "second").status, 204);
    assert_eq!(send("PUT", "/dav/home/report.docx", &[("If", &both)], "third").status, 412);
    assert_eq!(server.put("/dav/home/report.docx", "somebody else").status, 423);
    assert_eq!(send("UNLOCK", "/dav/home/report.docx", &[("Lock-Token", &token)], "").status, 204);
    assert_eq!(
        send("DELETE", "/dav/home/~$report.docx", &[("If", &format!("({note_token})"))], "").status,
        204
    );
    assert_eq!(server.get("/dav/home/report.docx").text(), "second");
}
