//! TLS with a given certificate.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::ServeError;

/// TLS 1.2 and 1.3 with a certificate chain and its key, both PEM.
pub(super) fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |reason: String| ServeError::Certificate { path, reason }
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(chain)(error.to_string()))?;
    if certificates.is_empty() {
        return Err(wrong(chain)("there is no certificate in it".to_owned()));
    }
    let key_der =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key)(error.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let refused = |error: tokio_rustls::rustls::Error| wrong(chain)(error.to_string());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(certificates, key_der)
        .map_err(refused)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
