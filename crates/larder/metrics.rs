//! Counters of the server, as Prometheus reads them. Source: Prometheus text exposition format 0.0.4.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS_S: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];
/// Methods with a counter of their own; the rest is `other`.
const METHODS: [&str; 13] = [
    "GET", "HEAD", "OPTIONS", "POST", "PROPFIND", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
    "other",
];
/// First digits of statuses.
const CLASSES: usize = 5;

/// All counters.
#[derive(Default)]
pub struct Metrics {
    /// Bytes that clients sent, heads and TLS included.
    pub received_bytes: AtomicU64,
    /// Bytes sent to clients.
    pub sent_bytes: AtomicU64,
    /// Connections now.
    pub connections: AtomicI64,
    /// Connections closed because there were too many.
    pub refused: AtomicU64,
    /// Requests without right credentials.
    pub unauthorized: AtomicU64,
    requests: [[AtomicU64; CLASSES]; METHODS.len()],
    durations: [AtomicU64; BUCKETS_S.len() + 1],
    duration_us: AtomicU64,
}

/// A value to show beside the counters: name, help, and value.
pub type Gauge = (&'static str, &'static str, f64);

impl Metrics {
    /// Counts a request that was answered with `status` after `took` (until the head of the answer).
    pub fn answered(&self, method: &str, status: u16, took: Duration) {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let class = usize::from(status / 100).clamp(1, CLASSES) - 1;
        self.requests[method][class].fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS_S.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS_S.len());
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        self.duration_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Writes everything, with `gauges` at the end.
    pub fn render(&self, gauges: &[Gauge]) -> String {
        let mut text = String::with_capacity(4096);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        for (name, help, value) in [
            ("larder_received_bytes_total", "Bytes received from clients.", load(&self.received_bytes)),
            ("larder_sent_bytes_total", "Bytes sent to clients.", load(&self.sent_bytes)),
            ("larder_connections_refused_total", "Connections over the limit.", load(&self.refused)),
            ("larder_unauthorized_total", "Requests without right credentials.", load(&self.unauthorized)),
        ] {
            family(&mut text, name, help, "counter");
            let _ = writeln!(text, "{name} {value}");
        }
        let connections = self.connections.load(Ordering::Relaxed) as f64;
        let own = [("larder_connections", "Connections now.", connections)];
        for (name, help, value) in own.iter().chain(gauges) {
            family(&mut text, name, help, "gauge");
            let _ = writeln!(text, "{name} {value}");
        }
        self.render_requests(&mut text);
        text
    }

    fn render_requests(&self, text: &mut String) {
        family(text, "larder_requests_total", "Requests by method and class of status.", "counter");
        for (method, classes) in METHODS.iter().zip(&self.requests) {
            for (class, count) in (1..).zip(classes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = format!("method=\"{method}\",status=\"{class}xx\"");
                    let _ = writeln!(text, "larder_requests_total{{{labels}}} {count}");
                }
            }
        }
        let name = "larder_request_duration_seconds";
        family(text, name, "Time until the head of the answer.", "histogram");
        let mut sum = 0;
        let bounds = BUCKETS_S.iter().map(f64::to_string).chain(["+Inf".to_string()]);
        for (bound, count) in bounds.zip(&self.durations) {
            sum += count.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let seconds = self.duration_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum {seconds}\n{name}_count {sum}");
    }
}

fn family(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_adds_up() {
        let metrics = Metrics::default();
        metrics.answered("PUT", 201, Duration::from_millis(3));
        metrics.answered("BREW", 501, Duration::from_secs(100));
        let text = metrics.render(&[("larder_nodes", "Nodes.", 7.0)]);
        for line in [
            "larder_requests_total{method=\"PUT\",status=\"2xx\"} 1",
            "larder_requests_total{method=\"other\",status=\"5xx\"} 1",
            "larder_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "larder_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "larder_request_duration_seconds_sum 100.003",
            "larder_nodes 7",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }
}
