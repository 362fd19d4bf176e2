//! Which module of a crate uses which, from `crate::` paths; and whether they go round in circles.

use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Describes every module that reaches itself through others of its crate.
pub fn cycles(sources: &[Source]) -> Vec<String> {
    let mut crates: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|s| !s.path.contains("/tests/") && !s.path.contains("/benches/")) {
        let name = source.path.split('/').nth(1).expect("crates/NAME/…");
        crates.entry(name.to_string()).or_default().push(source);
    }
    let mut faults = Vec::new();
    for (name, files) in crates {
        let graph = uses(&files);
        for module in graph.keys() {
            if let Some(way) = way_back(&graph, module) {
                faults.push(format!("{name}: {}", way.join(" → ")));
            }
        }
    }
    faults
}

/// The top-level module a file belongs to; `None` for the root of the crate.
fn module_of(path: &str) -> Option<String> {
    let inner = path.split('/').skip(2).collect::<Vec<_>>().join("/");
    let inner = inner.strip_prefix("src/").unwrap_or(&inner).to_string();
    let first = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_string();
    (!["lib", "main"].contains(&first.as_str())).then_some(first)
}

fn uses(files: &[&Source]) -> Graph {
    let mut graph: Graph =
        files.iter().filter_map(|f| module_of(&f.path)).map(|m| (m, BTreeSet::new())).collect();
    let exported = exports(files, &graph);
    for file in files {
        let Some(module) = module_of(&file.path) else { continue };
        for name in first_names(&file.code(), "crate::") {
            let target = exported.get(&name).unwrap_or(&name).clone();
            if target != module && graph.contains_key(&target) {
                graph.entry(module.clone()).or_default().insert(target);
            }
        }
    }
    graph
}

/// What the root of the crate exports under its own name: item to module.
fn exports(files: &[&Source], modules: &Graph) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for root in files.iter().filter(|f| module_of(&f.path).is_none()) {
        for statement in root.code().split(';').filter(|s| s.trim_start().starts_with("pub use ")) {
            let path = statement.trim().trim_start_matches("pub use ").trim_start_matches("self::");
            let Some((module, items)) = path.split_once("::") else { continue };
            if modules.contains_key(module) {
                for item in items.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|i| !i.is_empty())
                {
                    found.insert(item.to_string(), module.to_string());
                }
            }
        }
    }
    found
}

/// The first name behind each `prefix`, and behind `prefix{` each one of the group.
fn first_names(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(group_heads(group));
        } else {
            names.insert(identifier(rest));
        }
    }
    names
}

/// The heads of `a::{b, c}, d, e::f}`: a, d, e.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut head, mut heads) = (0, String::new(), Vec::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(std::mem::take(&mut head).trim())),
            _ if depth == 0 => head.push(letter),
            _ => {}
        }
    }
    heads.push(identifier(head.trim()));
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The shortest way from `start` back to itself.
fn way_back(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_string()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in &graph[way.last().expect("never empty")] {
                let way: Vec<String> = way.iter().cloned().chain([next.clone()]).collect();
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn circle_is_found_through_an_export() {
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let faults = cycles(&[
        file("crates/x/src/lib.rs", "pub mod a;\npub mod b;\npub use b::Thing;\n"),
        file("crates/x/src/a.rs", "use crate::{Thing, c};\n"),
        file("crates/x/src/b/deep.rs", "fn f() { crate::a::f() }\n"),
        file("crates/x/src/c.rs", "// crate::a\n#[cfg(test)]\nmod tests { use crate::a; }\n"),
    ]);
    assert_eq!(faults, ["x: a → b → a", "x: b → a → b"]);
}
