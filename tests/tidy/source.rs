//! Source files as text.

use std::path::Path;

/// One Rust file.
pub struct Source {
    /// Path from the root of the repository.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// All Rust files below `folders`, by path.
pub fn sources(root: &Path, folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut pending: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("readable source");
                let path = path.strip_prefix(root).expect("below the root").display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no source below {}", root.display());
    found
}

impl Source {
    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// Line number and length of every function with a body of several lines.
    pub fn functions(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let lines: Vec<&str> = self.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            if !is_function(code) || code.ends_with([';', '}']) {
                continue;
            }
            let close = format!("{}}}", &line[..line.len() - code.len()]);
            if let Some(length) = lines[start..].iter().position(|line| *line == close) {
                found.push((start + 1, length + 1));
            }
        }
        found
    }

    /// The text without comments, string contents and the tests at its end.
    pub fn code(&self) -> String {
        let lines = self.lines().take_while(|line| *line != "#[cfg(test)]");
        let uncommented = lines.map(|line| line.split("//").next().unwrap_or_default());
        uncommented.collect::<Vec<_>>().join("\n")
    }
}

fn is_function(code: &str) -> bool {
    let mut words = code.split_whitespace();
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "async", "const", "unsafe"];
    words.find(|word| !qualifiers.contains(word)) == Some("fn")
}
