//! Symbolic links, hard links and special files, which WebDAV has no words for.

mod support;

use larder_core::{Content, Name, NodeId, NodeKind};
use larder_store::catalog::NewNode;
use larder_store::{Durability, Op};
use support::Server;

fn make(server: &Server, parent: NodeId, name: &str, kind: NodeKind, content: Content) {
    let id = server.drive.catalog().new_id();
    let node =
        Box::new(NewNode { id, kind, mode: 0o777, uid: 0, gid: 0, content, mtime: None, draft: false });
    let op = Op::Create { parent, name: Name::new(name).expect("a name"), node };
    server.drive.commit(&server.actor(), Vec::new(), vec![op], Durability::Process).expect("made");
}

fn link(server: &Server, parent: &str, name: &str, target: &str) {
    let parent = server.node(parent).id;
    make(server, parent, name, NodeKind::Symlink, Content::Target(target.as_bytes().to_vec()));
}

fn server() -> Server {
    let server = Server::start();
    server.status("MKCOL", "/dav/home/d", &[]);
    server.put("/dav/home/d/f", "content");
    server.put("/dav/home/top", "top");
    link(&server, "", "to-file", "d/f");
    link(&server, "", "to-folder", "/d/");
    link(&server, "d", "up", "../../../top");
    link(&server, "", "nowhere", "no/such");
    link(&server, "", "free", "d/unmade");
    link(&server, "", "circle", "circle");
    make(&server, NodeId::ROOT, "pipe", NodeKind::Fifo, Content::None);
    make(&server, NodeId::ROOT, "disk", NodeKind::BlockDevice, Content::Device(1));
    server
}

#[test]
fn links_are_followed_inside_the_project() {
    let server = server();
    assert_eq!(server.get("/dav/home/to-file").text(), "content");
    assert_eq!(server.get("/dav/home/to-folder/f").text(), "content");
    assert_eq!(server.get("/dav/home/d/up").text(), "top", "above the root is the root");
    for gone in ["nowhere", "circle", "circle/x", "pipe", "disk", "pipe/x"] {
        assert_eq!(server.get(&format!("/dav/home/{gone}")).status, 404, "{gone}");
        assert_eq!(server.propfind(&format!("/dav/home/{gone}"), "0", "").status, 404, "{gone}");
    }
}

#[test]
fn listings_show_what_links_stand_for() {
    let server = server();
    let listed = server.propfind("/dav/home/", "1", "").text();
    assert!(listed.contains("<D:href>/dav/home/to-file</D:href>"), "{listed}");
    assert!(listed.contains("<D:href>/dav/home/to-folder/</D:href>"), "{listed}");
    for hidden in ["nowhere", "circle", "pipe", "disk", "free"] {
        assert!(!listed.contains(hidden), "{hidden} in {listed}");
    }
    let deep = server.propfind("/dav/home/", "infinity", "").text();
    assert!(!deep.contains("to-folder/f"), "links are not entered: {deep}");
}

#[test]
fn writing_goes_through_and_removing_does_not() {
    let server = server();
    assert_eq!(server.put("/dav/home/to-file", "new").status, 204);
    assert_eq!(server.get("/dav/home/d/f").text(), "new");
    assert_eq!(server.put("/dav/home/free", "made").status, 201);
    assert_eq!(server.get("/dav/home/d/unmade").text(), "made");
    assert_eq!(server.put("/dav/home/nowhere", "x").status, 409);
    assert_eq!(server.put("/dav/home/pipe", "x").status, 403);
    assert_eq!(server.status("COPY", "/dav/home/to-file", &[("Destination", "/dav/home/copy")]), 201);
    assert_eq!(server.get("/dav/home/copy").text(), "new");
    assert_eq!(server.status("MOVE", "/dav/home/to-folder", &[("Destination", "/dav/home/moved")]), 201);
    assert_eq!(server.get("/dav/home/moved/f").text(), "new");
    assert_eq!(server.status("DELETE", "/dav/home/moved", &[]), 204);
    assert_eq!(server.get("/dav/home/d/f").text(), "new");
    assert_eq!(server.status("DELETE", "/dav/home/circle", &[]), 204);
}

#[test]
fn a_file_moved_onto_another_name_of_itself_keeps_that_one_alone() {
    let server = server();
    let file = server.node("d/f").id;
    let link = Op::Link { node: file, parent: NodeId::ROOT, name: Name::new("other").expect("a name") };
    server.drive.commit(&server.actor(), Vec::new(), vec![link], Durability::Process).expect("linked");
    let go = |overwrite| {
        let headers = [("Destination", "/dav/home/other"), ("Overwrite", overwrite)];
        server.status("MOVE", "/dav/home/d/f", &headers)
    };
    assert_eq!(go("F"), 412);
    assert_eq!(server.get("/dav/home/d/f").text(), "content");
    let token = server.lock("/dav/home/other", &[]);
    assert_eq!(go("T"), 423);
    let header = format!("<{token}>");
    assert_eq!(server.status("UNLOCK", "/dav/home/other", &[("Lock-Token", &header)]), 204);
    assert_eq!(go("T"), 204);
    assert_eq!(server.get("/dav/home/d/f").status, 404, "the source is gone");
    assert_eq!(server.get("/dav/home/other").text(), "content");
    let moved = server.node("other");
    assert_eq!((moved.id, moved.nlink), (file, 1));
    assert_eq!(server.drive.path_of(file).expect("its path").to_string(), "/other");
}
