//! One request: who sends it, and which part answers.

use crate::auth::{Auth, Refusal};
use crate::devices;
use crate::metrics::Metrics;
use crate::payers::Payer;
use crate::users::{Role, User};
use crate::views::Views;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use larder_api::{Api, Caller, Proof};
use larder_dav::DavService;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tower_service::Service;

/// What RFC 7617 asks for: the realm, and that names and passwords are UTF-8.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Larder\", charset=\"UTF-8\"");

/// Everything that answers requests.
#[derive(Clone)]
pub struct Web {
    /// Who is who.
    pub auth: Arc<Auth>,
    /// WebDAV.
    pub dav: DavService,
    /// And as devices see it.
    pub views: Arc<Views>,
    /// The device protocol.
    pub api: Api,
    /// The rest.
    pub pages: Router,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Web {
    /// Answers `request` from `address`; whoever sends it pays for its bytes.
    pub async fn answer(mut self, request: Request<Incoming>, address: IpAddr, payer: &Payer) -> Response {
        let started = Instant::now();
        let method = request.method().clone();
        let path = request.uri().path();
        let response = if path == "/dav" || path.starts_with("/dav/") {
            self.dav(request, address, payer).await
        } else if path == "/api" || path.starts_with("/api/") {
            self.api(request, address, payer).await
        } else {
            match self.pages.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        self.metrics.answered(method.as_str(), response.status().as_u16(), started.elapsed());
        tracing::debug!(%method, status = response.status().as_u16(), "answered");
        response
    }

    async fn dav(&self, request: Request<Incoming>, address: IpAddr, payer: &Payer) -> Response {
        if let Some((token, is_sure)) = devices::token_of_device(request.headers()) {
            match self.seen_by(&token) {
                Ok((service, user, device)) => {
                    payer.bill(&user.name, Some(&device));
                    return service.handle(request, user).await.map(Body::new);
                }
                Err(Refusal::Unknown) if !is_sure => {}
                Err(refusal) => return self.refuse(&refusal, address),
            }
        }
        match self.auth.identify(request.headers(), address).await {
            Ok(user) => {
                payer.bill(&user.name, None);
                self.dav.handle(request, dav_user(user)).await.map(Body::new)
            }
            Err(refusal) => self.refuse(&refusal, address),
        }
    }

    /// WebDAV as the device sees it that has `token`, and its user.
    fn seen_by(&self, token: &str) -> Result<(DavService, larder_dav::User, String), Refusal> {
        let caller = devices::caller(self.auth.drive(), token)?;
        let device = caller.device().ok_or(Refusal::Unknown)?;
        let service = self.views.of(&self.dav, self.auth.drive(), device).map_err(|error| {
            tracing::error!(%error, "rules of a device");
            Refusal::Busy
        })?;
        let role = match caller.role {
            larder_api::Role::Owner => larder_dav::Role::Owner,
            larder_api::Role::Editor => larder_dav::Role::Editor,
            larder_api::Role::Viewer => larder_dav::Role::Viewer,
        };
        let device = device.id.clone();
        Ok((service, larder_dav::User { name: caller.user, role }, device))
    }

    async fn api(&self, request: Request<Incoming>, address: IpAddr, payer: &Payer) -> Response {
        let caller = match devices::token(request.headers()) {
            Some(token) => devices::caller(self.auth.drive(), token),
            None => self.auth.identify(request.headers(), address).await.map(|user| Caller {
                role: devices::role(user.role),
                user: user.name,
                proof: Proof::Password,
            }),
        };
        if let Ok(caller) = &caller {
            payer.bill(&caller.user, caller.device().map(|device| device.id.as_str()));
        }
        let who = caller.map_err(|refusal| {
            self.note(&refusal, address);
            devices::refusal(&refusal)
        });
        self.api.handle(request, who).await.map(Body::new)
    }

    fn note(&self, refusal: &Refusal, address: IpAddr) {
        self.metrics.unauthorized.fetch_add(1, Ordering::Relaxed);
        if let Refusal::TooMany(wait_s) = refusal {
            tracing::warn!(%address, wait_s, "too many wrong passwords");
        }
    }

    fn refuse(&self, refusal: &Refusal, address: IpAddr) -> Response {
        self.note(refusal, address);
        let (status, wait_s) = refusal.status();
        let mut response = (status, format!("{status}\n")).into_response();
        if *refusal == Refusal::Unknown {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Some(wait_s) = wait_s {
            response.headers_mut().insert(header::RETRY_AFTER, wait_s.into());
        }
        response
    }
}

fn dav_user(user: User) -> larder_dav::User {
    let role = match user.role {
        Role::Owner => larder_dav::Role::Owner,
        Role::Editor => larder_dav::Role::Editor,
        Role::Viewer => larder_dav::Role::Viewer,
    };
    larder_dav::User { name: user.name, role }
}
