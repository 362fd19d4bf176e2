//! WebDAV clients as people use them, against the program itself with authentication on.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::random::Random;
use support::server::{PASSWORD, Place, Server};
use support::watchdog::Watchdog;
use support::{is_root, lacking, process, skip};

/// Longer than any client here needs, in seconds.
const LIMIT_S: u64 = 200;

/// A small tree with what trips clients up: odd names, an empty file, one of several chunks, an old time.
fn tree(place: &Place) -> PathBuf {
    let top = place.path("tree");
    std::fs::create_dir_all(top.join("sub dir/deep")).expect("folders");
    std::fs::write(top.join("big"), Random::new(1).bytes(3_000_000)).expect("a file");
    std::fs::write(top.join("sub dir/ä & b#?%41.txt"), "hello").expect("a file");
    std::fs::write(top.join("sub dir/deep/empty"), "").expect("a file");
    process::ok("touch", &["-d", "2020-02-03 04:05:06 UTC", text(&top.join("big"))], LIMIT_S);
    top
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn url(server: &Server) -> String {
    format!("http://{}/dav/home", server.address())
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    process::ok("diff", &["-r", text(one), text(other)], LIMIT_S);
}

fn ready(mount: bool, programs: &[&str]) -> Option<(Place, Server)> {
    if let Some(why) = lacking(mount, programs) {
        skip(&why);
        return None;
    }
    let place = Place::new();
    let server = place.start();
    Some((place, server))
}

fn rclone(place: &Place, server: &Server, vendor: &str, arguments: &[&str]) -> process::Finished {
    let hidden = process::ok("rclone", &["obscure", PASSWORD], LIMIT_S).stdout;
    let mut command = Command::new("rclone");
    command.args(arguments).env("HOME", place.path("home")).env("RCLONE_CONFIG", "/dev/null");
    command.env("RCLONE_WEBDAV_URL", url(server)).env("RCLONE_WEBDAV_VENDOR", vendor);
    command.env("RCLONE_WEBDAV_USER", "admin").env("RCLONE_WEBDAV_PASS", hidden.trim());
    process::run(&mut command, LIMIT_S).ok()
}

#[test]
fn rclone_copies_there_and_back() {
    let Some((place, server)) = ready(false, &["rclone"]) else { return };
    let tree = tree(&place);
    rclone(&place, &server, "other", &["copy", text(&tree), ":webdav:plain"]);
    rclone(&place, &server, "other", &["check", "--download", text(&tree), ":webdav:plain"]);
    rclone(&place, &server, "other", &["copy", ":webdav:plain", text(&place.path("back"))]);
    same(&tree, &place.path("back"));
    rclone(&place, &server, "other", &["moveto", ":webdav:plain/big", ":webdav:plain/moved"]);
    rclone(&place, &server, "other", &["purge", ":webdav:plain"]);
    server.stop();
    place.assert_no_panic();
}

#[test]
fn rclone_compares_checksums_and_keeps_times() {
    let Some((place, server)) = ready(false, &["rclone"]) else { return };
    let tree = tree(&place);
    rclone(&place, &server, "owncloud", &["copy", "--checksum", text(&tree), ":webdav:sums"]);
    let listed = rclone(&place, &server, "owncloud", &["lsjson", "--hash", "-R", ":webdav:sums"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let big = listed.as_array().and_then(|all| all.iter().find(|entry| entry["Path"] == "big"));
    let big = big.expect("the file is listed");
    let sum = process::ok("sha1sum", &[text(&tree.join("big"))], LIMIT_S).stdout;
    assert_eq!(big["Hashes"]["sha1"].as_str(), sum.split_whitespace().next(), "{big}");
    assert!(big["ModTime"].as_str().is_some_and(|time| time.starts_with("2020-02-03T04:05:06")), "{big}");
    let again = rclone(&place, &server, "owncloud", &["copy", "-v", text(&tree), ":webdav:sums"]);
    assert!(!again.stderr.contains("Copied"), "{again}");
    // By content it finds what neither size nor time tell.
    let odd = tree.join("sub dir/ä & b#?%41.txt");
    let time = std::fs::metadata(&odd).and_then(|meta| meta.modified()).expect("a time");
    std::fs::write(&odd, "HELLO").expect("a file");
    std::fs::File::options().write(true).open(&odd).and_then(|file| file.set_modified(time)).expect("set");
    let changed =
        rclone(&place, &server, "owncloud", &["copy", "-v", "--checksum", text(&tree), ":webdav:sums"]);
    assert_eq!(changed.stderr.matches("Copied").count(), 1, "{changed}");
    let checked = rclone(&place, &server, "owncloud", &["check", text(&tree), ":webdav:sums"]);
    assert!(checked.stderr.contains("0 differences"), "{checked}");
    assert!(!checked.stderr.contains("could not be checked"), "{checked}");
    server.stop();
    place.assert_no_panic();
}

/// Bytes that a copy of what is stored may cost, of a hundred.
const COPY_COST_PERCENT: u64 = 1;

#[test]
fn copies_share_their_bytes_whoever_makes_them() {
    if let Some(why) = lacking(true, &["fusermount3", "cp", "rclone"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(2 * LIMIT_S);
    let server = place.start();
    let (mut client, mount) = (server.client(), place.mount());
    let content = Random::seeded().bytes(64 << 20);
    client.ok("PUT", "/dav/home/film", &[], &content);
    client.ok("MKCOL", "/dav/home/many", &[], b"");
    for number in 0..300 {
        client.ok("PUT", &format!("/dav/home/many/{number}"), &[], format!("file {number}").as_bytes());
    }
    let numbers = || {
        let stats = place.json(&["stats"], LIMIT_S);
        ["stored_bytes", "log_bytes"].map(|key| stats[key].as_u64().expect("a number"))
    };
    let before = numbers();
    let shares = |what: &str| {
        for (now, before) in numbers().into_iter().zip(before) {
            println!("{what}: {} bytes more", now - before);
            assert!(
                (now - before) * 100 < before * COPY_COST_PERCENT,
                "{what}: {before} bytes grew to {now}"
            );
        }
    };
    let copy = |from: &str, to: &str| {
        process::ok("cp", &["-r", text(&mount.join(from)), text(&mount.join(to))], LIMIT_S);
    };
    copy("film", "by cp");
    shares("cp");
    rclone(&place, &server, "owncloud", &["copyto", ":webdav:film", ":webdav:by rclone"]);
    shares("rclone");
    client.ok("MOVE", "/dav/home/film", &[("Destination", "/dav/home/many/film")], b"");
    client.ok("COPY", "/dav/home/many", &[("Destination", "/dav/home/folder")], b"");
    shares("COPY of a folder");
    copy("many", "folder by cp");
    shares("cp -r");
    for path in ["by cp", "by rclone", "folder/film", "folder by cp/film"] {
        assert!(std::fs::read(mount.join(path)).expect("read") == content, "{path}");
    }
    same(&mount.join("many"), &mount.join("folder"));
    same(&mount.join("many"), &mount.join("folder by cp"));
    server.stop();
    place.assert_no_panic();
}

#[test]
fn curl_reads_ranges_and_resumes() {
    let Some((place, server)) = ready(false, &["curl"]) else { return };
    let tree = tree(&place);
    let whole = std::fs::read(tree.join("big")).expect("a file");
    let (user, url) = (format!("admin:{PASSWORD}"), format!("{}/big", url(&server)));
    let curl =
        |arguments: &[&str]| process::ok("curl", &[&["-sSf", "-u", &user], arguments].concat(), LIMIT_S);
    curl(&["-T", text(&tree.join("big")), &url]);
    let got = place.path("got");
    for (range, want) in
        [("0-99", &whole[..100]), ("2999990-", &whole[2_999_990..]), ("-10", &whole[2_999_990..])]
    {
        curl(&["-r", range, "-o", text(&got), &url]);
        assert!(std::fs::read(&got).expect("a file") == want, "{range}");
    }
    std::fs::write(&got, &whole[..1_234_567]).expect("a file");
    curl(&["-C", "-", "-o", text(&got), &url]);
    assert!(std::fs::read(&got).expect("a file") == whole, "resumed");
    // An upload that broke off goes on where it stopped.
    let part = place.path("part");
    std::fs::write(&part, &whole[..1_000_000]).expect("a file");
    curl(&["-T", text(&part), &url]);
    curl(&["-C", "1000000", "-T", text(&tree.join("big")), &url]);
    curl(&["-o", text(&got), &url]);
    assert!(std::fs::read(&got).expect("a file") == whole, "upload resumed");
    let refused = process::run(Command::new("curl").args(["-sf", "-u", "admin:wrong", &url]), LIMIT_S);
    assert_ne!(refused.code(), 0);
    server.stop();
    place.assert_no_panic();
}

#[test]
fn cadaver_works_through_a_session() {
    let Some((place, server)) = ready(false, &["cadaver"]) else { return };
    let tree = tree(&place);
    let secrets = place.path("home").join(".netrc");
    std::fs::write(&secrets, format!("machine 127.0.0.1 login admin password \"{PASSWORD}\"\n"))
        .expect("a file");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    let (big, got) = (tree.join("big"), place.path("got"));
    let session = format!(
        "mkcol cad\ncd cad\nput {}\nls\nlock big\ndiscover big\npropset big color blue\npropget big color\nunlock big\n\
         copy big two\nmove two three\nget three {}\nchexec + big\ndelete big\ndelete three\ncd ..\nrmcol cad\nls\nquit\n",
        text(&big),
        text(&got)
    );
    let mut command = Command::new("cadaver");
    command.arg(format!("{}/", url(&server))).env("HOME", place.path("home")).current_dir(place.path("home"));
    let done = process::start(&mut command).feed(session.as_bytes()).finish(LIMIT_S).ok();
    assert!(!done.stdout.contains("failed"), "{}", done.stdout);
    assert!(done.stdout.contains("blue"), "{}", done.stdout);
    same(&big, &got);
    server.stop();
    place.assert_no_panic();
}

#[test]
fn davfs2_mounts_the_drive() {
    if !is_root() {
        return skip("mount.davfs needs root");
    }
    let Some((place, server)) = ready(true, &["mount.davfs"]) else { return };
    let tree = tree(&place);
    let (point, cache, config, secrets) =
        (place.path("davfs"), place.path("cache"), place.path("davfs.conf"), place.path("secrets"));
    std::fs::create_dir(&point).expect("a mount point");
    std::fs::create_dir(&cache).expect("a cache");
    // mount.davfs gives up its rights before it makes folders below.
    for open in [&cache, &place.path("")] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).expect("permissions");
    }
    let settings =
        format!("secrets {}\ncache_dir {}\ndelay_upload 0\nbuf_size 64\n", text(&secrets), text(&cache));
    std::fs::write(&config, settings).expect("a file");
    std::fs::write(&secrets, format!("{} admin \"{PASSWORD}\"\n", url(&server))).expect("a file");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    let watchdog = Watchdog::start(&point, LIMIT_S * 2);
    let option = format!("conf={}", text(&config));
    process::ok("mount.davfs", &["-o", &option, &url(&server), text(&point)], LIMIT_S);
    let there = point.join("there");
    process::ok("cp", &["-r", text(&tree), text(&there)], LIMIT_S);
    process::ok("mv", &[text(&there.join("sub dir")), text(&there.join("renamed"))], LIMIT_S);
    process::ok("rm", &[text(&there.join("renamed/deep/empty"))], LIMIT_S);
    process::ok("df", &[text(&point)], LIMIT_S);
    process::ok("umount", &[text(&point)], LIMIT_S);
    // What it wrote is there without it.
    let mut client = server.client();
    let back = client.ok("GET", "/dav/home/there/big", &[], b"");
    assert!(back.body == std::fs::read(tree.join("big")).expect("a file"));
    let odd = client.ok("GET", "/dav/home/there/renamed/%C3%A4%20%26%20b%23%3F%2541.txt", &[], b"");
    assert_eq!(odd.body, b"hello");
    let gone = client.send("GET", "/dav/home/there/renamed/deep/empty", &[], b"");
    assert_eq!(gone.expect("an answer").status, 404);
    drop(watchdog);
    server.stop();
    place.assert_no_panic();
}

#[test]
fn gvfs_mounts_the_drive() {
    if !Path::new("/usr/libexec/gvfsd-dav").exists() {
        return skip("gvfsd-dav is not installed");
    }
    let Some((place, server)) = ready(false, &["gio", "dbus-run-session"]) else { return };
    let tree = tree(&place);
    let location = format!("dav://admin@{}/dav/home", server.address());
    let script = format!(
        "set -eu\ngio mount {location} <<<{PASSWORD:?}\ngio mkdir {location}/g\ngio copy {tree}/big {location}/g/big\n\
         gio cat {location}/g/big | cmp - {tree}/big\ngio move {location}/g/big {location}/g/two\n\
         gio info -f {location} | grep filesystem::free\ngio list {location}/g\n\
         gio remove {location}/g/two\ngio remove {location}/g\ngio mount -u {location}\n",
        tree = text(&tree)
    );
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "bash", "-c", &script]).env("HOME", place.path("home")).env("GVFS_DISABLE_FUSE", "1");
    command.env("XDG_RUNTIME_DIR", place.path("home")).env_remove("XDG_CACHE_HOME").env_remove("DISPLAY");
    let done = process::run(&mut command, LIMIT_S).ok();
    assert!(done.stdout.contains("two") && done.stdout.contains("filesystem::free"), "{done}");
    server.stop();
    place.assert_no_panic();
}
