//! Starts the outputs that the user asks for, and the server of metrics.

use std::{io, net::SocketAddr};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    analysis::metrics,
    cli::outputs::OutputSpec,
    outputs::{
        Output, Outputs, host_name,
        http::{Server, answers::Query},
        messages::{info, warn},
        target::Content,
    },
    pipeline::records::RecordsBuilder,
    render::metrics::otlp,
};

/// Why an output could not be opened.
#[derive(Debug, Error)]
#[error("cannot write to {target}: {source}")]
pub struct Error {
    target: String,
    source: io::Error,
}

pub(crate) fn open(specs: &[OutputSpec]) -> Result<Outputs, Error> {
    let open = |spec: &OutputSpec| {
        let takes_metrics = spec.target.content() == Content::Metrics;
        let output = Output::start(spec.name.clone(), spec.target.open()?, spec.queue_bytes, |words| warn(words))?;
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
    info(format_args!("serving metrics at http://{}/metrics", server.address()));
    Ok((Some(server), Some(queries)))
}

/// True if an output wants metrics to be sent.
pub(crate) fn pushes(outputs: &[OutputSpec]) -> bool {
    outputs.iter().any(|output| output.target.content() == Content::Metrics)
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
