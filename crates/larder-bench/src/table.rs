//! What was measured and what was asked for: rows, goals, medians, and the Markdown and JSON of it.

use std::fmt::Write;

/// What a figure is compared with; each with its factor.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At least so many times the fastest peer.
    Fastest(f64),
    /// At least so many times the median peer.
    Middle(f64),
    /// At least so many times this peer.
    Peer(&'static str, f64),
    /// At least so many times the fastest peer other than this one.
    Except(&'static str, f64),
    /// The figure itself is at most this.
    AtMost(f64),
    /// The figure itself is at least this.
    AtLeast(f64),
}

/// One line of the table.
pub struct Row {
    /// Short name, for `--json` and in the code.
    pub id: &'static str,
    /// What was done.
    pub work: &'static str,
    /// Unit of the figures; a speed unless [`Row::small_is_good`].
    pub unit: &'static str,
    /// What our figure must reach.
    pub goals: &'static [Goal],
}

impl Row {
    /// Says whether less is better.
    fn small_is_good(&self) -> bool {
        matches!(self.unit, "ms" | "s" | "MiB" | "%" | "RTT")
    }
}

const fn row(id: &'static str, work: &'static str, unit: &'static str, goals: &'static [Goal]) -> Row {
    Row { id, work, unit, goals }
}

const MOUNTS: [Goal; 2] = [Goal::Peer("rclone mount", 5.0), Goal::Peer("davfs2", 5.0)];
const MOUNTS_AND_EXT4: [Goal; 3] = [MOUNTS[0], MOUNTS[1], Goal::Peer("ext4", 0.3)];

/// Every row, in the order of the report.
pub const ROWS: &[Row] = &[
    row("get_warm_1", "GET 1 GiB, warm, 1 client", "MiB/s", &[Goal::Fastest(1.0)]),
    row("get_warm_8", "GET 1 GiB, warm, 8 clients", "MiB/s", &[Goal::Fastest(1.0)]),
    row("get_cold_1", "GET 1 GiB, cold, 1 client", "MiB/s", &[Goal::Fastest(1.0)]),
    row("get_cold_8", "GET 1 GiB, cold, 8 clients", "MiB/s", &[Goal::Fastest(1.0)]),
    row("put_synced", "PUT 1 GiB new data; peers ended by a sync", "MiB/s", &[Goal::Fastest(1.0)]),
    row("put", "PUT 1 GiB new data; peers without a sync", "MiB/s", &[Goal::Fastest(0.8)]),
    row(
        "small_put_synced",
        "PUT 4 KiB files, 8 connections; peers ended by a sync",
        "files/s",
        &[Goal::Fastest(1.5)],
    ),
    row("small_put", "PUT 4 KiB files, 8 connections; peers without a sync", "files/s", &[Goal::Middle(1.0)]),
    row(
        "small_get",
        "GET 4 KiB files, 8 connections",
        "files/s",
        &[Goal::Peer("nginx", 0.8), Goal::Except("nginx", 1.5)],
    ),
    row(
        "list_10k",
        "PROPFIND of 10,000 entries",
        "entries/s",
        &[Goal::Peer("nginx", 1.0), Goal::Except("nginx", 3.0)],
    ),
    row(
        "list_100k",
        "PROPFIND of 100,000 entries",
        "entries/s",
        &[Goal::Peer("nginx", 1.0), Goal::Except("nginx", 3.0)],
    ),
    row("list_growth", "growth of peak RSS by the PROPFIND of 100,000", "MiB", &[Goal::AtMost(32.0)]),
    row("copy", "COPY of a 1 GiB folder", "ms", &[Goal::AtMost(50.0)]),
    row("move", "MOVE of a 1 GiB folder", "ms", &[Goal::AtMost(50.0)]),
    row("seq_write", "sequential write of 1 GiB with fsync", "MiB/s", &[Goal::Peer("ext4", 0.7)]),
    row("seq_read_warm", "read back warm", "MiB/s", &[Goal::Peer("ext4", 0.9)]),
    row("seq_read_cold", "read back cold", "MiB/s", &[Goal::Peer("ext4", 0.7)]),
    row("create", "create 10,000 files of 4 KiB", "files/s", &MOUNTS),
    row("stat", "stat them", "files/s", &MOUNTS_AND_EXT4),
    row("list", "list their names (`ls`)", "files/s", &MOUNTS_AND_EXT4),
    row("list_long", "list them with attributes (`ls -l`)", "files/s", &MOUNTS_AND_EXT4),
    row("delete", "delete them", "files/s", &MOUNTS),
    row("random_read", "random 4 KiB reads in 1 GiB, buffered", "ops/s", &[Goal::Peer("ext4", 0.3)]),
    row("random_read_cold", "random 4 KiB reads in 1 GiB, cold", "ops/s", &[]),
    row("random_write", "random 4 KiB writes in 1 GiB, buffered", "ops/s", &[Goal::Peer("ext4", 0.15)]),
    row("random_write_fsync", "the same, with the fsync at the end", "ops/s", &[Goal::Peer("ext4", 0.15)]),
    row("crowd_listed", "remote mount of 1,000,000 files, to the first listing", "s", &[Goal::AtMost(1.0)]),
    row("crowd_rss", "peak RSS by then", "MiB", &[Goal::AtMost(150.0)]),
    row("crowd_known", "peak RSS once all their names are known", "MiB", &[]),
    row("first_byte", "first byte of a cold 1 GiB file, 40 ms away", "RTT", &[Goal::AtMost(2.5)]),
    row(
        "remote_cold",
        "remote mount: read 1 GiB for the first time",
        "MiB/s",
        &[Goal::Peer("rclone mount", 2.0), Goal::Peer("curl", 0.7)],
    ),
    row(
        "line_read",
        "read 64 MiB over 100 Mbit/s, 40 ms away, 0.1 % lost: part of the line",
        "ratio",
        &[Goal::AtLeast(0.9)],
    ),
    row("remote_again", "remote mount: read it again", "MiB/s", &[Goal::Peer("local mount", 0.9)]),
    row("git_status", "`git status` of 10,000 files that are here", "ms", &[Goal::Peer("ext4", 0.5)]),
    row("push_5", "copy 5 MB into a remote mount, until the server has it", "s", &[Goal::AtMost(0.2)]),
    row("push_50", "the same with 50 MB", "s", &[Goal::AtMost(1.0)]),
    row("fetch_rss", "peak RSS of 100 files of 16 MiB fetched at once", "MiB", &[Goal::AtMost(400.0)]),
    row("rss_in", "peak RSS, 10 GiB in over 8 streams", "MiB", &[Goal::AtMost(400.0)]),
    row("rss_out", "peak RSS, 10 GiB out over 8 streams", "MiB", &[Goal::AtMost(400.0)]),
    row("rss_million", "peak RSS, filling up to 1,000,000 files and 10 GiB", "MiB", &[Goal::AtMost(1024.0)]),
    row("rss_restarted", "RSS after a start with them and one listing", "MiB", &[Goal::AtMost(1024.0)]),
    row("start_warm", "start after kill -9 with them, to the first answer", "s", &[Goal::AtMost(3.0)]),
    row("start_cold", "the same, with empty kernel caches", "s", &[Goal::AtMost(3.0)]),
    row("throttle_error", "throttle: worst deviation of rate", "%", &[Goal::AtMost(3.0)]),
    row("throttle_share", "throttle: worst share, slowest ÷ fastest stream", "ratio", &[Goal::AtLeast(0.9)]),
];

/// The measured values.
#[derive(Default)]
pub struct Table {
    values: Vec<(&'static str, &'static str, Vec<f64>)>,
    notes: Vec<String>,
}

impl Table {
    /// Adds one measured value of `contender` to the row `id`.
    pub fn record(&mut self, id: &'static str, contender: &'static str, value: f64) {
        eprintln!("  {contender:>12}  {id:<20} {value:.1}");
        match self.values.iter_mut().find(|(row, who, _)| *row == id && *who == contender) {
            Some((_, _, values)) => values.push(value),
            None => self.values.push((id, contender, vec![value])),
        }
    }

    /// Adds a line that is printed below the table, once.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            eprintln!("  note: {text}");
            self.notes.push(text);
        }
    }

    /// Returns the table as Markdown: per row our median with its range, each peer's median and how many times it we reach.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut header: Vec<&str> = Vec::new();
        for row in ROWS.iter().filter(|row| self.values.iter().any(|(id, ..)| *id == row.id)) {
            let peers = self.peers(row.id);
            let names: Vec<&str> = peers.iter().map(|(name, _)| *name).collect();
            if text.is_empty() || (names != header && !names.is_empty()) {
                let columns =
                    |cell: &dyn Fn(&str) -> String| names.iter().map(|n| cell(n)).collect::<String>();
                let _ =
                    writeln!(text, "\n| work | larder |{} target | met |", columns(&|n| format!(" {n} |")));
                let _ = writeln!(text, "|---|---:|{}---|---|", columns(&|_| "---:|".into()));
                header = names;
            }
            let _ = writeln!(text, "{}", self.line(row, &peers, header.len()));
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text
    }

    fn line(&self, row: &Row, peers: &[(&'static str, f64)], columns: usize) -> String {
        let ours = self.of(row.id, "larder");
        let mut line = format!("| {} ({}) | {} |", row.work, row.unit, ours.map_or("–".into(), range));
        let middle = ours.map(median);
        for (_, value) in peers {
            let ratio =
                middle.map_or(String::new(), |ours| format!(" (×{:.2})", advantage(row, ours, *value)));
            let _ = write!(line, " {}{ratio} |", figure(*value));
        }
        line.extend(std::iter::repeat_n("  |", columns.saturating_sub(peers.len())));
        let goals: Vec<String> = row.goals.iter().map(|goal| spell(goal, row)).collect();
        let verdict = middle.and_then(|ours| row.goals.iter().map(|goal| met(goal, row, ours, peers)).min());
        let verdict = verdict.map_or("", |met| if met { "yes" } else { "**no**" });
        let _ = write!(line, " {} | {verdict} |", goals.join(", "));
        line
    }

    /// Returns one JSON object a line: row, contender, unit, values, median.
    pub fn json(&self) -> String {
        let mut text = String::new();
        for (id, contender, values) in &self.values {
            let unit = ROWS.iter().find(|row| row.id == *id).map_or("", |row| row.unit);
            let _ = writeln!(
                text,
                "{{\"row\":{id:?},\"contender\":{contender:?},\"unit\":{unit:?},\"values\":{values:?},\"median\":{:?}}}",
                median(values)
            );
        }
        text
    }

    fn of(&self, id: &str, contender: &str) -> Option<&[f64]> {
        let found = self.values.iter().find(|(row, who, _)| *row == id && *who == contender)?;
        Some(&found.2)
    }

    fn peers(&self, id: &str) -> Vec<(&'static str, f64)> {
        let rows = self.values.iter().filter(|(row, who, _)| *row == id && *who != "larder");
        rows.map(|(_, who, values)| (*who, median(values))).collect()
    }
}

/// Returns the middle of `values`, the mean of the two middle ones for an even count.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn range(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => figure(low),
        _ => format!("**{}** ({}–{})", figure(median(values)), figure(low), figure(high)),
    }
}

/// Says how many times better we are.
fn advantage(row: &Row, ours: f64, theirs: f64) -> f64 {
    // Less than this cannot be told from nothing, and nothing has no ratio.
    let (ours, theirs) = (ours.max(0.01), theirs.max(0.01));
    if row.small_is_good() { theirs / ours } else { ours / theirs }
}

fn spell(goal: &Goal, row: &Row) -> String {
    match goal {
        Goal::Fastest(factor) => format!("≥ {factor} × fastest"),
        Goal::Middle(factor) => format!("≥ {factor} × median"),
        Goal::Peer(name, factor) => format!("≥ {factor} × {name}"),
        Goal::Except(_, factor) => format!("≥ {factor} × each other"),
        Goal::AtMost(most) => format!("≤ {most} {}", row.unit),
        Goal::AtLeast(least) => format!("≥ {least}"),
    }
}

fn met(goal: &Goal, row: &Row, ours: f64, peers: &[(&str, f64)]) -> bool {
    let all = |factor: f64, chosen: &dyn Fn(&str) -> bool| {
        peers.iter().filter(|(name, _)| chosen(name)).all(|(_, value)| advantage(row, ours, *value) >= factor)
    };
    match goal {
        Goal::Fastest(factor) => all(*factor, &|_| true),
        Goal::Peer(peer, factor) => all(*factor, &|name| name == *peer),
        Goal::Except(peer, factor) => all(*factor, &|name| name != *peer),
        Goal::Middle(factor) => {
            let values: Vec<f64> = peers.iter().map(|(_, value)| *value).collect();
            values.is_empty() || advantage(row, ours, median(&values)) >= *factor
        }
        Goal::AtMost(most) => ours <= *most,
        Goal::AtLeast(least) => ours >= *least,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[(&'static str, &'static str, f64)]) -> Table {
        let mut table = Table::default();
        values.iter().for_each(|(id, who, value)| table.record(id, who, *value));
        table
    }

    #[test]
    fn median_is_the_middle() {
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median(&[9.0, 1.0]) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn every_goal_of_a_row_counts() {
        let values =
            [("small_get", "larder", 85.0), ("small_get", "nginx", 100.0), ("small_get", "apache", 50.0)];
        assert!(table(&values).markdown().contains("| yes |"));
        let values =
            [("small_get", "larder", 85.0), ("small_get", "nginx", 100.0), ("small_get", "apache", 60.0)];
        assert!(table(&values).markdown().contains("| **no** |"));
    }

    #[test]
    fn less_is_better_for_times_and_memory() {
        let text = table(&[("copy", "larder", 10.0), ("copy", "nginx", 500.0)]).markdown();
        assert!(text.contains("(×50.00)") && text.contains("| yes |"), "{text}");
    }
}
