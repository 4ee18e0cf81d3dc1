//! URLs of receivers.

use hyper::Uri;

/// Why a URL cannot be used. The text is not repeated, since it may include a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error("{0}")]
    Invalid(#[from] hyper::http::uri::InvalidUri),
    #[error("it has no host")]
    NoHost,
    #[error("it begins neither with http:// nor with https://")]
    Scheme,
    #[error("it contains a user; put credentials in a header")]
    User,
    #[error("the host or the port is missing or wrong")]
    Authority,
    #[error("it has a query, so no path can be appended")]
    Query,
}

/// Checks a URL.
///
/// # Errors
/// If it cannot be used.
pub(crate) fn check(url: &str) -> Result<Uri, UrlError> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or(UrlError::NoHost)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(UrlError::Scheme);
    }
    if authority.as_str().contains('@') {
        return Err(UrlError::User);
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || !port.is_empty() && authority.port_u16().is_none() {
        return Err(UrlError::Authority);
    }
    Ok(uri)
}
