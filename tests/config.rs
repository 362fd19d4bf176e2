//! Configuration: what is wrong is told in one line that names the key and the file, with exit code 2.

mod support;

use support::process::Finished;
use support::server::Place;

/// Runs `larder serve` with a configuration file of this text.
fn serve(place: &Place, text: &str) -> Finished {
    let file = place.path("larder.toml");
    std::fs::write(&file, text).expect("a configuration file");
    place.run(&["serve", "--listen", "127.0.0.1:0", "--config", &file.display().to_string()], 60)
}

#[track_caller]
fn assert_refused(done: &Finished, words: &[&str]) {
    assert_eq!(done.code(), 2, "{done}");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{done}");
    for word in words {
        assert!(lines[0].contains(word), "{word} is not in: {}", lines[0]);
    }
}

#[test]
fn mistakes_in_the_file_name_key_and_file() {
    let place = Place::new();
    for (text, words) in [
        ("listn = \"127.0.0.1:1\"", ["larder.toml:1", "`listn`"]),
        ("log = \"info\"\n\nlimit-down = 5", ["larder.toml:3", "string"]),
        ("limit-down = \"fast\"", ["larder.toml: key `limit-down`", "\"fast\""]),
        ("limit-up = \"3 apples/s\"", ["larder.toml: key `limit-up`", "2MiB/s"]),
        (
            "tls-cert = \"/no/such.pem\"\ntls-key = \"/no/such.pem\"",
            ["larder.toml: key `tls-cert`", "/no/such.pem"],
        ),
        ("tls-cert = \"/etc/passwd\"", ["larder.toml: key `tls-cert`", "tls-key"]),
        (
            "tls-cert = \"/etc/passwd\"\ntls-key = \"/etc/passwd\"",
            ["larder.toml: key `tls-cert`", "/etc/passwd"],
        ),
        ("history-days = 4000000", ["larder.toml: key `history-days`", "36500"]),
        ("cache-size = \"much\"", ["larder.toml: key `cache-size`", "500MiB"]),
        ("= 3", ["larder.toml:1", ""]),
    ] {
        assert_refused(&serve(&place, text), &words);
    }
    assert!(!place.data().exists(), "a refused start leaves nothing");
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    let place = Place::new();
    for (arguments, word) in [
        (&["serve", "--limit-down", "fast"][..], "--limit-down"),
        (&["serve", "--tls-cert", "/no/such", "--tls-key", "/no/such"], "--tls-cert"),
        (&["serve", "--config", "/no/such.toml"], "/no/such.toml"),
        (&["serve", "--listen", "0.0.0.0:0"], "--insecure-http"),
        (&["serve", "--log", "larder=loud"], "loud"),
        (&["serve", "--encryption-key", "/no/such.key"], "--encryption-key"),
        (&["stats", "--history-days", "4000000"], "--history-days"),
        (&["stats", "--cache-mib", "1"], "--cache-mib"),
        (&["stats", "--cache-size", "63MiB"], "--cache-size"),
    ] {
        assert_refused(&place.run(arguments, 60), &[word]);
    }
}

#[test]
fn variables_count_as_flags() {
    let place = Place::new();
    let mut command = place.command(&["serve"]);
    command.env("LARDER_LIMIT_UP", "fast");
    assert_refused(&support::process::run(&mut command, 60), &["--limit-up"]);
}

#[test]
fn switches_may_be_numbers_in_variables() {
    let place = Place::new();
    for (value, refused) in
        [("1", "--limit-down"), ("true", "--limit-down"), ("0", "--insecure-http"), ("no", "--insecure-http")]
    {
        // Where the switch is on, the next mistake is told.
        let mut command = place.command(&["serve", "--listen", "0.0.0.0:0", "--limit-down", "fast"]);
        command.env("LARDER_INSECURE_HTTP", value);
        assert_refused(&support::process::run(&mut command, 60), &[refused]);
    }
}

#[test]
fn file_in_the_home_directory_is_read() {
    let place = Place::new();
    let folder = place.path("home/.config/larder");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("larder.toml"), "limit-down = \"5MiB/s\"\n").expect("a configuration file");
    let server = place.start();
    assert_eq!(place.json(&["limit"], 60)["down"], "5MiB/s");
    assert!(server.stop().success());
    std::fs::write(folder.join("larder.toml"), "listn = 1\n").expect("a configuration file");
    assert_refused(&place.run(&["stats"], 60), &[".config/larder/larder.toml:1", "`listn`"]);
}

#[test]
fn file_sets_what_no_flag_does() {
    let place = Place::new();
    let file = place.path("larder.toml");
    std::fs::write(&file, "limit-down = \"3MiB/s\"\nlimit-up = \"4MiB/s\"\n").expect("a configuration file");
    let config = file.display().to_string();
    let place = place.with(&["--config", &config, "--limit-up", "off"]);
    let server = place.start();
    let limits = place.json(&["limit"], 60);
    assert_eq!((limits["down"].as_str(), limits["up"].as_str()), (Some("3MiB/s"), Some("off")));
    assert!(server.stop().success());
}
