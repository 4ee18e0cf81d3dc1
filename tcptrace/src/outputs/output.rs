//! An output: a queue, and a thread that delivers the records in it.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::queue::{Next, Queue};
use crate::{
    model::output_state::OutputState,
    outputs::{
        counters::{Count, Counters},
        sink::{DeliveryError, Sink},
    },
    pipeline::records::Records,
    sys::workers::{self, Worker},
};

/// Pause before the first retry; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Upper limit on the pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Interval at which an idle sink is called.
const IDLE_EVERY: Duration = Duration::from_millis(500);

/// Why the rest of the records is not delivered if an output does not end.
pub(super) const HANGS: &str = "the receiver does not respond";

/// Delivers rendered records through a queue and a thread of its own.
#[derive(Debug)]
pub struct Output {
    name: String,
    pub(super) queue: Arc<Queue>,
    counters: Arc<Counters>,
    worker: Arc<Worker>,
}

impl Output {
    /// Starts the thread of an output, which messages call `name`. The queue holds at most `queue_bytes` of records.
    /// `report` gets each problem once until it is over.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        name: String,
        sink: Box<dyn Sink>,
        queue_bytes: usize,
        report: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_in("output", format!("output {name}"), || (), name, sink, queue_bytes, report)
    }

    /// As [`Self::start`], with the thread's name in the operating system and in messages. The thread first calls
    /// `prepare`.
    pub(crate) fn start_in(
        thread: &str,
        worker: String,
        prepare: fn(),
        name: String,
        mut sink: Box<dyn Sink>,
        queue_bytes: usize,
        report: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue_bytes));
        let counters = Arc::new(Counters::default());
        let (its_queue, its_counters, is_suppressing) = (Arc::clone(&queue), Arc::clone(&counters), Cell::new(false));
        let work = Work { name: name.clone(), queue: its_queue, counters: its_counters, is_suppressing };
        let (worker, _) = workers::spawn(thread, worker, move || {
            prepare();
            work.run(sink.as_mut(), &report);
        })?;
        Ok(Self { name, queue, counters, worker })
    }

    /// Queues records. Never blocks: if there is no room, the oldest queued records are dropped, and counted.
    pub fn push(&self, records: Records) {
        self.queue.push(records, &self.counters);
    }

    /// True if its thread hangs.
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.worker.problem().is_some()
    }

    /// True if nothing will be delivered any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Reopens files that may have been moved away.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until all queued records are delivered or given up, at most until `until`; returns true if they are.
    #[must_use]
    pub fn drained(&self, until: Instant) -> bool {
        self.queue.drained(until)
    }

    /// Ends the thread when the queue is empty, or at `until`.
    pub fn end_at(&self, until: Instant) {
        self.queue.end(until);
    }

    /// Waits for the thread to end, until shortly after `until`; returns true if it has. If not, some of its records
    /// may still be delivered later.
    #[must_use]
    pub fn has_ended(&self, until: Instant) -> bool {
        self.queue.ended(until + FIRST_PAUSE)
    }

    /// Ends the output when all records are delivered, or at `until`. If it hangs it is abandoned, and its records in
    /// flight count as dropped.
    pub fn end(&self, until: Instant) {
        self.end_at(until);
        if !self.has_ended(until) && self.queue.abandon(&self.counters) {
            self.counters.set_trouble(self.counters.trouble().or_else(|| Some(HANGS.to_owned())));
        }
    }

    /// True if its reader has gone.
    #[must_use]
    pub fn has_no_reader(&self) -> bool {
        self.counters.has_no_reader.get() > 0
    }

    /// Counts of its records so far, and what is wrong.
    #[must_use]
    pub fn state(&self) -> OutputState {
        let Counters { delivered, dropped, refused, suppressed, retries, queued_bytes, .. } = &*self.counters;
        let [delivered, dropped, refused, suppressed] = [delivered, dropped, refused, suppressed].map(Count::get);
        OutputState {
            name: self.name.clone(),
            delivered,
            dropped,
            refused,
            suppressed,
            waiting: self.counters.waiting(),
            retries: retries.get(),
            queued_bytes: queued_bytes.get(),
            trouble: self.counters.trouble(),
            has_no_reader: self.has_no_reader(),
        }
    }
}

impl Drop for Output {
    /// Without [`Output::end`], queued records are given up.
    fn drop(&mut self) {
        self.queue.end(Instant::now());
    }
}

/// The thread's part of an output.
struct Work {
    name: String,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// True since records were suppressed, until some are delivered.
    is_suppressing: Cell<bool>,
}

impl Drop for Work {
    fn drop(&mut self) {
        if thread::panicking() {
            self.counters.set_trouble(Some("a bug in tcptrace".to_owned()));
        }
        self.queue.over(&self.counters);
    }
}

impl Work {
    fn run(&self, sink: &mut dyn Sink, report: &dyn Fn(&str)) {
        loop {
            workers::alive();
            let done = match self.queue.next(&self.counters, IDLE_EVERY) {
                Next::Deliver(records) => self.deliver(sink, records, report),
                Next::Reopen => {
                    sink.reopen();
                    Ok(())
                }
                Next::Idle => sink.idle().or_else(|trouble| self.report_outcome(Err(trouble), report)),
                Next::End => {
                    let _ = sink.finish().or_else(|trouble| self.report_outcome(Err(trouble), report));
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Delivers all records, with a pause after each failure.
    fn deliver(&self, sink: &mut dyn Sink, mut records: Records, report: &dyn Fn(&str)) -> Result<(), Over> {
        let mut pause = FIRST_PAUSE;
        while !records.is_empty() {
            if self.queue.take_reopen() {
                sink.reopen();
            }
            let before = records.len();
            workers::alive();
            let result = sink.deliver(&mut records);
            let delivered = before - records.len();
            self.queue.count(|| self.counters.delivered.add(delivered));
            if delivered > 0 {
                pause = FIRST_PAUSE;
            }
            match result {
                Err(DeliveryError::Refused { records: count, .. }) => {
                    let count = count.clamp(1, records.len());
                    self.queue.count(|| self.counters.refused.add(count));
                    records.take(count);
                }
                Err(DeliveryError::Suppressed { records: count, .. }) => {
                    let count = count.clamp(1, records.len());
                    self.queue.count(|| self.counters.suppressed.add(count));
                    records.take(count);
                }
                Err(DeliveryError::Closed(_) | DeliveryError::Failed(_)) => self.give_up(&records),
                Ok(()) | Err(DeliveryError::Later(_)) => {}
            }
            let is_later = matches!(result, Err(DeliveryError::Later(_)));
            self.report_outcome(result, report)?;
            if records.is_empty() {
                break; // a problem that does not prevent delivery
            }
            if is_later || delivered == 0 && records.len() == before {
                self.counters.retries.add(1);
                workers::silent_for(pause);
                if !self.queue.pause(jittered(pause)) {
                    self.give_up(&records);
                    return Err(Over);
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }

    fn give_up(&self, records: &Records) {
        self.queue.count(|| self.counters.dropped.add(records.len()));
    }

    /// Reports a new problem, and the end of a problem.
    fn report_outcome(&self, result: Result<(), DeliveryError>, report: &dyn Fn(&str)) -> Result<(), Over> {
        let name = &self.name;
        let is_suppressed = matches!(result, Err(DeliveryError::Suppressed { .. }));
        if matches!(result, Ok(())) && self.is_suppressing.replace(is_suppressed) {
            let count = self.counters.suppressed.get();
            report(&format!("output {name}: within its rate again; {count} records were suppressed so far"));
        }
        match result {
            Ok(()) => {
                if self.counters.set_trouble(None).is_some() {
                    report(&format!("output {name}: recovered; {} records were lost so far", self.counters.lost()));
                }
                Ok(())
            }
            Err(DeliveryError::Later(reason)) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    report(&format!(
                        "output {name}: {reason}; retrying; records that do not fit in the queue are counted as lost"
                    ));
                }
                Ok(())
            }
            Err(DeliveryError::Refused { records, reason }) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    report(&format!("output {name}: {records} records refused: {reason}"));
                }
                Ok(())
            }
            Err(DeliveryError::Suppressed { reason, .. }) => {
                if !self.is_suppressing.replace(true) {
                    report(&format!("output {name}: {reason}: further records are suppressed, and counted"));
                }
                Ok(())
            }
            Err(DeliveryError::Closed(reason)) => {
                self.counters.has_no_reader.set(1);
                self.counters.set_trouble(Some(reason));
                Err(Over)
            }
            Err(DeliveryError::Failed(reason)) => {
                report(&format!("output {name}: {reason}; nothing more is written to it"));
                self.counters.set_trouble(Some(reason));
                Err(Over)
            }
        }
    }
}

/// A random time between half of `pause` and all of it: many hosts must not all come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let random = (RandomState::new().hash_one(0) >> 32) as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Nothing will be delivered any more.
struct Over;
