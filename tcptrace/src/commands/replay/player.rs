//! Feeds the inputs of a recording to a session, and the session's records to the outputs.

use std::{
    borrow::Cow,
    cell::RefCell,
    ops::ControlFlow,
    rc::Rc,
    time::{Duration, Instant},
};

use tcptrace_common::record::Header as RecordHeader;
use zerocopy::FromBytes as _;

use super::{
    files::Recording,
    names::{Known, names},
};
use crate::{
    commands::{
        delivery::{self, push, pushes},
        settings::Settings,
        trace::{run::report_end, threads},
    },
    findings::Severity,
    model::{decode::NetnsAlias, keyed::KeyedMap, processes::ProcessNames, socket::ListedSocket},
    outputs::{Outputs, messages::warn},
    pipeline::{
        input::Input,
        recording::{
            Error,
            anonymize::Anonymizer,
            frames::{Frame, visit},
        },
        session::Session,
    },
    render::context::Context,
    sys::process::usage,
};

/// Bytes that are passed on at once; then the outputs are waited for.
const PIECE_BYTES: usize = 1 << 18;
/// Most summaries of intervals in which nothing was recorded.
const MAX_INTERVALS: u64 = 10_000;
/// Most listed sockets that are remembered for the view of sockets.
const MAX_LISTED: usize = 1 << 20;

/// Which part of a recording is shown, and how fast.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::commands) struct Window {
    /// CLOCK_MONOTONIC in ns.
    pub from_ns: Option<u64>,
    pub to_ns: Option<u64>,
    /// How many times faster than it was.
    pub speed: Option<f64>,
}

/// How a replay ended.
pub(in crate::commands) struct Played {
    /// The severity of the worst finding that was open at the end.
    pub worst: Option<Severity>,
    /// Number of events, findings and stories written.
    pub written: u64,
}

/// When summaries are written.
#[derive(Clone, Copy, Debug)]
enum Intervals {
    /// When the run wrote them.
    AsRecorded,
    Never,
    /// Next time, and the time between two, in ns.
    Every(u64, u64),
}

/// Called with the time of the recording in ns before the session goes on; breaks to stop.
pub(super) type Pacer = Box<dyn FnMut(&mut Session, u64) -> ControlFlow<()>>;

/// A replay.
pub(in crate::commands) struct Player {
    /// Decides when it goes on, if it is shown on a screen.
    pub(super) pacer: Option<Pacer>,
    recording: Rc<Recording>,
    pub(in crate::commands) session: Session,
    outputs: Outputs,
    sends_metrics: bool,
    /// True if arguments of processes are shown.
    with_args: bool,
    pub(super) known: Rc<RefCell<Known>>,
    /// Listed sockets by cookie, as of their last listing.
    pub(in crate::commands) listed: KeyedMap<u64, ListedSocket>,
    window: Window,
    intervals: Intervals,
    /// Time of the last input, in ns.
    pub(in crate::commands) now_ns: u64,
    /// True once the clock has passed the end of the window: only records from before it still count.
    is_past: bool,
    is_finished: bool,
    /// Why the run ended.
    pub(in crate::commands) reason: String,
    /// Replaces names and addresses, if that is wanted.
    pub(in crate::commands) anonymizer: Option<Anonymizer>,
    begun: Option<(Instant, u64)>,
    lost: u64,
}

impl Player {
    pub(in crate::commands) fn start(
        settings: Settings,
        recording: impl Into<Rc<Recording>>,
        window: Window,
    ) -> anyhow::Result<Self> {
        let recording = recording.into();
        let header = &recording.header;
        let known = Rc::new(RefCell::new(Known::default()));
        let names_within_ns = u64::try_from(settings.read_every.as_nanos()).unwrap_or(u64::MAX);
        let names = names(header, &known, settings.names.resolve);
        let context = Context { names_within_ns, ..Context::new(header.wall, names) };
        let outputs = delivery::open(&settings.outputs)?.start()?;
        let interval_ns = settings.interval.and_then(|interval| u64::try_from(interval.as_nanos()).ok());
        let intervals = match interval_ns {
            Some(every_ns) if header.interval_ns == Some(every_ns) => Intervals::AsRecorded,
            Some(every_ns) => {
                Intervals::Every(window.from_ns.unwrap_or(header.start_ns).saturating_add(every_ns), every_ns.max(1))
            }
            None if settings.once => Intervals::Never,
            None => Intervals::AsRecorded,
        };
        let mut session = Session::new(settings.session, settings.routes, context, header.start_ns);
        session.netns_alias = header.netns_alias.map(|(name, inode)| NetnsAlias { name, inode });
        if window.from_ns.is_some() {
            session.mute();
        }
        Ok(Self {
            sends_metrics: pushes(&settings.outputs),
            with_args: settings.names.with_args,
            now_ns: header.start_ns,
            recording,
            pacer: None,
            session,
            outputs,
            known,
            listed: KeyedMap::default(),
            window,
            intervals,
            is_past: false,
            is_finished: false,
            reason: "closed".to_owned(),
            anonymizer: None,
            begun: None,
            lost: 0,
        })
    }

    /// Plays all of it, and waits until everything is delivered.
    pub(in crate::commands) fn play(mut self) -> anyhow::Result<Played> {
        self.read()?;
        self.hand_over();
        if self.sends_metrics
            && let Some(snapshot) = self.session.metrics(self.now_ns, usage(), &threads::states(&self.outputs), &[])
        {
            push(&self.outputs, &snapshot);
            self.outputs.wait();
        }
        self.outputs.drain();
        let outputs = threads::states(&self.outputs);
        self.session.end(self.now_ns, &self.reason, &outputs);
        self.outputs.push(self.session.take());
        let open = self.session.open(self.now_ns).map(|(open, _)| open).unwrap_or_default();
        let worst = open.iter().map(|finding| finding.detection.severity).max();
        self.outputs.end().map_err(anyhow::Error::msg)?;
        report_end(&self.session.losses, &outputs);
        Ok(Played { worst, written: self.session.written() })
    }

    /// Feeds the session until the window or the recording ends.
    pub(in crate::commands) fn read(&mut self) -> anyhow::Result<()> {
        let recording = Rc::clone(&self.recording);
        recording.chunks(|chunk| {
            let mut is_over = false;
            let read = visit::<Error>(&chunk.bytes, |frame| {
                if !is_over {
                    let mut anonymizer = self.anonymizer.take();
                    let frame = match &mut anonymizer {
                        Some(anonymizer) => anonymizer.frame(frame),
                        None => frame,
                    };
                    is_over = self.take(frame).is_break();
                    self.anonymizer = anonymizer;
                }
                Ok(())
            });
            read?;
            Ok(!is_over)
        })?;
        if self.lost > 0 {
            warn(format_args!("{} inputs of the run are missing: its disk was too slow", self.lost));
        }
        if !self.is_finished {
            // The run was killed, or the window ends before it.
            let until_ns = self.window.to_ns.unwrap_or(self.now_ns);
            self.now_ns = until_ns;
            self.unmute_at(until_ns);
            self.session.apply(&Input::Evaluated(until_ns));
            self.session.apply(&Input::Finished(until_ns));
        }
        Ok(())
    }

    /// What is wrong with the recording, in words.
    pub(in crate::commands) fn flaws(&self) -> Vec<String> {
        let lost = (self.lost > 0).then(|| format!("{} inputs are missing, because the disk was too slow", self.lost));
        lost.into_iter().chain(self.recording.flaws.take()).collect()
    }

    fn take(&mut self, frame: Frame<'_>) -> ControlFlow<()> {
        match frame {
            Frame::Cgroup(id, path) => self.known.borrow_mut().add_cgroup(id, path),
            Frame::Owner(owner) => _ = self.session.context.names.processes.is_settled(&owner),
            Frame::Refused(pid, start) => self.known.borrow_mut().refuse((pid, start)),
            Frame::Lost(inputs) => self.lost += inputs,
            Frame::Sample(_) => {}
            Frame::Input(Input::Process(question, answer)) if !self.with_args => {
                let mut answer = answer.into_owned();
                answer.names = answer.names.map(|names| ProcessNames { args: None, ..names });
                return self.feed(&Input::Process(question, Cow::Owned(answer)));
            }
            Frame::Input(input) => {
                let flow = self.feed(&input);
                self.known.borrow_mut().input_taken();
                return flow;
            }
        }
        ControlFlow::Continue(())
    }

    fn feed(&mut self, input: &Input<'_>) -> ControlFlow<()> {
        let was_past = self.is_past;
        self.is_past |= self.window.to_ns.zip(input.time_ns()).is_some_and(|(to_ns, time_ns)| time_ns > to_ns);
        match input {
            Input::Record(record) => {
                let time_ns = RecordHeader::read_from_prefix(record).map_or(0, |(header, _)| header.time_ns);
                if self.window.to_ns.is_some_and(|to_ns| time_ns > to_ns) {
                    return ControlFlow::Continue(());
                }
                self.unmute_at(time_ns);
                self.session.apply(input);
                if self.session.rendered() >= PIECE_BYTES {
                    self.hand_over();
                }
                return if self.session.is_complete() { self.complete() } else { ControlFlow::Continue(()) };
            }
            Input::Clock(now_ns, _) => {
                if was_past {
                    return ControlFlow::Break(());
                }
                if !self.is_past {
                    self.hand_over(); // as the run did before each turn
                    self.now_ns = *now_ns;
                    self.unmute_at(*now_ns);
                    self.pace();
                    self.end_interval();
                    if let Some(pacer) = &mut self.pacer {
                        pacer(&mut self.session, *now_ns)?;
                    }
                }
            }
            _ if self.is_past => return ControlFlow::Continue(()),
            Input::IntervalEnded(_) if !matches!(self.intervals, Intervals::AsRecorded) => {
                return ControlFlow::Continue(());
            }
            Input::Listed(_, snapshot) => self.remember(&snapshot.sockets),
            Input::Finished(now_ns) => {
                self.now_ns = *now_ns;
                self.unmute_at(*now_ns);
                self.is_finished = true;
            }
            Input::Ended(reason) => {
                // Other words than those of the program would be no JSON.
                const REASONS: [&str; 8] =
                    ["interrupted", "terminated", "duration", "count", "closed", "once", "netns_gone", "failed"];
                self.reason = REASONS.iter().find(|known| **known == reason).unwrap_or(&"closed").to_string();
            }
            _ => {}
        }
        self.session.apply(input);
        if self.session.rendered() >= PIECE_BYTES || self.window.speed.is_some() {
            self.hand_over();
        }
        if self.outputs.are_over() {
            return ControlFlow::Break(()); // `| head` has read enough
        }
        if self.session.is_complete() { self.complete() } else { ControlFlow::Continue(()) }
    }

    fn complete(&mut self) -> ControlFlow<()> {
        "count".clone_into(&mut self.reason);
        ControlFlow::Break(())
    }

    fn unmute_at(&mut self, now_ns: u64) {
        if let Some(from_ns) = self.window.from_ns.filter(|from_ns| now_ns >= *from_ns) {
            self.window.from_ns = None;
            self.session.unmute(from_ns);
        }
    }

    fn end_interval(&mut self) {
        while let Intervals::Every(next_ns, every_ns) = self.intervals
            && next_ns <= self.now_ns
        {
            // A recording may jump by years: that is one interval.
            let skipped = Some((self.now_ns - next_ns) / every_ns).filter(|many| *many > MAX_INTERVALS).unwrap_or(0);
            let next_ns = next_ns + skipped * every_ns;
            self.session.apply(&Input::IntervalEnded(next_ns));
            self.intervals = Intervals::Every(next_ns.saturating_add(every_ns), every_ns);
        }
    }

    /// Waits until the time of the last input has come again.
    fn pace(&mut self) {
        let Some(speed) = self.window.speed.filter(|_| self.window.from_ns.is_none()) else { return };
        let (begun, begun_ns) = *self.begun.get_or_insert((Instant::now(), self.now_ns));
        let due = Duration::from_nanos(self.now_ns.saturating_sub(begun_ns)).div_f64(speed);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }

    fn remember(&mut self, sockets: &[ListedSocket]) {
        for socket in sockets {
            if let Some(cookie) = socket.cookie.filter(|_| self.listed.len() < MAX_LISTED) {
                self.listed.insert(cookie, *socket);
            }
        }
    }

    /// Passes on what was rendered, and waits for the outputs: nothing may be lost here.
    fn hand_over(&mut self) {
        self.outputs.push(self.session.take());
        self.outputs.wait();
    }
}
