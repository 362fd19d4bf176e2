//! Which servers are believed to be who they say.

use larder_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Trusts `own` certificates, in DER, or without them those of the system.
///
/// # Errors
/// `Invalid` for certificates that are none.
pub(super) fn config(own: Vec<Vec<u8>>) -> Result<ClientConfig> {
    let bad = |e: &dyn std::error::Error| {
        Error::invalid("certificate that is to be trusted").because(e.to_string())
    };
    let mut roots = RootCertStore::empty();
    let pinned: Vec<CertificateDer<'static>> = own.into_iter().map(CertificateDer::from).collect();
    for certificate in &pinned {
        roots.add(certificate.clone()).map_err(|e| bad(&e))?;
    }
    if pinned.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().map_err(|e| bad(&e))?;
    if pinned.is_empty() {
        return Ok(config.with_root_certificates(roots).with_no_client_auth());
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let usual = usual.build().map_err(|e| bad(&e))?;
    let verifier = Arc::new(Verifier { pinned, usual, provider });
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Says whether `error` comes of a certificate.
pub(super) fn is_of_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An error of the system says what is below the error that it carries, not that itself.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = carried.map_or_else(|| error.source(), |carried| Some(carried));
    }
    false
}

/// Believes a server that shows the very certificate that it was given, whatever that says, and others as usual: what people
/// make for themselves with `openssl req -x509` is an authority's certificate, which no server may show.
#[derive(Debug)]
struct Verifier {
    pinned: Vec<CertificateDer<'static>>,
    usual: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == shown) {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(shown, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
