//! Answers for people, or as JSON; progress bars where there is a terminal.

use crate::request::Progress;
use crate::time::local;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// How an answer looks to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// One field a line.
    Fields,
    /// What runs, or what is known of a file, and what is fetched.
    Status,
    /// Words and, in turn, the names of fields.
    Line(&'static [&'static str]),
    /// A table of versions.
    Versions,
    /// A table of conflicts.
    Conflicts,
    /// A table of what was fetched and why.
    Fetched,
    /// A table of users.
    Users,
    /// A table of devices.
    Devices,
}

/// Prints `answer`.
pub fn answer(answer: &Value, look: &Look, json: bool) {
    print(&if json { format!("{answer:#}\n") } else { text(answer, look) });
}

/// Prints `text`. Who reads may have enough before its end, as `head` does; `print!` would panic.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// `answer` as people read it, in whole lines.
pub fn text(answer: &Value, look: &Look) -> String {
    let mut out = String::new();
    match look {
        Look::Fields => fields(answer, "", &mut out),
        Look::Status => status(answer, &mut out),
        Look::Line(words) => line(answer, words, &mut out),
        Look::Versions => table(answer, &["version", "modified", "size_bytes", "kind", "until"], &mut out),
        Look::Conflicts => table(answer, &["over", "at", "path", "copy"], &mut out),
        Look::Fetched => {
            table(answer, &["at", "bytes", "chunks", "why", "process", "pid", "path"], &mut out);
        }
        Look::Users => table(answer, &["name", "role"], &mut out),
        Look::Devices => table(answer, &["id", "name", "user", "made"], &mut out),
    }
    out
}

fn line(answer: &Value, words: &[&str], out: &mut String) {
    for (index, word) in words.iter().enumerate() {
        *out += &if index % 2 == 0 { (*word).to_string() } else { cell(word, &answer[*word]) };
    }
    out.push('\n');
    if let Some(password) = answer["password"].as_str() {
        *out += &format!("Password {password} (shown only now)\n");
    }
}

fn fields(answer: &Value, indent: &str, out: &mut String) {
    let Some(object) = answer.as_object() else { return };
    let shown: Vec<_> = object.iter().filter(|(_, value)| !value.is_null()).collect();
    let width = shown.iter().map(|(key, _)| label(key).len()).max().unwrap_or(0);
    for (key, value) in shown {
        match value {
            Value::Object(_) => {
                *out += &format!("{indent}{}\n", label(key));
                fields(value, &format!("{indent}  "), out);
            }
            Value::Array(items) if items.is_empty() => {
                *out += &format!("{indent}{:width$}  none\n", label(key));
            }
            Value::Array(items) => {
                *out += &format!("{indent}{}\n", label(key));
                items.iter().for_each(|item| *out += &format!("{indent}  {}\n", cell(key, item)));
            }
            _ => *out += &format!("{indent}{:width$}  {}\n", label(key), cell(key, value)),
        }
    }
}

/// Fields, how much is here in a line of words, and a table of what is fetched.
fn status(answer: &Value, out: &mut String) {
    let mut short = answer.clone();
    let fetches = short.as_object_mut().and_then(|object| object.remove("fetches")).unwrap_or_default();
    if let (Some(percent), Some(ranges)) = (answer["here_percent"].as_u64(), answer["here_ranges"].as_u64()) {
        short["here"] =
            format!("{percent} %, {ranges} {}", if ranges == 1 { "range" } else { "ranges" }).into();
        for key in ["here_bytes", "here_percent", "here_ranges"] {
            short.as_object_mut().and_then(|object| object.remove(key));
        }
    }
    // What is as it should be is not worth a line.
    for (key, usual) in
        [("paused", json!({ "all": false, "down": false, "up": false })), ("wrong_chunks", json!(0))]
    {
        if short[key] == usual {
            short[key] = Value::Null;
        }
    }
    fields(&short, "", out);
    if fetches.as_array().is_some_and(|fetches| !fetches.is_empty()) {
        let columns = [
            "state",
            "priority",
            "percent",
            "done_bytes",
            "total_bytes",
            "speed_bytes_per_s",
            "left_s",
            "path",
            "why",
        ];
        out.push('\n');
        table(&fetches, &columns, out);
    }
}

fn table(answer: &Value, columns: &[&str], out: &mut String) {
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let head: Vec<String> = columns.iter().map(|column| label(column)).collect();
    let body = rows.iter().map(|row| columns.iter().map(|column| cell(column, &row[*column])).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        *out += cells.join("  ").trim_end();
        out.push('\n');
    }
}

fn label(key: &str) -> String {
    let units = ["_bytes_per_s", "_bytes", "_ms", "_s"];
    let name = units.iter().find_map(|unit| key.strip_suffix(unit)).unwrap_or(key);
    let words = name.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null if key == "until" => "current".to_string(),
        Value::Null if key == "why" => String::new(),
        Value::Null => "-".to_string(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_string(),
        Value::Number(number) if key.ends_with("_bytes") => number.as_u64().map_or_else(|| "-".into(), size),
        Value::Number(number) if key.ends_with("_bytes_per_s") => {
            number.as_u64().map_or_else(|| "-".into(), |bytes| format!("{}/s", size(bytes)))
        }
        Value::Number(number) if key == "percent" => format!("{number} %"),
        Value::Number(number) if key.ends_with("_s") => span(number.as_u64().unwrap_or_default()),
        Value::Number(number) if key.ends_with("_ms") => format!("{number} ms"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => local(text),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// `bytes` with a unit.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", units[unit]) }
}

/// Seconds as people read them.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A progress bar that appears with the first progress, on a terminal only.
#[derive(Default)]
pub struct Bar(Mutex<Option<ProgressBar>>);

impl Bar {
    /// Shows `step`.
    pub fn show(&self, step: &Progress) {
        let mut bar = self.0.lock();
        let bar = bar.get_or_insert_with(|| {
            // indicatif draws on standard error, and only where that is a terminal.
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let numbers =
            if step.bytes { "{bytes}/{total_bytes} {bytes_per_sec} {eta}" } else { "{pos}/{len} {eta}" };
        let template = match step.total {
            0 => "{spinner} {msg}".to_string(),
            _ => format!("{{msg}} {{wide_bar}} {numbers}"),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_message(step.what.clone());
        bar.set_length(step.total);
        bar.set_position(step.done);
    }

    /// Takes it away.
    pub fn end(&self) {
        if let Some(bar) = self.0.lock().take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            (size(17), size(1536), size(3 << 30)),
            ("17 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
    }

    #[test]
    fn labels_are_words() {
        assert_eq!((label("used_bytes"), label("pid")), ("Used".to_string(), "Pid".to_string()));
        let rebuilt = serde_json::json!({ "chunks": 3, "took_ms": 73 });
        assert_eq!(text(&rebuilt, &Look::Fields), "Chunks  3\nTook    73 ms\n");
    }
}
