//! An output: a queue, and a thread that delivers what is in it.

use std::{
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

/// Time between the first failure and the next try; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// But is never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A sink that has nothing to deliver is called so often.
const IDLE_EVERY: Duration = Duration::from_millis(500);

/// Why the rest is not delivered where an output does not come to its end.
pub(super) const HANGS: &str = "its other end does not answer";

/// The way of rendered records to where they go.
#[derive(Debug)]
pub struct Output {
    name: String,
    pub(super) queue: Arc<Queue>,
    counters: Arc<Counters>,
    worker: Arc<Worker>,
}

impl Output {
    /// Starts the thread of an output that is called `name` in messages. At most `queue_bytes` of records wait for it.
    /// Troubles are told to `tell`, each once until it is over.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: String,
        sink: Box<dyn Sink>,
        queue_bytes: usize,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_in("output", format!("output {name}"), name, sink, queue_bytes, tell)
    }

    /// The same, in a thread that is called so by the system, and so by messages.
    pub(crate) fn start_in(
        thread: &str,
        worker: String,
        name: String,
        mut sink: Box<dyn Sink>,
        queue_bytes: usize,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue_bytes));
        let counters = Arc::new(Counters::default());
        let work = Work { name: name.clone(), queue: Arc::clone(&queue), counters: Arc::clone(&counters) };
        let (worker, _) = workers::spawn(thread, worker, move || work.run(sink.as_mut(), &tell))?;
        Ok(Self { name, queue, counters, worker })
    }

    /// Hands over records. Never waits: where there is no room, the oldest that wait are dropped, and counted.
    pub fn push(&self, records: Records) {
        self.queue.push(records, &self.counters);
    }

    /// Does its thread hang?
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.worker.trouble().is_some()
    }

    /// Will nothing be delivered any more?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Opens files again that may have been moved away.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until all that was handed over is delivered or given up, until `until` at the latest.
    #[must_use]
    pub fn drained(&self, until: Instant) -> bool {
        self.queue.drained(until)
    }

    /// Tells it to end when what waits is delivered, and at `until` at the latest.
    pub fn end_at(&self, until: Instant) {
        self.queue.end(until);
    }

    /// Waits for its end, until `until` and a moment for it to give up; tells whether it has come. If not, some of its
    /// records may be delivered later.
    #[must_use]
    pub fn has_ended(&self, until: Instant) -> bool {
        self.queue.ended(until + FIRST_PAUSE)
    }

    /// Ends it when all is delivered, and at `until` at the latest. Where it hangs it is given up, and what is on its way
    /// counts as dropped.
    pub fn end(&self, until: Instant) {
        self.end_at(until);
        if !self.has_ended(until) && self.queue.abandon(&self.counters) {
            self.counters.set_trouble(self.counters.trouble().or_else(|| Some(HANGS.to_owned())));
        }
    }

    /// Did its reader go?
    #[must_use]
    pub fn has_no_reader(&self) -> bool {
        self.counters.has_no_reader.get() > 0
    }

    /// What became of its records up to now.
    #[must_use]
    pub fn state(&self) -> OutputState {
        let Counters { delivered, dropped, refused, retries, queued_bytes, .. } = &*self.counters;
        let [delivered, dropped, refused] = [delivered, dropped, refused].map(Count::get);
        OutputState {
            name: self.name.clone(),
            delivered,
            dropped,
            refused,
            waiting: self.counters.waiting(),
            retries: retries.get(),
            queued_bytes: queued_bytes.get(),
            trouble: self.counters.trouble(),
            has_no_reader: self.has_no_reader(),
        }
    }
}

impl Drop for Output {
    /// Without [`Output::end`] what waits is given up.
    fn drop(&mut self) {
        self.queue.end(Instant::now());
    }
}

/// The thread's side.
struct Work {
    name: String,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

impl Drop for Work {
    fn drop(&mut self) {
        if thread::panicking() {
            self.counters.set_trouble(Some("a fault of tcptrace".to_owned()));
        }
        self.queue.over(&self.counters);
    }
}

impl Work {
    fn run(&self, sink: &mut dyn Sink, tell: &dyn Fn(&str)) {
        loop {
            workers::alive();
            let done = match self.queue.next(&self.counters, IDLE_EVERY) {
                Next::Deliver(records) => self.deliver(sink, records, tell),
                Next::Reopen => {
                    sink.reopen();
                    Ok(())
                }
                Next::Idle => sink.idle().or_else(|trouble| self.told(Err(trouble), tell)),
                Next::End => {
                    let _ = sink.finish().or_else(|trouble| self.told(Err(trouble), tell));
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// Delivers all, with pauses where that fails.
    fn deliver(&self, sink: &mut dyn Sink, mut records: Records, tell: &dyn Fn(&str)) -> Result<(), Over> {
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
                Err(DeliveryError::Closed(_) | DeliveryError::Failed(_)) => self.give_up(&records),
                Ok(()) | Err(DeliveryError::Later(_)) => {}
            }
            let is_later = matches!(result, Err(DeliveryError::Later(_)));
            self.told(result, tell)?;
            if records.is_empty() {
                break; // trouble that does not keep records from being delivered
            }
            if is_later || delivered == 0 && records.len() == before {
                self.counters.retries.add(1);
                workers::silent_for(pause);
                if !self.queue.pause(pause) {
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

    /// Tells of trouble that is new, and of its end.
    fn told(&self, result: Result<(), DeliveryError>, tell: &dyn Fn(&str)) -> Result<(), Over> {
        let name = &self.name;
        match result {
            Ok(()) => {
                if self.counters.set_trouble(None).is_some() {
                    tell(&format!("output {name}: goes on; {} records were lost up to now", self.counters.lost()));
                }
                Ok(())
            }
            Err(DeliveryError::Later(reason)) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    tell(&format!("output {name}: {reason}; tried again, and what finds no room meanwhile is counted"));
                }
                Ok(())
            }
            Err(DeliveryError::Refused { records, reason }) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    tell(&format!("output {name}: {records} records refused: {reason}"));
                }
                Ok(())
            }
            Err(DeliveryError::Closed(reason)) => {
                self.counters.has_no_reader.set(1);
                self.counters.set_trouble(Some(reason));
                Err(Over)
            }
            Err(DeliveryError::Failed(reason)) => {
                tell(&format!("output {name}: {reason}; nothing more is written to it"));
                self.counters.set_trouble(Some(reason));
                Err(Over)
            }
        }
    }
}

/// Nothing will be delivered any more.
struct Over;
