//! Settings of OTLP outputs.

use std::{path::PathBuf, time::Duration};

use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName, HeaderValue},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use super::super::waiting::{first_line, host_name};
use crate::outputs::tls::TlsError;

/// Why the settings of an OTLP output cannot be used. Contains no secrets.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The URL cannot be used.
    #[error("OTLP needs a URL such as http://localhost:4318: {0}")]
    Url(String),
    /// A header cannot be used.
    #[error("header {number} {reason}; expected NAME=VALUE,NAME=VALUE, with commas in values as %2C")]
    Header {
        /// Position of the header, from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system provides no event queue or thread.
    #[error("cannot wait for the network: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Settings of OTLP outputs.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Base URL, without a trailing slash.
    base: String,
    /// Headers of each request.
    pub headers: OtlpHeaders,
    /// Whether to compress requests with gzip.
    pub gzip: bool,
    /// Time limit for a request, from the name lookup to the last byte of the response.
    pub timeout: Duration,
    /// PEM file of the trusted certificate authorities; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// Maximum number of records in a request.
    pub records: usize,
    /// Maximum size of the records in a request, in bytes of JSON; a longer record is sent alone.
    pub bytes: usize,
    /// The resource that sends the records.
    pub resource: Resource,
}

impl OtlpSettings {
    /// Default settings for a base URL, to which `/v1/logs` or `/v1/metrics` is appended, as the OTLP exporter
    /// specification requires for `OTEL_EXPORTER_OTLP_ENDPOINT`. The default port is 80 or 443.
    ///
    /// # Errors
    /// If the URL cannot be used. The error does not contain the URL, which may include a password.
    pub fn new(url: &str) -> Result<Self, OtlpError> {
        let wrong = |reason: &str| OtlpError::Url(reason.to_owned());
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| OtlpError::Url(error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins neither with http:// nor with https://"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("it contains a user; put credentials in a header"));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.host().is_empty() || !port.is_empty() && authority.port_u16().is_none() {
            return Err(wrong("the host or the port is missing or wrong"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query, so no path can be appended"));
        }
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            headers: OtlpHeaders::default(),
            gzip: true,
            timeout: Duration::from_secs(10),
            ca: None,
            records: 1000,
            bytes: 1 << 20,
            resource: host_resource(),
        })
    }

    /// The URL of a signal, such as `logs`.
    pub(super) fn endpoint(&self, signal: &str) -> Result<Uri, OtlpError> {
        format!("{}/v1/{signal}", self.base)
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| OtlpError::Url(error.to_string()))
    }
}

/// Headers of requests. Their values are secret: `Debug` hides them.
#[derive(Clone, Debug, Default)]
pub struct OtlpHeaders(HeaderMap);

impl OtlpHeaders {
    /// Parses headers in the format of `OTEL_EXPORTER_OTLP_HEADERS`: `api-key=abc,other=x%2Cy`, the form of W3C
    /// Baggage.
    ///
    /// # Errors
    /// If they are malformed, or include a header that tcptrace sets itself.
    pub fn parse(text: &str) -> Result<Self, OtlpError> {
        let mut headers = HeaderMap::new();
        for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            let wrong = |reason| OtlpError::Header { number: index + 1, reason };
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("has no ="))?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong("has a name that HTTP does not allow"))?;
            if OWN.contains(&name) {
                return Err(wrong("is one that tcptrace sets itself"));
            }
            let value = decoded(value.trim()).ok_or_else(|| wrong("has a % without two hexadecimal digits"))?;
            let mut value =
                HeaderValue::from_bytes(&value).map_err(|_| wrong("has a value that HTTP does not allow"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self(headers))
    }

    pub(super) fn map(&self) -> &HeaderMap {
        &self.0
    }
}

const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
];

/// Decodes percent-encoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    Some(plain)
}

/// The OpenTelemetry resource: tcptrace on this host. Attributes that cannot be read are left out.
#[must_use]
pub fn host_resource() -> Resource {
    let attributes = [
        ("service.name", Some("tcptrace".to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("host.name", host_name()),
        ("host.id", first_line("/etc/machine-id")),
        ("os.type", Some("linux".to_owned())),
    ];
    let attributes =
        attributes.into_iter().filter_map(|(key, value)| Some(attribute(key, Value::StringValue(value?)))).collect();
    Resource { attributes, ..Resource::default() }
}

pub(super) fn attribute(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_signals_path_is_appended_to_the_base() {
        for (base, endpoint) in [
            ("http://localhost:4318", "http://localhost:4318/v1/logs"),
            ("http://localhost:4318/", "http://localhost:4318/v1/logs"),
            ("https://example.org/otlp/", "https://example.org/otlp/v1/logs"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/logs"),
        ] {
            assert_eq!(OtlpSettings::new(base).unwrap().endpoint("logs").unwrap(), endpoint);
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_and_not_repeated() {
        for url in [
            "",
            "localhost:4318",
            "grpc://localhost:4317",
            "http://",
            "http:///v1",
            "http://host:",
            "http://host:99999",
            "http://user:secret@host",
            "http://host/?token=secret",
            "http://host\n/secret",
        ] {
            let error = OtlpSettings::new(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_are_read_as_in_the_environment_and_never_shown() {
        let headers = OtlpHeaders::parse("api-key=top%2Csecret, Authorization=Basic%20c2VjcmV0,").unwrap();
        assert_eq!(headers.map()["api-key"], "top,secret");
        assert_eq!(headers.map()["authorization"], "Basic c2VjcmV0");
        let mut settings = OtlpSettings::new("http://localhost").unwrap();
        settings.headers = headers;
        let shown = format!("{settings:?}");
        assert!(shown.contains("api-key") && !shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(OtlpHeaders::parse("").unwrap().map().is_empty());
        for text in ["secret", "a=b,secret", "a b=secret", "a=secret%2", "a=secret%zz", "a=secret%0A", "host=secret"] {
            let error = OtlpHeaders::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_resource_names_the_service_and_the_host() {
        let resource = host_resource();
        let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert!(["service.name", "service.version", "host.name", "os.type"].iter().all(|key| keys.contains(key)));
    }
}
