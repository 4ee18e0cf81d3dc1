//! Outputs over the OpenTelemetry protocol (OTLP 1.x), by HTTP with protobuf: records as logs, and metrics.
//!
//! Delivery is at least once, as the protocol specifies: if a response is lost, the request is sent again.

mod answer;
mod client;
mod logs;
mod settings;
#[cfg(test)]
mod tests;

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse},
    resource::v1::Resource,
};
use prost::Message as _;

use self::client::Client;
pub use self::settings::{OtlpError, OtlpHeaders, OtlpSettings, host_resource};
use crate::{
    outputs::sink::{DeliveryError, Sink},
    pipeline::records::Records,
};

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
        Ok(Self { client: Client::new(settings, "logs")?, resource: settings.resource.clone(), records, bytes })
    }
}

impl Sink for OtlpLogs {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let count = records.within(self.bytes).min(self.records).max(1);
            let request = || logs::request(&self.resource, records.iter().take(count)).encode_to_vec();
            let answer: ExportLogsServiceResponse = self.client.post(count, request)?;
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
        Ok(Self { client: Client::new(settings, "metrics")? })
    }
}

impl Sink for OtlpMetrics {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let request = || records.iter().next().map(<[u8]>::to_vec).unwrap_or_default();
            let answer: ExportMetricsServiceResponse = self.client.post(1, request)?;
            let partial = answer.partial_success.unwrap_or_default();
            // A record that was rejected in part counts as refused.
            self.client.rejected(usize::from(partial.rejected_data_points > 0), &partial.error_message)?;
            records.take(1);
        }
        Ok(())
    }
}
