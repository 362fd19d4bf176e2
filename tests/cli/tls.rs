//! TLS from files, and its renewal.

use crate::support::process::{self, Finished, signal};
use crate::support::server::{PASSWORD, Place};
use crate::support::{lacking, skip};
use std::time::{Duration, Instant};

fn make_certificate(place: &Place, name: &str) {
    let (cert, key) = (place.path("cert.pem"), place.path("key.pem"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let subject = format!("/CN={name}");
    let arguments =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let more = ["-subj", &subject, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &cert];
    process::ok("openssl", &[&arguments[..], &more[..]].concat(), 60);
}

fn curl(place: &Place, address: &str) -> Finished {
    let cert = place.path("cert.pem").display().to_string();
    let user = format!("admin:{PASSWORD}");
    let url = format!("https://{address}/dav/home/");
    process::run(std::process::Command::new("curl").args(["-sSv", "--cacert", &cert, "-u", &user, &url]), 60)
}

#[test]
fn certificate_is_used_and_renewed_without_a_restart() {
    if let Some(why) = lacking(false, &["openssl", "curl"]) {
        return skip(&why);
    }
    let place = Place::new();
    make_certificate(&place, "first");
    let (cert, key) =
        (place.path("cert.pem").display().to_string(), place.path("key.pem").display().to_string());
    let place = place.with(&["--tls-cert", &cert, "--tls-key", &key]);
    let server = place.start();
    let address = server.address().to_string();
    curl(&place, &address).ok();

    let url = format!("https://{address}");
    let log_in = |more: &[&str]| {
        let login = [&["login", &url, "--password-stdin"][..], more].concat();
        process::start(&mut place.command(&login)).feed(PASSWORD.as_bytes()).finish(60)
    };
    let distrusted = log_in(&[]);
    assert!(distrusted.code() == 1 && distrusted.stderr.contains("--ca FILE"), "{distrusted}");
    log_in(&["--ca", &cert]).ok();
    assert_eq!(place.json(&["device", "list"], 30).as_array().map(Vec::len), Some(1));

    make_certificate(&place, "second");
    assert_ne!(curl(&place, &address).code(), 0, "the first certificate is still in use");
    signal(server.id(), libc::SIGHUP);
    let deadline = Instant::now() + Duration::from_secs(30);
    while curl(&place, &address).code() != 0 {
        assert!(Instant::now() < deadline, "the certificate is not read again:\n{}", place.log());
    }

    std::fs::write(&cert, "nonsense").expect("written");
    signal(server.id(), libc::SIGHUP);
    make_certificate(&place, "third");
    assert!(server.lives(), "a bad certificate does not end the server");
    assert!(server.stop().success());
}
