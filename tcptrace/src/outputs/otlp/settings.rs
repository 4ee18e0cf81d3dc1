//! Where OTLP goes, and how.

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

/// What is wrong with the settings of an OTLP output. Tells no secret.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The URL cannot be used.
    #[error("OTLP wants a URL such as http://localhost:4318: {0}")]
    Url(String),
    /// A header cannot be used.
    #[error("header {number} {reason}; NAME=VALUE,NAME=VALUE is expected, with commas in values as %2C")]
    Header {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// TLS is not possible.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no event queue or thread.
    #[error("cannot wait for the network: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Where OTLP goes, and how.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// The base URL, without a slash at its end.
    base: String,
    /// Headers of each request.
    pub headers: OtlpHeaders,
    /// Are requests compressed?
    pub gzip: bool,
    /// For how long a request may take, from the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
    /// File (PEM) of the certificate authorities to be trusted, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// How many records a request has at most.
    pub records: usize,
    /// How many bytes of JSON a request stands for at most; a record that is longer goes alone.
    pub bytes: usize,
    /// Where the records come from.
    pub resource: Resource,
}

impl OtlpSettings {
    /// Settings with the usual values for a base URL, to which `/v1/logs` and `/v1/metrics` are appended, as the
    /// specification of the OTLP exporter has it for `OTEL_EXPORTER_OTLP_ENDPOINT`. A URL without a port means port 80
    /// or 443, as everywhere.
    ///
    /// # Errors
    /// Where this is no such URL. The text of the URL is not repeated, as there may be a password in it.
    pub fn new(url: &str) -> Result<Self, OtlpError> {
        let wrong = |reason: &str| OtlpError::Url(reason.to_owned());
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| OtlpError::Url(error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins neither with http:// nor with https://"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("there is a user in it; credentials belong into a header"));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.host().is_empty() || !port.is_empty() && authority.port_u16().is_none() {
            return Err(wrong("the host or the port is missing or wrong"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query, behind which no path can be appended"));
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

    /// The URL of a signal.
    pub(super) fn endpoint(&self, signal: &str) -> Result<Uri, OtlpError> {
        format!("{}/v1/{signal}", self.base)
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| OtlpError::Url(error.to_string()))
    }
}

/// Headers of requests, whose values are secret: `Debug` does not show them.
#[derive(Clone, Debug, Default)]
pub struct OtlpHeaders(HeaderMap);

impl OtlpHeaders {
    /// Reads headers as `OTEL_EXPORTER_OTLP_HEADERS` has them: `api-key=abc,other=x%2Cy`, the form of W3C Baggage.
    ///
    /// # Errors
    /// Where this is something else, or a header is one of those that tcptrace sets itself.
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

/// Undoes percent-encoding (RFC 3986 section 2.1).
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

/// What OpenTelemetry calls the resource: tcptrace on this host. What cannot be read is left out.
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
