//! TLS from files, read again on SIGHUP.
//!
//! The crypto provider is ring: a fraction of the C code of aws-lc-rs to build on a small machine. It is given
//! explicitly, so that no process-wide provider is needed.

use crate::config::TlsFiles;
use larder_core::{Error, Result};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The certificate in use.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// `Invalid`, naming the key and file, or the flag.
    pub fn load(files: TlsFiles) -> Result<Self> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, current })
    }

    /// Reads both again; what is wrong leaves the old ones in use.
    ///
    /// # Errors
    /// As for [`Tls::load`].
    pub fn reload(&self) -> Result<()> {
        let fresh = read(&self.files)?;
        *self.current.write() = Arc::new(fresh);
        Ok(())
    }

    /// What new connections use.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().clone())
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig> {
    let wrong = |origin: &str, why: String| Error::invalid(format!("{origin}: {why}"));
    let cert = files.cert.display();
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|e| wrong(&files.cert_origin, format!("{cert}: {e}")))?;
    if chain.is_empty() {
        return Err(wrong(&files.cert_origin, format!("{cert} has no certificate")));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| wrong(&files.key_origin, format!("{}: {e}", files.key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&files.cert_origin, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| wrong(&files.cert_origin, format!("{cert} and {}: {e}", files.key.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
