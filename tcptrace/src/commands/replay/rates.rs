//! `tcptrace replay FILE rates`: the samples of the kernel's counters that a recording has.

use std::{thread, time::Duration};

use anyhow::bail;
use bytes::BytesMut;

use super::{files::Recording, player::Window};
use crate::{
    analysis::rates::meter::{Meter, Rates, Round},
    cli::args::RatesArgs,
    commands::{
        delivery,
        rates::{render::RatesRenderer, renderer},
    },
    model::time::WallOffset,
    outputs::Outputs,
    pipeline::{
        input::Input,
        recording::{
            Error,
            frames::{Frame, visit},
        },
        records::RecordsBuilder,
    },
    sys::terminal::screen,
};

/// Prints a line for each interval between samples within the window, or only the last one. `netns` is the only namespace
/// whose counters count.
pub(super) fn show(
    args: &RatesArgs,
    recording: &Recording,
    netns: Option<u32>,
    window: Window,
    only_last: bool,
) -> anyhow::Result<()> {
    let outputs = delivery::open(&args.output.to)?.start()?;
    let renderers = args.output.to.iter().map(|spec| renderer(args, spec)).collect();
    let given_to_ns = window.to_ns;
    let mut lines =
        Lines { args, netns, window, given_to_ns, meter: None, rest: None, renderers, outputs, written: 0, samples: 0 };
    let (mut wall, mut last) = (recording.header.wall, None);
    recording.chunks(|chunk| {
        let mut goes_on = true;
        visit::<Error>(&chunk.bytes, |frame| {
            match frame {
                Frame::Input(Input::Clock(_, offset)) => wall = offset,
                Frame::Sample(round) if goes_on => {
                    let rates = lines.take(round.into_owned());
                    goes_on = !lines.is_over();
                    if only_last {
                        last = rates.map(|rates| (rates, wall)).or(last.take());
                    } else if let Some(rates) = rates {
                        lines.write(&rates, wall);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(goes_on)
    })?;
    // The last, shorter interval, so that all lines together cover everything.
    let rest = lines.rest.take().filter(|_| !lines.is_over()).zip(lines.meter.as_mut());
    let rest = rest.map(|(round, (meter, _))| (meter.ingest(round), wall));
    if let Some((rates, wall)) = rest.or(last) {
        lines.write(&rates, wall);
    }
    if lines.samples < 2 {
        bail!(
            "it has {} of the kernel's counters, and rates need two: it was recorded for less than a second, or by an older \
             tcptrace; `tcptrace replay FILE summary --interval 1s` counts its events instead",
            if lines.samples == 0 { "no sample" } else { "one sample" }
        );
    }
    lines.outputs.end().map_err(anyhow::Error::msg)
}

/// The lines of the output.
struct Lines<'a> {
    args: &'a RatesArgs,
    netns: Option<u32>,
    window: Window,
    /// The last sample, of an interval that is not over.
    rest: Option<Round>,
    /// The end of the window without the limit on its duration.
    given_to_ns: Option<u64>,
    meter: Option<(Meter, u64)>,
    renderers: Vec<RatesRenderer>,
    outputs: Outputs,
    written: u64,
    samples: u64,
}

impl Lines<'_> {
    /// Takes a sample; returns the rates since the last one that counts, if the interval is over.
    fn take(&mut self, mut round: Round) -> Option<Rates> {
        self.samples += 1;
        let now_ns = round.mono_ns;
        if self.window.to_ns.is_some_and(|to_ns| now_ns > to_ns) {
            return None;
        }
        round.readings.retain(|inode, _| self.netns.is_none_or(|netns| netns == *inode));
        // Samples come a little early or late.
        let interval_ns = u64::try_from(self.args.interval.as_nanos()).unwrap_or(u64::MAX) / 10 * 9;
        match &mut self.meter {
            Some((meter, last_ns)) if self.window.from_ns.is_none_or(|from_ns| from_ns < now_ns) => {
                if now_ns.saturating_sub(*last_ns) < interval_ns {
                    self.rest = Some(round);
                    return None;
                }
                self.rest = None;
                *last_ns = now_ns;
                Some(meter.ingest(round))
            }
            meter => {
                if let Some(duration) = self.args.duration {
                    let end_ns = now_ns.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
                    self.window.to_ns = Some(self.given_to_ns.map_or(end_ns, |to_ns| to_ns.min(end_ns)));
                }
                *meter = Some((Meter::new(round), now_ns));
                None
            }
        }
    }

    fn is_over(&self) -> bool {
        self.args.count.is_some_and(|count| self.written >= count) || self.outputs.are_over()
    }

    fn write(&mut self, rates: &Rates, wall: WallOffset) {
        if let Some(speed) = self.window.speed {
            thread::sleep(Duration::from_nanos(rates.span_ns).div_f64(speed));
        }
        let records = self.renderers.iter_mut().zip(&self.args.output.to).map(|(renderer, spec)| {
            let mut text = RecordsBuilder::default();
            let screen = screen().filter(|_| spec.target.is_stdout());
            text.add(|to: &mut BytesMut| renderer.rates(to, rates, wall, screen));
            text.take()
        });
        self.outputs.push(records);
        self.written += 1;
    }
}
