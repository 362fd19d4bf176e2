//! PROPFIND and PROPPATCH. Sources: RFC 4918 § 9.1, § 9.2, § 15; RFC 4331.

mod support;

use support::{Answer, START_S, Server};

fn server() -> Server {
    let server = Server::start();
    server.status("MKCOL", "/dav/home/d", &[]);
    server.put("/dav/home/d/f.txt", "hello");
    server
}

fn ask(server: &Server, path: &str, props: &str) -> Answer {
    let body = format!("<?xml version='1.0'?><propfind xmlns='DAV:'><prop>{props}</prop></propfind>");
    server.propfind(path, "0", &body)
}

fn patch(server: &Server, path: &str, inner: &str) -> Answer {
    let body = format!(
        "<D:propertyupdate xmlns:D='DAV:' xmlns:Z='urn:schemas-microsoft-com:'>{inner}</D:propertyupdate>"
    );
    server.send("PROPPATCH", path, &[], body)
}

#[test]
fn live_properties_are_those_of_the_headers() {
    let server = server();
    let file = server.get("/dav/home/d/f.txt");
    let all = server.propfind("/dav/home/d/f.txt", "0", "");
    assert_eq!(all.status, 207);
    assert_eq!(all.header("content-type"), Some("application/xml; charset=utf-8"));
    assert_eq!(all.element("D:getetag").as_deref(), file.header("etag"));
    assert!(all.element("D:getetag").expect("a tag").starts_with('"'));
    assert_eq!(all.element("D:getlastmodified").as_deref(), file.header("last-modified"));
    assert_eq!(all.element("D:getcontentlength").as_deref(), Some("5"));
    assert_eq!(all.element("D:getcontenttype").as_deref(), file.header("content-type"));
    assert_eq!(all.element("D:creationdate").as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(all.element("D:displayname").as_deref(), Some("f.txt"));
    assert_eq!(all.element("D:resourcetype").as_deref(), Some(""));
    assert!(all.element("D:supportedlock").expect("locks").contains("<D:exclusive/>"));
    assert_eq!(all.element("D:lockdiscovery").as_deref(), Some(""));
    assert_eq!(all.element("D:quota-used-bytes"), None, "RFC 4331 § 3 keeps quota out of allprop");
    let folder = server.propfind("/dav/home/d", "0", "");
    assert!(folder.text().contains("<D:href>/dav/home/d/</D:href>"));
    assert_eq!(folder.element("D:resourcetype").as_deref(), Some("<D:collection/>"));
    assert_eq!(folder.element("D:getcontentlength"), None);
}

#[test]
fn what_is_missing_is_404_in_its_own_propstat() {
    let server = server();
    let answer =
        ask(&server, "/dav/home/d/f.txt", "<getetag/><nosuch/><x xmlns='urn:x'/><quota-used-bytes/>");
    let text = answer.text();
    let (found, missing) = text.split_once("</D:propstat>").expect("two propstats");
    assert!(found.contains("<D:getetag>") && found.contains("HTTP/1.1 200 OK"), "{text}");
    assert!(missing.contains("HTTP/1.1 404 Not Found") && missing.contains("xmlns:x=\"urn:x\""), "{text}");
    assert!(missing.contains("nosuch") && missing.contains("<D:quota-used-bytes/>"), "{text}");
    let none = ask(&server, "/dav/home/d/f.txt", "<nosuch/>").text();
    assert!(none.contains("<D:propstat>") && none.contains("404") && !none.contains("200 OK"), "{none}");
    let empty = ask(&server, "/dav/home/d/f.txt", "").text();
    assert!(empty.contains("<D:propstat>") && empty.contains("200 OK"), "{empty}");
}

#[test]
fn depth_says_how_far() {
    let server = server();
    let count = |answer: Answer| answer.text().matches("<D:response>").count();
    assert_eq!(count(server.propfind("/dav/home/", "0", "")), 1);
    assert_eq!(count(server.propfind("/dav/home/", "1", "")), 2);
    assert_eq!(count(server.propfind("/dav/home/", "infinity", "")), 3);
    // No Depth means infinity. Source: RFC 4918 § 9.1.
    assert_eq!(count(server.send("PROPFIND", "/dav/home/", &[], "")), 3);
    assert_eq!(count(server.send("PROPFIND", "/dav/home/d/f.txt", &[], "")), 1);
    assert_eq!(server.propfind("/dav/home/", "2", "").status, 400);
    assert_eq!(server.propfind("/dav/home/none", "0", "").status, 404);
    assert_eq!(server.propfind("/dav/home/no/such", "0", "").status, 404);
}

#[test]
fn names_only_names() {
    let server = server();
    patch(&server, "/dav/home/d/f.txt", "<D:set><D:prop><x xmlns='urn:x'>secret</x></D:prop></D:set>");
    let answer =
        server.propfind("/dav/home/d/f.txt", "0", "<D:propfind xmlns:D='DAV:'><D:propname/></D:propfind>");
    let text = answer.text();
    assert!(text.contains("<D:getetag/>") && text.contains("xmlns:x=\"urn:x\""), "{text}");
    assert!(!text.contains("secret") && !text.contains("quota"), "{text}");
}

#[test]
fn include_adds_to_allprop() {
    let server = server();
    let body = "<D:propfind xmlns:D='DAV:'><D:allprop/><D:include><D:quota-used-bytes/><D:getetag/></D:include></D:propfind>";
    let answer = server.propfind("/dav/home/d", "0", body);
    assert!(answer.element("D:quota-used-bytes").is_some(), "{}", answer.text());
    let file = server.propfind("/dav/home/d/f.txt", "0", body).text();
    assert_eq!(file.matches("<D:getetag>").count(), 1, "{file}");
}

#[test]
fn quota_is_told() {
    let server = server();
    let answer = ask(&server, "/dav/home/", "<quota-available-bytes/><quota-used-bytes/>");
    assert_eq!(answer.element("D:quota-used-bytes").as_deref(), Some("5"));
    let available: u64 =
        answer.element("D:quota-available-bytes").and_then(|n| n.parse().ok()).expect("a number");
    assert!(available > 1 << 30);
}

#[test]
fn dead_properties_come_back_as_written() {
    let server = server();
    let value = "<Z:p xmlns:Z='urn:z' a='1'>x &amp; <q xmlns='urn:q'>y</q></Z:p>";
    let set = format!("<D:set><D:prop>{value}</D:prop></D:set>");
    assert_eq!(patch(&server, "/dav/home/d/f.txt", &set).status, 207);
    let asked = ask(&server, "/dav/home/d/f.txt", "<p xmlns='urn:z'/>").text();
    assert!(asked.contains("a='1'") && asked.contains("x &amp; <q xmlns='urn:q'>y</q></Z:p>"), "{asked}");
    assert!(
        server.propfind("/dav/home/d/f.txt", "0", "").text().contains("x &amp; <q"),
        "allprop has dead ones"
    );
    let not_asked = ask(&server, "/dav/home/d/f.txt", "<getetag/>").text();
    assert!(!not_asked.contains("urn:q"), "{not_asked}");
    assert_eq!(
        patch(&server, "/dav/home/d/f.txt", "<D:remove><D:prop><p xmlns='urn:z'/></D:prop></D:remove>")
            .status,
        207
    );
    assert!(ask(&server, "/dav/home/d/f.txt", "<p xmlns='urn:z'/>").text().contains("404"));
    // Properties belong to the resource, not to its content.
    patch(&server, "/dav/home/d/f.txt", &set);
    server.put("/dav/home/d/f.txt", "new content");
    assert!(ask(&server, "/dav/home/d/f.txt", "<p xmlns='urn:z'/>").text().contains("200 OK"));
}

#[test]
fn a_patch_is_all_or_nothing() {
    let server = server();
    let mixed = "<D:set><D:prop><a xmlns='urn:x'>1</a></D:prop></D:set><D:set><D:prop><D:getetag>x</D:getetag></D:prop></D:set>\
                 <D:remove><D:prop><b xmlns='urn:x'/></D:prop></D:remove>";
    let answer = patch(&server, "/dav/home/d/f.txt", mixed);
    let text = answer.text();
    assert_eq!(answer.status, 207);
    assert!(text.contains("403 Forbidden") && text.contains("cannot-modify-protected-property"), "{text}");
    assert_eq!(text.matches("424 Failed Dependency").count(), 2, "{text}");
    assert!(ask(&server, "/dav/home/d/f.txt", "<a xmlns='urn:x'/>").text().contains("404"));
    let ordered = "<D:set><D:prop><a xmlns='urn:x'>1</a></D:prop></D:set><D:remove><D:prop><a xmlns='urn:x'/></D:prop></D:remove>\
                   <D:set><D:prop><a xmlns='urn:x'>2</a></D:prop></D:set>";
    assert!(!patch(&server, "/dav/home/d/f.txt", ordered).text().contains("424"));
    assert!(ask(&server, "/dav/home/d/f.txt", "<a xmlns='urn:x'/>").text().contains(">2</"));
    // Removing what is not there is no error. Source: RFC 4918 § 14.23.
    let gone =
        patch(&server, "/dav/home/d/f.txt", "<D:remove><D:prop><zz xmlns='urn:x'/></D:prop></D:remove>");
    assert!(gone.text().contains("200 OK"), "{}", gone.text());
    assert_eq!(patch(&server, "/dav/home/none", ordered).status, 404);
    assert_eq!(patch(&server, "/dav/home/d/f.txt", "").status, 400);
}

#[test]
fn windows_times_are_settable_and_read_back() {
    let server = server();
    let set = "<D:set><D:prop><Z:Win32CreationTime>Mon, 02 Jan 2006 15:04:05 GMT</Z:Win32CreationTime>\
               <Z:Win32LastModifiedTime>Tue, 03 Jan 2006 15:04:05 GMT</Z:Win32LastModifiedTime>\
               <Z:Win32LastAccessTime>Wed, 04 Jan 2006 15:04:05 GMT</Z:Win32LastAccessTime>\
               <Z:Win32FileAttributes>00000022</Z:Win32FileAttributes></D:prop></D:set>";
    assert!(!patch(&server, "/dav/home/d/f.txt", set).text().contains("HTTP/1.1 4"));
    let windows = server.send(
        "PROPFIND",
        "/dav/home/d/f.txt",
        &[("Depth", "0"), ("User-Agent", "Microsoft-WebDAV-MiniRedir/10.0")],
        "",
    );
    for (name, want) in [
        ("Z:Win32CreationTime", "Mon, 02 Jan 2006 15:04:05 GMT"),
        ("Z:Win32LastModifiedTime", "Tue, 03 Jan 2006 15:04:05 GMT"),
        ("Z:Win32LastAccessTime", "Wed, 04 Jan 2006 15:04:05 GMT"),
        ("Z:Win32FileAttributes", "00000022"),
        ("D:creationdate", "2006-01-02T15:04:05Z"),
        ("D:getlastmodified", "Tue, 03 Jan 2006 15:04:05 GMT"),
    ] {
        assert_eq!(windows.element(name).as_deref(), Some(want), "{name}");
    }
    let node = server.node("d/f.txt");
    assert_eq!((node.btime.secs(), node.mtime.secs()), (1_136_214_245, 1_136_300_645));
    assert_eq!(node.ctime.secs(), START_S);
    let bad = "<D:set><D:prop><Z:Win32CreationTime>tomorrow</Z:Win32CreationTime></D:prop></D:set>";
    assert!(patch(&server, "/dav/home/d/f.txt", bad).text().contains("409 Conflict"));
    let others = server.propfind("/dav/home/d/f.txt", "0", "").text();
    assert!(!others.contains("Win32"), "{others}");
}

#[test]
fn executable_is_the_mode_and_rclone_sets_times() {
    let server = server();
    let set = "<D:set><D:prop><executable xmlns='http://apache.org/dav/props/'>T</executable></D:prop></D:set>\
               <D:set><D:prop><D:lastmodified>1234567890</D:lastmodified></D:prop></D:set>";
    assert!(!patch(&server, "/dav/home/d/f.txt", set).text().contains("HTTP/1.1 4"));
    let node = server.node("d/f.txt");
    assert_eq!((node.mode & 0o111, node.mtime.secs()), (0o111, 1_234_567_890));
    let asked = ask(&server, "/dav/home/d/f.txt", "<executable xmlns='http://apache.org/dav/props/'/>");
    assert_eq!(asked.element("A:executable").as_deref(), Some("T"));
}

#[test]
fn hostile_bodies_are_refused() {
    let server = server();
    let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><D:propfind xmlns:D='DAV:'><D:prop>&b;</D:prop></D:propfind>";
    let outside =
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><D:propfind xmlns:D='DAV:'><D:allprop/></D:propfind>";
    let deep = format!("<D:propfind xmlns:D='DAV:'>{}", "<a>".repeat(10_000));
    let unbound = "<D:propfind xmlns:D='DAV:'><D:prop><x:y/></D:prop></D:propfind>";
    let empty_prefix = "<D:propfind xmlns:D='DAV:'><D:prop><x:y xmlns:x=''/></D:prop></D:propfind>";
    for body in
        [bomb, outside, deep.as_str(), unbound, empty_prefix, "<x/>", "text", "<D:propfind xmlns:D='DAV:'/>"]
    {
        for method in ["PROPFIND", "PROPPATCH"] {
            assert_eq!(
                server.send(method, "/dav/home/d", &[], body).status,
                400,
                "{method} {}",
                &body[..body.len().min(50)]
            );
        }
    }
    let huge = format!("<D:propfind xmlns:D='DAV:'><D:allprop/><!--{}--></D:propfind>", "x".repeat(2 << 20));
    assert_eq!(server.propfind("/dav/home/d", "0", &huge).status, 413);
    let many = format!("<D:prop>{}</D:prop>", "<x/>".repeat(1000));
    assert_eq!(
        server
            .propfind("/dav/home/d", "0", &format!("<D:propfind xmlns:D='DAV:'>{many}</D:propfind>"))
            .status,
        400
    );
}

#[test]
fn large_folders_are_listed_whole() {
    let server = Server::start();
    for number in 0..2500 {
        assert_eq!(server.put(&format!("/dav/home/{number}"), "x").status, 201);
    }
    let answer = server.propfind("/dav/home/", "1", "");
    assert_eq!(answer.text().matches("<D:response>").count(), 2501);
    assert!(answer.text().ends_with("</D:multistatus>\n"));
}
