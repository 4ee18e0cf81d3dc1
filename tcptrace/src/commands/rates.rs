//! `tcptrace rates`: what happens per second.

use std::io::{self, IsTerminal as _};

use bytes::BytesMut;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    cli::args::{Format, RatesArgs},
    now::wall_offset,
    output::{Output, PATIENCE, tell},
    rates::{
        Meter,
        sample::{self, Sampler},
    },
    render::{
        csv::Csv,
        json::Json,
        rates::{RatesRenderer, RatesText},
    },
    runtime::{Stop, every},
    snapshot::Skipped,
};

/// Why a run failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Sample(#[from] sample::Error),
    #[error("cannot set up the handling of signals: {0}")]
    Signals(io::Error),
    #[error("cannot write to {target}: {source}")]
    Output { target: String, source: io::Error },
}

/// Prints a line for each interval until it is told to end, its time is over, enough was printed, or nobody reads any
/// more.
///
/// # Errors
/// Where the namespace that is chosen is not there or goes, or the output cannot be written.
pub async fn run(args: RatesArgs) -> Result<(), Error> {
    let target = args.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let mut stop = Stop::new().map_err(Error::Signals)?;
    let mut sampler = Sampler::new(args.netns.clone())?;
    let output =
        Output::open(args.output.as_deref()).map_err(|source| Error::Output { target: target.clone(), source })?;
    let measured = measure(&args, &mut sampler, &output, &mut stop).await;
    match output.finish(PATIENCE).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // `| head` has seen enough
        Err(source) => Err(Error::Output { target, source }),
        Ok(()) => Ok(measured?),
    }
}

/// Looks, waits and prints. A part of an interval that is left at the end is printed too: all lines together tell what
/// happened in the run.
async fn measure(
    args: &RatesArgs,
    sampler: &mut Sampler,
    output: &Output,
    stop: &mut Stop,
) -> Result<(), sample::Error> {
    let mut renderer = renderer(args);
    let first = sampler.round()?;
    let Skipped { namespaces_denied, processes_denied, .. } = first.skipped;
    if namespaces_denied + processes_denied > 0 {
        tell(format_args!(
            "not counted: {namespaces_denied} network namespaces that may not be entered; {processes_denied} \
             processes may not be looked at, and may have others; CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed"
        ));
    }
    let mut meter = Meter::new(first);
    let mut ticks = every(args.interval);
    stop.deadline = args.duration.map(|duration| Instant::now() + duration);
    for line in 1.. {
        let stopped = tokio::select! {
            biased;
            _ = stop.reached() => true,
            _ = ticks.tick() => false,
        };
        let rates = meter.ingest(sampler.round()?);
        let mut text = BytesMut::new();
        renderer.rates(&mut text, &rates, wall_offset());
        let written = tokio::select! {
            biased;
            written = output.write(text.freeze()) => written.is_ok(),
            _ = stop.reached() => false,
        };
        if stopped || !written || args.count == Some(line) {
            break;
        }
    }
    Ok(())
}

fn renderer(args: &RatesArgs) -> RatesRenderer {
    match args.format {
        Format::Json => RatesRenderer::Json(Json::default()),
        Format::Csv => RatesRenderer::Csv(Csv::default()),
        Format::Text => {
            let on_terminal = args.output.is_none() && io::stdout().is_terminal();
            RatesRenderer::Text(RatesText::new(TimeZone::system(), on_terminal))
        }
    }
}
