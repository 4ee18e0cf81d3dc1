//! Writes recordings: the main loop passes each input to a [`Recorder`], which collects chunks, and a thread of its own
//! compresses and writes them. The loop never waits for it: chunks that find no room are lost, counted, and said to be
//! missing in the recording itself.

mod around;
mod names;
mod segments;
mod settings;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::{names::segments, settings::RecorderSettings};
use self::{segments::Segments, settings::SEGMENTS};
use crate::{
    analysis::rates::meter::Round,
    model::{keyed::Addresses, names::Names},
    outputs::messages::{info, warn},
    pipeline::{
        finding_watch::Noticed,
        input::Input,
        recording::{
            chunk::RawChunk,
            encoder::{Encoder, NameLog},
            header::Header,
        },
    },
    sys::workers,
};

/// Most chunks that wait for the disk, about 1 MiB each.
const MAX_WAITING: usize = 64;
/// Most buffers that are kept for further chunks, and how large they may be.
const MAX_SPARE: usize = 2;
const MAX_SPARE_BYTES: usize = 4 << 20;
/// Longest time that inputs wait to be written, in ns: so much is lost with power.
const WRITE_EVERY_NS: u64 = 1_000_000_000;
/// How long the end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the writing thread reports.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes in the current file.
    segment_bytes: AtomicU64,
    /// Inputs that could not be written, until the main loop takes note.
    lost: AtomicU64,
    /// Inputs lost earlier, of which the recording would have said so there.
    unsaid: AtomicU64,
    /// Findings around which something was kept.
    kept: AtomicU64,
    /// True if there has been a failure.
    has_failed: AtomicBool,
}

/// What to write.
struct Work {
    /// The header of the file that begins with this chunk.
    begins: Option<Box<Header>>,
    chunk: RawChunk,
    /// How many inputs before it were lost, as it says.
    lost: u64,
    /// The finding around which the recording is to be kept.
    noticed: Option<Noticed>,
}

/// Records a run.
#[derive(Debug)]
pub struct Recorder {
    encoder: Encoder,
    settings: RecorderSettings,
    header: Header,
    /// The header of the file that the next chunk begins.
    next: Option<Box<Header>>,
    noticed: Option<Noticed>,
    to: Option<SyncSender<Work>>,
    /// Buffers of chunks that were written.
    spare: Receiver<Vec<u8>>,
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
    written_ns: u64,
    /// Inputs that were lost, and how many of them the current chunk names.
    lost: u64,
    said: u64,
    wants_listing: bool,
    /// True if the next input is the first one of a file.
    begins_file: bool,
}

impl Recorder {
    /// Begins a recording: creates the file and starts the thread. `names` has what the session looks up.
    ///
    /// # Errors
    /// If the file cannot be created, or no thread started.
    pub fn start(settings: RecorderSettings, header: Header, addresses: Addresses, names: NameLog) -> io::Result<Self> {
        let (to, from) = mpsc::sync_channel::<Work>(MAX_WAITING);
        let (to_reuse, spare) = mpsc::sync_channel(MAX_SPARE);
        let progress = Arc::new(Progress::default());
        let mut segments = Segments::create(&settings, &header)?;
        let reports = Arc::clone(&progress);
        reports.segment_bytes.store(segments.len(), Relaxed);
        let work = move || {
            let mut next = None;
            loop {
                workers::alive();
                match from.recv_timeout(Duration::from_secs(1)) {
                    Ok(mut work) => {
                        next = work.begins.take().or(next);
                        write(&mut segments, &mut next, &work, &reports);
                        if work.chunk.bytes.capacity() <= MAX_SPARE_BYTES {
                            let _ = to_reuse.try_send(work.chunk.bytes); // there are enough
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if let Err(error) = segments.finish() {
                warn(format_args!("the recording has no index: {error}"));
            }
        };
        let (_, thread) = workers::spawn("record", "record".to_owned(), work)?;
        let start_ns = header.start_ns;
        Ok(Self {
            encoder: Encoder::new(addresses, names, start_ns),
            settings,
            header,
            next: None,
            noticed: None,
            to: Some(to),
            spare,
            progress,
            thread,
            written_ns: start_ns,
            lost: 0,
            said: 0,
            wants_listing: false,
            begins_file: true,
        })
    }

    /// Records an input that the session has taken.
    #[inline]
    pub fn add(&mut self, input: &Input<'_>, names: &mut Names) {
        if std::mem::take(&mut self.begins_file) {
            self.encoder.restart(names);
        }
        self.encoder.add(input, names);
        match input {
            Input::Clock(now_ns, _) => self.cut_if_due(*now_ns),
            Input::ListingBegun => self.wants_listing = false,
            _ => {}
        }
        if self.encoder.is_full() {
            self.cut(self.written_ns);
        }
    }

    /// Records a sample of the kernel's counters.
    pub fn sample(&mut self, round: &Round) {
        self.encoder.sample(round);
    }

    /// Keeps the recording around a finding that was noticed just now.
    pub fn keep(&mut self, noticed: Noticed) {
        self.noticed = Some(noticed);
    }

    fn cut_if_due(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.written_ns) >= WRITE_EVERY_NS {
            self.cut(now_ns);
        }
    }

    /// Passes a chunk on.
    fn cut(&mut self, now_ns: u64) {
        self.written_ns = now_ns;
        let (lost, unsaid) = (self.progress.lost.swap(0, Relaxed), self.progress.unsaid.swap(0, Relaxed));
        self.lose(lost, unsaid);
        if let Ok(buffer) = self.spare.try_recv() {
            self.encoder.reuse(buffer);
        }
        let Some(chunk) = self.encoder.take() else { return };
        let lost = std::mem::take(&mut self.said);
        let work = Work { begins: self.next.take(), chunk, lost, noticed: self.noticed.take() };
        match self.to.as_ref().map(|to| to.try_send(work)) {
            None | Some(Ok(())) => {}
            Some(Err(TrySendError::Full(work) | TrySendError::Disconnected(work))) => {
                (self.next, self.noticed) = (work.begins, work.noticed);
                self.lose(work.chunk.inputs, work.lost);
            }
        }
        if self.next.is_none() && self.is_segment_full(now_ns) {
            (self.header.segment, self.header.start_ns) = (self.header.segment.saturating_add(1), now_ns);
            self.next = Some(Box::new(self.header.clone()));
            self.progress.segment_bytes.store(0, Relaxed);
            self.begins_file = true;
            self.wants_listing = true;
        }
    }

    /// Notes that inputs were lost, and that the recording does not say yet that `unsaid` others were.
    fn lose(&mut self, inputs: u64, unsaid: u64) {
        if inputs + unsaid == 0 {
            return;
        }
        if self.lost == 0 {
            warn("the disk is too slow or full for the recording: a part of it is missing");
        }
        self.lost += inputs;
        self.said += inputs + unsaid;
        self.encoder.lose(inputs + unsaid);
        self.wants_listing = true;
    }

    fn is_segment_full(&self, now_ns: u64) -> bool {
        let age = Duration::from_nanos(now_ns.saturating_sub(self.header.start_ns));
        let is_old = self.settings.file_age().is_some_and(|most| age >= most);
        let bytes = self.progress.segment_bytes.load(Relaxed);
        is_old || self.settings.max_bytes.is_some_and(|most| bytes >= most / SEGMENTS)
    }

    /// True if the recording needs a listing of all sockets, to be understood from here on.
    #[must_use]
    pub const fn wants_listing(&self) -> bool {
        self.wants_listing
    }

    /// Writes what is left; waits a few seconds at most.
    ///
    /// # Errors
    /// If a part of the recording is missing.
    pub fn finish(mut self) -> Result<(), String> {
        self.cut(self.written_ns);
        self.to = None;
        let until = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let lost = self.lost + self.progress.lost.load(Relaxed);
        if !self.thread.is_finished() {
            return Err(format!("the recording {} is not complete: its disk hangs", self.settings.path.display()));
        }
        if lost > 0 || self.progress.has_failed.load(Relaxed) {
            return Err(format!("the recording {} lacks {lost} inputs", self.settings.path.display()));
        }
        let path = self.settings.path.display();
        match self.progress.kept.load(Relaxed) {
            0 => info(format_args!("recorded to {path}")),
            1 => info(format_args!("recorded to {path}, and the minutes around a finding to a file of its own")),
            kept => {
                info(format_args!("recorded to {path}, and the minutes around {kept} findings to files of their own"))
            }
        }
        Ok(())
    }
}

/// Writes a chunk, in a new file if there is a header for one.
fn write(segments: &mut Segments, next: &mut Option<Box<Header>>, work: &Work, reports: &Progress) {
    let begun = next.as_ref().map_or(Ok(()), |header| segments.next(header));
    if begun.is_ok() {
        *next = None;
    }
    if let Err(error) = begun.and_then(|()| segments.write(&work.chunk)) {
        if !reports.has_failed.swap(true, Relaxed) {
            warn(format_args!("cannot write the recording: {error}"));
        }
        reports.lost.fetch_add(work.chunk.inputs, Relaxed);
        reports.unsaid.fetch_add(work.lost, Relaxed);
    }
    if let Some(noticed) = &work.noticed {
        segments.keep(noticed);
        reports.kept.store(segments.kept(), Relaxed);
    }
    reports.segment_bytes.store(segments.len(), Relaxed);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
