//! Opens the outputs and the metrics server that a user wants. This is the only place that knows all sinks.

use std::{io, net::SocketAddr};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    analysis::metrics,
    cli::{outputs::OutputSpec, target::Target},
    outputs::{
        FileSink, Journald, OtlpLogs, OtlpMetrics, Output, Outputs, Sink, Standard, Syslog, host_name,
        http::{Server, answers::Query},
        messages::{tell, warn},
    },
    pipeline::records::RecordsBuilder,
    render::metrics::otlp,
};

#[cfg(feature = "kafka")]
use crate::outputs::Kafka;

/// Why an output could not be opened.
#[derive(Debug, Error)]
#[error("cannot write to {target}: {source}")]
pub struct Error {
    target: String,
    source: io::Error,
}

pub(crate) fn open(specs: &[OutputSpec]) -> Result<Outputs, Error> {
    let open = |spec: &OutputSpec| {
        let sink: Box<dyn Sink> = match &spec.target {
            Target::Stdout => Box::new(Standard::output()?),
            Target::File(file) => Box::new(FileSink::open(file.clone())?),
            Target::Journald(path) => Box::new(Journald::new(path.clone())),
            Target::Syslog(target) => Box::new(Syslog::new(target.clone(), host_name().unwrap_or_default())),
            Target::Otlp(settings) | Target::OtlpLogs(settings) => {
                Box::new(OtlpLogs::new(settings).map_err(io::Error::other)?)
            }
            Target::OtlpMetrics(settings) => Box::new(OtlpMetrics::new(settings).map_err(io::Error::other)?),
            Target::Prometheus(_) => return Err(io::Error::other("it serves metrics and takes no records")),
            #[cfg(feature = "kafka")]
            Target::Kafka(settings) => Box::new(Kafka::new(settings.clone()).map_err(io::Error::other)?),
        };
        let takes_metrics = matches!(spec.target, Target::OtlpMetrics(_));
        let output = Output::start(spec.name.clone(), sink, spec.queue_bytes, |words| warn(words))?;
        Ok((output, takes_metrics))
    };
    let named = |spec: &OutputSpec| open(spec).map_err(|source| Error { target: spec.name.clone(), source });
    specs.iter().map(named).collect::<Result<_, _>>().map(Outputs::new)
}

/// Serves metrics at this address, if any, until the server is dropped.
pub(crate) fn serve(address: Option<SocketAddr>) -> Result<(Option<Server>, Option<mpsc::Receiver<Query>>), Error> {
    let Some(address) = address else { return Ok((None, None)) };
    let target = || format!("prometheus:{address}");
    let (server, queries) = Server::start(address).map_err(|source| Error { target: target(), source })?;
    tell(format_args!("serving metrics at http://{}/metrics", server.address()));
    Ok((Some(server), Some(queries)))
}

/// True if an output wants metrics to be sent.
pub(crate) fn pushes(outputs: &[OutputSpec]) -> bool {
    outputs.iter().any(|output| matches!(output.target, Target::OtlpMetrics(_)))
}

/// Sends metrics to the outputs that take them.
pub(crate) fn push(outputs: &Outputs, snapshot: &metrics::Snapshot) {
    let mut request = RecordsBuilder::default();
    request.add(|to| to.extend_from_slice(&otlp::encode(snapshot, &host_name().unwrap_or_default())));
    outputs.push_metrics(&request.take());
}

/// The next query of the metrics server; waits forever if there is none.
pub(crate) async fn next_query(queries: &mut Option<mpsc::Receiver<Query>>) -> Query {
    if let Some(open) = queries
        && let Some(query) = open.recv().await
    {
        return query;
    }
    *queries = None;
    std::future::pending().await
}
