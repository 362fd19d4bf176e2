//! House rules that the compiler does not hold: arrows between crates, module cycles, lengths, docs, words.
//!
//! Reads source text only. Code is formatted by rustfmt, so indentation tells where an item ends.

mod tidy {
    pub mod modules;
    pub mod source;
}

use std::collections::BTreeMap;
use std::path::Path;
use tidy::source::{Source, sources};

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 400;
/// The longest function, from `fn` to its closing brace.
const FN_LINES_MAX: usize = 70;

/// Ranks of design: a crate uses only lower ones.
const RANKS: [(&str, u8); 7] = [
    ("larder-core", 0),
    ("larder-policy", 1),
    ("larder-store", 1),
    ("larder-drive", 2),
    ("larder-fuse", 3),
    ("larder-dav", 3),
    ("larder-api", 3),
];

/// Words with the rule that bans them; split so that this file does not break it.
const BANNED: [(&str, &str); 8] = [
    (concat!("TO", "DO"), "finish it or leave it out"),
    (concat!("FIX", "ME"), "finish it or leave it out"),
    (concat!("hydr", "ate"), "say online-only, or available on this device"),
    (concat!("fn ge", "t_"), "a getter is named after what it returns"),
    (concat!("mod ut", "il"), "name the module after what it is about"),
    (concat!("mod hel", "per"), "name the module after what it is about"),
    (concat!("mod com", "mon"), "name the module after what it is about"),
    (concat!("Man", "ager"), "name the type after what it is"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fail_on(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn arrows_between_crates_point_down() {
    let rank: BTreeMap<&str, u8> = RANKS.into_iter().collect();
    let mut faults = Vec::new();
    for (name, own) in RANKS {
        let Ok(manifest) = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml"))
        else {
            continue;
        };
        let dependencies = manifest.split("\n[").find(|section| section.starts_with("dependencies]"));
        for line in dependencies.unwrap_or_default().lines() {
            let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if rank.get(used).is_some_and(|used| *used >= own) {
                faults.push(format!("{name} uses {used}, which is not below it"));
            }
        }
    }
    fail_on(faults);
}

#[test]
fn every_dependency_has_a_line_of_reason() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the root manifest");
    let mut faults = Vec::new();
    for section in manifest.split("\n[").filter(|section| section.starts_with("workspace.dependencies]")) {
        let lines: Vec<&str> = section.lines().skip(1).collect();
        for (index, line) in lines.iter().enumerate() {
            let own = line.starts_with("larder");
            if line.contains(" = ") && !own && (index == 0 || !lines[index - 1].starts_with('#')) {
                faults.push(format!("no comment above {line}"));
            }
        }
    }
    fail_on(faults);
}

#[test]
fn modules_have_no_cycles() {
    fail_on(tidy::modules::cycles(&sources(root(), &["crates"])));
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for source in sources(root(), &["crates", "tests", "examples"]) {
        let count = source.lines().count();
        if count > FILE_LINES_MAX {
            faults.push(format!("{}: {count} lines, at most {FILE_LINES_MAX}", source.path));
        }
        for (line, length) in source.functions() {
            if length > FN_LINES_MAX {
                faults.push(format!(
                    "{}:{line}: function of {length} lines, at most {FN_LINES_MAX}",
                    source.path
                ));
            }
        }
    }
    fail_on(faults);
}

#[test]
fn every_file_starts_with_what_it_is_for() {
    let undocumented = |source: &Source| !source.text.trim_start_matches("#!").contains("//! ");
    let all = sources(root(), &["crates", "tests", "examples"]);
    fail_on(all.iter().filter(|s| undocumented(s)).map(|s| format!("{}: no module doc", s.path)).collect());
}

#[test]
fn banned_words_are_absent() {
    let mut faults = Vec::new();
    for source in sources(root(), &["crates", "tests", "examples"]) {
        for (number, line) in source.lines().enumerate() {
            for (word, reason) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                faults.push(format!("{}:{}: `{word}`: {reason}", source.path, number + 1));
            }
        }
    }
    fail_on(faults);
}
