//! `tcptrace --aggregate`: the programs count, and their maps are read for each summary.

use std::{io, mem};

use bytes::BytesMut;
use tokio::time::{Instant, timeout};

use crate::{
    aggregate::{By, Counts},
    app::{Error, ReadyFile, due, start, target},
    bpf::{
        aggregate::CountTables,
        probes::{Attached, KernelCounters},
    },
    cgroup,
    cli::settings::Settings,
    losses::Losses,
    now::{now_ns, wall_offset},
    output::{PATIENCE, tell},
    render::{CgroupLookup, text::losses_line},
    report::Report,
    runtime::every,
    session::Renderer,
    state::StateSet,
};

/// Counts until it is told to end, its time is over, or nobody reads any more.
///
/// # Errors
/// Where tracing cannot start, the maps cannot be read, or the output cannot be written.
pub async fn run(mut settings: Settings, by: By) -> Result<(), Error> {
    let (output, mut stop, attached) = start(&mut settings)?;
    let target = target(&settings);
    let Attached { probes, counters, counts, .. } = attached;
    let start_ns = now_ns();
    let mut run = Run {
        by,
        counters,
        tables: counts,
        counted: Counts::default(),
        counted_ns: start_ns,
        find_cgroup: Box::new(cgroup::lookup()),
        renderer: settings.renderer,
        states: settings.session.states,
        text: BytesMut::new(),
    };
    stop.deadline = settings.duration.map(|duration| Instant::now() + duration);
    let ready = settings.ready_file.map(ReadyFile::create).transpose()?;
    let mut intervals = settings.interval.map(every);
    let reason = loop {
        tokio::select! {
            biased;
            reason = stop.reached() => break reason,
            () = due(&mut intervals) => {}
        }
        run.end_interval()?;
        let piece = run.text.split().freeze();
        tokio::select! {
            biased;
            written = output.write(piece.clone()) => {
                if written.is_err() {
                    break "closed";
                }
            }
            reason = stop.reached() => {
                run.text.extend_from_slice(&piece);
                break reason;
            }
        }
    };
    drop(ready);
    drop(probes); // detached: what is counted now is all there will be
    let losses = run.finish(start_ns, reason)?;
    let late = timeout(PATIENCE, output.write(run.text.freeze())).await.is_err();
    tell(losses_line(&losses));
    match output.finish(PATIENCE).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // `| head` has seen enough
        Ok(()) if late => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader did not take all in time")),
        result => result,
    }
    .map_err(|source| Error::Output { target, source })
}

/// What a run works with once all is attached.
struct Run {
    by: By,
    counters: KernelCounters,
    tables: CountTables,
    /// What was counted until the last summary.
    counted: Counts,
    /// CLOCK_MONOTONIC of that, in ns.
    counted_ns: u64,
    find_cgroup: CgroupLookup,
    renderer: Renderer,
    /// States of the filter.
    states: StateSet,
    /// Output that was not handed over yet.
    text: BytesMut,
}

impl Run {
    /// Writes the summary since the last one.
    fn end_interval(&mut self) -> Result<(), Error> {
        let before_ns = self.counted_ns;
        let before = mem::take(&mut self.counted);
        let losses = self.read()?;
        self.write(&self.counted.since(&before), before_ns, false, losses);
        Ok(())
    }

    /// Writes the summary of the whole run, and the last record; gives what was lost.
    fn finish(&mut self, start_ns: u64, reason: &str) -> Result<Losses, Error> {
        let losses = self.read()?;
        let counted = mem::take(&mut self.counted);
        self.write(&counted, start_ns, true, losses.clone());
        if let Renderer::Json(json) = &mut self.renderer {
            json.end(&mut self.text, wall_offset(), self.counted_ns, reason, &losses);
        }
        Ok(losses)
    }

    /// Reads the maps; gives what was lost since the start.
    fn read(&mut self) -> Result<Losses, Error> {
        self.counted_ns = now_ns();
        self.counted = self.tables.read()?;
        let mut losses = Losses::default();
        losses.set_kernel(&self.counters.read()?, self.counters.passed_over());
        (losses.received, losses.undecodable) = self.counted.totals();
        losses.sent = losses.received;
        Ok(losses)
    }

    /// Writes the summary of what was counted since `since_ns`.
    fn write(&mut self, counted: &Counts, since_ns: u64, is_final: bool, losses: Losses) {
        let span = (is_final, self.counted_ns, self.counted_ns.saturating_sub(since_ns));
        let report: Report = counted.report(self.by, &mut self.find_cgroup, span, losses);
        match &mut self.renderer {
            Renderer::Text(text) => text.report(&mut self.text, &report, self.states),
            Renderer::Json(json) => json.report(&mut self.text, &report, wall_offset()),
            Renderer::Csv(csv) => csv.report(&mut self.text, &report, wall_offset()),
            Renderer::Story(..) | Renderer::Stuck(_) => {} // made of events
        }
    }
}
