//! Settings of OTLP outputs.

use std::{path::PathBuf, time::Duration};

use hyper::Uri;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use super::super::waiting::{first_line, host_name};
use crate::outputs::client::{ClientError, Headers, UrlError, check_url};

/// Why the settings of an OTLP output cannot be used. Contains no secrets.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The URL cannot be used.
    #[error("OTLP needs a URL such as http://localhost:4318: {0}")]
    Url(#[from] UrlError),
    /// There is no client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Settings of OTLP outputs.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// Base URL, without a trailing slash.
    base: String,
    /// Headers of each request.
    pub headers: Headers,
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
        let uri = check_url(url)?;
        if uri.query().is_some() {
            return Err(UrlError::Query.into());
        }
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            headers: Headers::default(),
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
        Ok(check_url(&format!("{}/v1/{signal}", self.base))?)
    }
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
    fn the_resource_names_the_service_and_the_host() {
        let resource = host_resource();
        let keys: Vec<_> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert!(["service.name", "service.version", "host.name", "os.type"].iter().all(|key| keys.contains(key)));
    }
}
