//! An output: a queue, and a thread that delivers what is in it.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Count, Counters, OutputState, Records, Sink, Trouble,
    queue::{Next, Queue},
};

/// Time between the first failure and the next try; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// But is never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A sink that has nothing to deliver is called so often.
const IDLE_EVERY: Duration = Duration::from_millis(500);

/// The way of rendered records to where they go.
#[derive(Debug)]
pub struct Output {
    name: String,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

impl Output {
    /// Starts the thread of an output that is called `name` in messages. At most `queue_bytes` of records wait for it.
    /// Troubles are told to `tell`, each once until it is over.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: String,
        mut sink: Box<dyn Sink>,
        queue_bytes: usize,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue_bytes));
        let counters = Arc::new(Counters::default());
        let work = Work { name: name.clone(), queue: Arc::clone(&queue), counters: Arc::clone(&counters) };
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            work.run(sink.as_mut(), &tell);
            work.queue.over(&work.counters);
        })?;
        Ok(Self { name, queue, counters })
    }

    /// Hands over records. Never waits: where there is no room, the oldest that wait are dropped, and counted.
    pub fn push(&self, records: Records) {
        self.queue.push(records, &self.counters);
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

    /// Ends it; tells whether it has ended by `until`.
    #[must_use]
    pub fn end(&self, until: Instant) -> bool {
        self.end_at(until);
        self.has_ended(until)
    }

    /// Did its reader go?
    #[must_use]
    pub fn has_no_reader(&self) -> bool {
        self.counters.has_no_reader.get() > 0
    }

    /// What became of its records up to now.
    #[must_use]
    pub fn state(&self) -> OutputState {
        let Counters { made, delivered, dropped, refused, retries, queued_bytes, .. } = &*self.counters;
        let [delivered, dropped, refused] = [delivered, dropped, refused].map(Count::get);
        OutputState {
            name: self.name.clone(),
            delivered,
            dropped,
            refused,
            waiting: made.get().saturating_sub(delivered + dropped + refused),
            retries: retries.get(),
            queued_bytes: queued_bytes.get(),
            trouble: self.counters.trouble(),
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

impl Work {
    fn run(&self, sink: &mut dyn Sink, tell: &dyn Fn(&str)) {
        loop {
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
            let result = sink.deliver(&mut records);
            let delivered = before - records.len();
            self.counters.delivered.add(delivered);
            if delivered > 0 {
                pause = FIRST_PAUSE;
            }
            match result {
                Err(Trouble::Refused { records: count, .. }) => {
                    let count = count.clamp(1, records.len());
                    self.counters.refused.add(count);
                    records.take(count);
                }
                Err(Trouble::Closed(_)) => self.counters.dropped.add(records.len()),
                Ok(()) | Err(Trouble::Later(_)) => {}
            }
            let is_later = matches!(result, Err(Trouble::Later(_)));
            self.told(result, tell)?;
            if records.is_empty() {
                break; // trouble that does not keep records from being delivered
            }
            if is_later || delivered == 0 && records.len() == before {
                self.counters.retries.add(1);
                if !self.queue.pause(pause) {
                    self.counters.dropped.add(records.len());
                    return Err(Over);
                }
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
        Ok(())
    }

    /// Tells of trouble that is new, and of its end.
    fn told(&self, result: Result<(), Trouble>, tell: &dyn Fn(&str)) -> Result<(), Over> {
        let name = &self.name;
        match result {
            Ok(()) => {
                if self.counters.set_trouble(None).is_some() {
                    tell(&format!("output {name}: goes on; {} records were lost up to now", self.counters.lost()));
                }
                Ok(())
            }
            Err(Trouble::Later(reason)) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    tell(&format!("output {name}: {reason}; tried again, and what finds no room meanwhile is counted"));
                }
                Ok(())
            }
            Err(Trouble::Refused { records, reason }) => {
                if self.counters.set_trouble(Some(reason.clone())).as_ref() != Some(&reason) {
                    tell(&format!("output {name}: {records} records refused: {reason}"));
                }
                Ok(())
            }
            Err(Trouble::Closed(reason)) => {
                self.counters.has_no_reader.set(1);
                self.counters.set_trouble(Some(reason));
                Err(Over)
            }
        }
    }
}

/// Nothing will be delivered any more.
struct Over;
