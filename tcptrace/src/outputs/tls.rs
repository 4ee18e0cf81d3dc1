//! TLS for the network outputs: rustls with ring, TLS 1.2 and 1.3, verifying the server's certificate.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    crypto::ring,
    pki_types::{CertificateDer, pem, pem::PemObject as _},
};

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system has no root certificates.
    #[error("the system has no certificate authorities: {0}; install the package ca-certificates, or give a CA file")]
    Roots(io::Error),
    /// The certificate file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file contains no certificates of authorities.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The file contains no certificate.
    #[error("{}: it contains no certificate; expected PEM", .0.display())]
    Empty(PathBuf),
    /// rustls rejected the configuration.
    #[error(transparent)]
    Versions(rustls::Error),
}

/// Client configuration that trusts only the authorities in the PEM file `ca`, or without one those of the system,
/// whose location `SSL_CERT_FILE` and `SSL_CERT_DIR` override.
///
/// # Errors
/// If there are no usable certificates.
pub(super) fn client(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let builder = match ca {
        Some(path) => builder()?.with_root_certificates(roots(path)?),
        None => builder()?.with_native_roots().map_err(TlsError::Roots)?,
    };
    Ok(builder.with_no_client_auth())
}

/// Client configuration that trusts nobody, for connections without TLS.
///
/// # Errors
/// If rustls rejects the configuration.
pub(super) fn none() -> Result<ClientConfig, TlsError> {
    Ok(builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(file)? {
        roots
            .add(certificate.map_err(file)?)
            .map_err(|source| TlsError::Certificate { path: path.to_owned(), source })?;
    }
    if roots.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let missing = client(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/ca.pem") && missing.contains("No such file"), "{missing}");
        let empty = client(Some(Path::new("/dev/null"))).unwrap_err().to_string();
        assert_eq!(empty, "/dev/null: it contains no certificate; expected PEM");
    }
}
