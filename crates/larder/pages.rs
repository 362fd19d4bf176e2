//! What is at the server beside WebDAV: a page for people, a probe, and numbers.

use crate::metrics::{Gauge, Metrics};
use crate::payers::Tiers;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use larder_drive::{Drive, Usage};
use std::sync::Arc;
use std::time::Duration;

/// How long the store may take to answer the probe.
const PROBE: Duration = Duration::from_secs(5);
/// What OPTIONS on `/` says: Windows asks there before it goes to `/dav/`.
const COMPLIANCE: &str = "1, 2, 3";

/// What the pages show.
#[derive(Clone)]
pub struct Shown {
    /// The drive.
    pub drive: Arc<Drive>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Limits.
    pub tiers: Arc<Tiers>,
}

/// The routes.
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(index).options(options))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .fallback(missing)
        .with_state(shown)
}

async fn index() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [
        (header::CONTENT_TYPE, html),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, include_str!("index.html")).into_response()
}

async fn options() -> Response {
    let headers = [("dav", COMPLIANCE), ("ms-author-via", "DAV"), ("allow", "GET, HEAD, OPTIONS")];
    (headers, StatusCode::OK).into_response()
}

async fn missing(method: Method) -> Response {
    let status = if method.is_safe() { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
    (status, "Larder serves files below /dav/\n").into_response()
}

/// Asks the store, so that a hanging disk shows.
async fn usage(drive: Arc<Drive>) -> Option<Usage> {
    let asked = tokio::task::spawn_blocking(move || drive.usage());
    tokio::time::timeout(PROBE, asked).await.ok()?.ok()?.ok()
}

async fn health(State(shown): State<Shown>) -> Response {
    match usage(shown.drive).await {
        Some(_) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response(),
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let limit = |rate: Option<larder_policy::Rate>| rate.map_or(0.0, |rate| rate.bytes_per_s() as f64);
    let mut gauges: Vec<Gauge> = vec![
        (
            "larder_limit_down_bytes",
            "Limit of what is sent, a second; 0 for none.",
            limit(shown.tiers.down.limit()),
        ),
        (
            "larder_limit_up_bytes",
            "Limit of what is received, a second; 0 for none.",
            limit(shown.tiers.up.limit()),
        ),
    ];
    if let Some(usage) = usage(shown.drive).await {
        gauges.extend([
            ("larder_used_bytes", "Bytes of all files.", usage.used_bytes as f64),
            ("larder_available_bytes", "Bytes that still fit.", usage.available_bytes as f64),
            ("larder_nodes", "Files, folders and links.", usage.nodes as f64),
        ]);
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], shown.metrics.render(&gauges)).into_response()
}
