//! `tcptrace rates`: the kernel's TCP counters as rates per second. `sample.rs` reads them.

pub mod render;
pub mod sample;

use std::io;

use thiserror::Error;
use tokio::time::Instant;

use crate::{
    analysis::rates::meter::Meter,
    cli::{
        args::{RatesArgs, values::Format},
        outputs::OutputSpec,
        terminal::{is_colored, understands_codes},
    },
    commands::{
        delivery,
        rates::{
            render::{RatesRenderer, RatesText},
            sample::Sampler,
        },
        settings::time_style,
    },
    listing::skipped,
    outputs::{Outputs, messages::warn},
    pipeline::records::RecordsBuilder,
    render::{csv::Csv, json::Json},
    sys::{
        clock::wall_offset,
        signals::{Stop, begin_shutdown, every},
        terminal::{Keys, screen},
    },
};

/// Why rates could not be read or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Sample(#[from] sample::Error),
    #[error("cannot set up signal handling: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Open(#[from] delivery::Error),
    #[error("{0}")]
    Outputs(String),
}

/// Prints a line for each interval until a signal or a limit ends the run, or nobody reads the output any more.
///
/// # Errors
/// If the chosen namespace does not exist or disappears, or the output cannot be written.
pub async fn run(args: RatesArgs) -> Result<(), Error> {
    let mut stop = Stop::new(false).map_err(Error::Signals)?;
    let mut sampler = Sampler::new(args.netns.clone())?;
    let outputs = delivery::open(&args.output.to)?.start()?;
    let is_screen = args.output.to.iter().any(|spec| spec.target.is_stdout()) && understands_codes();
    stop.keys = if is_screen { Keys::listen() } else { None };
    let measured = measure(&args, &mut sampler, &outputs, &mut stop).await;
    begin_shutdown();
    outputs.end().map_err(Error::Outputs)?;
    Ok(measured?)
}

/// Samples, waits and prints. The last, shorter interval is printed, too, so that all lines together cover the whole run.
async fn measure(
    args: &RatesArgs,
    sampler: &mut Sampler,
    outputs: &Outputs,
    stop: &mut Stop,
) -> Result<(), sample::Error> {
    let mut renderers: Vec<_> = args.output.to.iter().map(|spec| (renderer(args, spec), spec)).collect();
    let first = sampler.round()?;
    skipped::warnings(&first.skipped).into_iter().for_each(warn);
    let mut meter = Meter::new(first);
    let mut ticks = every(args.interval);
    stop.deadline = args.duration.map(|duration| Instant::now() + duration);
    for line in 1.. {
        let stopped = tokio::select! {
            biased;
            _ = stop.wait() => true,
            _ = ticks.tick() => false,
        };
        let rates = meter.ingest(sampler.round()?);
        let records = renderers.iter_mut().map(|(renderer, spec)| {
            let mut text = RecordsBuilder::default();
            let screen = screen().filter(|_| spec.target.is_stdout());
            text.add(|to| renderer.rates(to, &rates, wall_offset(), screen));
            text.take()
        });
        outputs.push(records);
        if stopped || outputs.are_over() || args.count == Some(line) {
            break;
        }
    }
    Ok(())
}

pub(super) fn renderer(args: &RatesArgs, spec: &OutputSpec) -> RatesRenderer {
    match args.output.format_of(spec) {
        Format::Json => RatesRenderer::Json(Json::default()),
        Format::Csv => RatesRenderer::Csv(Csv::default()),
        Format::Text | Format::Nagios => {
            let color = is_colored(args.output.color, spec.target.is_stdout());
            RatesRenderer::Text(RatesText::new(time_style(&args.output), color))
        }
    }
}
