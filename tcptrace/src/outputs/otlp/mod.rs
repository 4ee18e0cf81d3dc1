//! Outputs over the OpenTelemetry protocol (OTLP 1.x), by HTTP with protobuf: records as logs, and metrics.
//!
//! Delivery is at least once, as the protocol specifies: if a response is lost, the request is sent again.

mod answer;
mod logs;
mod settings;
#[cfg(test)]
mod tests;

use std::{env, io};

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse},
    resource::v1::Resource,
};
use prost::Message;

pub use self::settings::{OtlpError, OtlpSettings, host_resource};
use crate::{
    model::number::duration,
    outputs::{
        client::{Answer, Client, ClientSettings, Failure, Headers},
        sink::{DeliveryError, Sink},
        target::{Content, OutputKind, Target, is_gzip},
    },
    pipeline::records::Records,
};

fn client(settings: &OtlpSettings, signal: &str) -> Result<Client, OtlpError> {
    let endpoint = settings.endpoint(signal)?;
    Ok(Client::new(ClientSettings {
        shown: endpoint.to_string(),
        endpoint,
        headers: settings.headers.clone(),
        content_type: "application/x-protobuf",
        gzip: settings.gzip,
        timeout: settings.timeout,
        ca: settings.ca.clone(),
    })?)
}

fn read<M: Message + Default>(answer: Answer<'_>, secrets: &[&str]) -> Result<M, Failure> {
    answer::interpret(answer, Timestamp::now(), secrets)
}

/// Sends records in JSON as log records.
#[derive(Debug)]
pub struct OtlpLogs {
    client: Client,
    resource: Resource,
    records: usize,
    bytes: usize,
}

impl OtlpLogs {
    /// Creates the output without connecting.
    ///
    /// # Errors
    /// If the settings cannot be used: the URL, or a certificate file.
    pub fn new(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        let (records, bytes) = (settings.records, settings.bytes);
        Ok(Self { client: client(settings, "logs")?, resource: settings.resource.clone(), records, bytes })
    }
}

impl Sink for OtlpLogs {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let count = records.within(self.bytes).min(self.records).max(1);
            let request = || logs::request(&self.resource, records.iter().take(count)).encode_to_vec();
            let answer: ExportLogsServiceResponse = self.client.post(count, request, read)?;
            let partial = answer.partial_success.unwrap_or_default();
            // The response has only the number of rejected records.
            let rejected = usize::try_from(partial.rejected_log_records).unwrap_or(0).min(count);
            records.take(count - rejected);
            self.client.rejected(rejected, &partial.error_message)?;
        }
        Ok(())
    }
}

/// Sends encoded `ExportMetricsServiceRequest`s, each of them a record, one at a time.
#[derive(Debug)]
pub struct OtlpMetrics {
    client: Client,
}

impl OtlpMetrics {
    /// Creates the output without connecting.
    ///
    /// # Errors
    /// See [`OtlpLogs::new`].
    pub fn new(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        Ok(Self { client: client(settings, "metrics")? })
    }
}

impl Sink for OtlpMetrics {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let request = || records.iter().next().map(<[u8]>::to_vec).unwrap_or_default();
            let answer: ExportMetricsServiceResponse = self.client.post(1, request, read)?;
            let partial = answer.partial_success.unwrap_or_default();
            // A record that was rejected in part counts as refused.
            self.client.rejected(usize::from(partial.rejected_data_points > 0), &partial.error_message)?;
            records.take(1);
        }
        Ok(())
    }
}

/// The kind `otlp`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "otlp",
    form: "otlp:URL",
    parse: |url| {
        let mut settings = OtlpSettings::new(url).map_err(|error| format!("otlp: {error}"))?;
        if let Some((name, headers)) = HEADERS.iter().find_map(|name| Some((name, env::var(name).ok()?))) {
            settings.headers = Headers::parse(&headers).map_err(|error| format!("${name}: {error}"))?;
        }
        Ok(Box::new(OtlpTarget { settings, signal: Signal::Logs }))
    },
};

/// Variables with headers, which may hold secrets that belong neither on a command line nor in a file.
const HEADERS: [&str; 2] = ["TCPTRACE_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];

/// A collector, for one signal.
#[derive(Clone, Debug)]
struct OtlpTarget {
    settings: OtlpSettings,
    signal: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Logs,
    Metrics,
}

impl Target for OtlpTarget {
    fn keys(&self) -> &'static [&'static str] {
        &["compress", "timeout", "ca"]
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "compress" => self.settings.gzip = is_gzip(value)?,
            "timeout" => self.settings.timeout = duration(value)?,
            _ => self.settings.ca = Some(value.into()),
        }
        Ok(())
    }

    fn content(&self) -> Content {
        match self.signal {
            Signal::Logs => Content::Json,
            Signal::Metrics => Content::Metrics,
        }
    }

    fn signals(&self) -> Option<[(&'static str, Box<dyn Target>); 2]> {
        let of = |signal| -> Box<dyn Target> { Box::new(Self { signal, ..self.clone() }) };
        Some([("logs", of(Signal::Logs)), ("metrics", of(Signal::Metrics))])
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(match self.signal {
            Signal::Logs => Box::new(OtlpLogs::new(&self.settings).map_err(io::Error::other)?),
            Signal::Metrics => Box::new(OtlpMetrics::new(&self.settings).map_err(io::Error::other)?),
        })
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}
