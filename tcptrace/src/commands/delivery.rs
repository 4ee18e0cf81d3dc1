//! Starts the outputs that the user asks for, and the server of metrics.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
};

use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    analysis::metrics,
    cli::outputs::OutputSpec,
    outputs::{
        DeliveryError, Output, Outputs, Sink, host_name,
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

/// Writes what a command that soon ends prints, without a queue and a thread.
pub(crate) struct Writer {
    target: String,
    to: To,
}

enum To {
    Stdout(io::Stdout),
    Sink(Box<dyn Sink>),
    /// The reader has stopped early (`| head`), which is no error.
    Closed,
}

impl Writer {
    pub(crate) fn open(spec: &OutputSpec) -> Result<Self, Error> {
        let named = |source| Error { target: spec.name.clone(), source };
        let to = match spec.target.is_stdout() {
            true => To::Stdout(io::stdout()),
            false => To::Sink(spec.target.open().map_err(named)?),
        };
        Ok(Self { target: spec.name.clone(), to })
    }

    /// Writes whole lines.
    pub(crate) fn write(&mut self, text: &[u8]) -> Result<(), Error> {
        let written = match &mut self.to {
            To::Stdout(stdout) => stdout.write_all(text).and_then(|()| stdout.flush()),
            To::Sink(sink) => deliver(sink.as_mut(), text),
            To::Closed => Ok(()),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.to = To::Closed,
            Err(source) => return Err(Error { target: self.target.clone(), source }),
            Ok(()) => {}
        }
        Ok(())
    }

    /// True if nobody reads any more.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.to, To::Closed)
    }

    /// Ends the output.
    pub(crate) fn end(self) -> Result<(), Error> {
        let To::Sink(mut sink) = self.to else { return Ok(()) };
        sink.finish().map_err(|error| Error { target: self.target, source: io::Error::other(error.to_string()) })
    }
}

/// Delivers each line as a record.
fn deliver(sink: &mut dyn Sink, text: &[u8]) -> io::Result<()> {
    let mut records = RecordsBuilder::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        records.add(|to| to.extend_from_slice(line));
    }
    let mut records = records.take();
    while !records.is_empty() {
        match sink.deliver(&mut records) {
            Ok(()) => {}
            Err(DeliveryError::Closed(reason)) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason)),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(())
}

/// Outputs that are open, but have no threads yet.
pub(crate) struct Opened(Vec<(OutputSpec, Box<dyn Sink>)>);

/// Opens outputs. Their threads start later: [`Opened::start`].
pub(crate) fn open(specs: &[OutputSpec]) -> Result<Opened, Error> {
    let named = |spec: &OutputSpec| {
        let sink = spec.target.open().map_err(|source| Error { target: spec.name.clone(), source })?;
        Ok((spec.clone(), sink))
    };
    specs.iter().map(named).collect::<Result<_, _>>().map(Opened)
}

impl Opened {
    /// Starts a thread for each of them.
    pub(crate) fn start(self) -> Result<Outputs, Error> {
        let start = |(spec, sink): (OutputSpec, Box<dyn Sink>)| {
            let takes_metrics = spec.target.content() == Content::Metrics;
            let output = Output::start(spec.name.clone(), sink, spec.queue_bytes, |words| warn(words));
            let output = output.map_err(|source| Error { target: spec.name, source })?;
            Ok((output, takes_metrics))
        };
        self.0.into_iter().map(start).collect::<Result<_, _>>().map(Outputs::new)
    }
}

/// Binds the address at which metrics are served, if any: that may take rights that are given up later.
pub(crate) fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let named = |address| move |source| Error { target: format!("prometheus:{address}"), source };
    address.map(|address| TcpListener::bind(address).map_err(named(address))).transpose()
}

/// Serves metrics to this address, if any, until the server is dropped.
pub(crate) fn serve(to: Option<TcpListener>) -> Result<(Option<Server>, Option<mpsc::Receiver<Query>>), Error> {
    let Some(listener) = to else { return Ok((None, None)) };
    let target = listener.local_addr().map_or_else(|_| "prometheus".to_owned(), |at| format!("prometheus:{at}"));
    let (server, queries) = Server::on(listener).map_err(|source| Error { target, source })?;
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
