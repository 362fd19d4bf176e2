//! `larder status --line`: what moves, in a line for bars and prompts.

use crate::show::size;
use serde_json::{Value, json};

/// Says it of these statuses together: `↓ 2.1 MiB/s 37 % · ↑ 3 waiting`, or `✓` where nothing moves or waits.
pub fn of(statuses: &[Value]) -> String {
    let all = |key: &str| statuses.iter().map(|status| status[key].clone()).collect::<Vec<_>>();
    let mut parts = Vec::new();
    for link in ["offline", "metered"] {
        if all("limits").iter().any(|limits| limits["link"] == link) {
            parts.push(link.to_owned());
        }
    }
    let fetches: Vec<Value> =
        all("fetches").into_iter().filter_map(|list| list.as_array().cloned()).flatten().collect();
    let of_state = |states: &[&str]| -> Vec<&Value> {
        fetches.iter().filter(|file| states.iter().any(|state| file["state"] == *state)).collect()
    };
    let moving = of_state(&["active", "queued", "paused"]);
    if !moving.is_empty() {
        let sum = |key: &str| moving.iter().filter_map(|file| file[key].as_u64()).sum::<u64>();
        let percent = sum("done_bytes") * 100 / sum("total_bytes").max(1);
        let is_paused = moving.iter().all(|file| file["state"] == "paused");
        let speed =
            if is_paused { "paused".to_owned() } else { format!("{}/s", size(sum("speed_bytes_per_s"))) };
        parts.push(format!("↓ {speed} {percent} %"));
    }
    let failed = of_state(&["failed"]).len();
    if failed > 0 {
        parts.push(format!("↓ {failed} failed"));
    }
    let waiting: u64 = all("not_sent").iter().filter_map(|queue| queue["changes"].as_u64()).sum();
    if waiting > 0 {
        parts.push(format!("↑ {waiting} waiting"));
    }
    if parts.is_empty() { "✓".to_owned() } else { parts.join(" · ") }
}

/// The same for programs.
pub fn value(statuses: &[Value]) -> Value {
    json!({ "text": of(statuses) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_moves_and_what_waits() {
        let file = |state: &str, done: u64, speed: u64| json!({ "state": state, "done_bytes": done, "total_bytes": 100, "speed_bytes_per_s": speed });
        let moving = json!({
            "fetches": [file("active", 50, 2 << 20), file("queued", 24, 0), file("done", 100, 0)],
            "not_sent": { "changes": 2 },
        });
        let other = json!({ "fetches": [], "not_sent": { "changes": 1 } });
        assert_eq!(of(&[moving, other.clone()]), "↓ 2.0 MiB/s 37 % · ↑ 3 waiting");
        let held = json!({ "fetches": [file("paused", 10, 0), file("failed", 0, 0)], "limits": { "link": "metered" } });
        assert_eq!(of(&[held]), "metered · ↓ paused 10 % · ↓ 1 failed");
        assert_eq!(of(&[json!({ "pid": 7 })]), "✓");
    }
}
