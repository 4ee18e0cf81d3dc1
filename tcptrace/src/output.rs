//! Writes finished output from a thread of its own, so that a slow reader never keeps tcptrace from its signals and
//! timers. What waits to be written is bounded: when the queue is full, reading the ring buffer pauses, and what the
//! kernel then loses is counted.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Says something on stderr. Where nobody listens any more (`2>&1 | head`) that is no reason to fail.
pub fn tell(words: impl Display) {
    let _ = writeln!(io::stderr(), "tcptrace: {words}");
}

/// Pieces of output that wait at most.
const QUEUE_LEN: usize = 16;
/// How long the end waits for a reader that does not read.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The way to stdout or a file.
pub struct Output {
    queue: mpsc::Sender<Bytes>,
    result: oneshot::Receiver<io::Result<()>>,
}

/// The writer ended before the output did; [`Output::finish`] says why.
#[derive(Debug)]
pub struct Closed;

impl Output {
    /// To `path`, or to stdout.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let target: Box<dyn Write + Send> = match path {
            Some(path) => Box::new(File::create(path)?),
            None => Box::new(io::stdout()),
        };
        let (queue, waiting) = mpsc::channel(QUEUE_LEN);
        let (tell, result) = oneshot::channel();
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let _ = tell.send(write_all(waiting, target)); // nobody waits any more: the run has ended
        })?;
        Ok(Self { queue, result })
    }

    /// Queues a piece of output, once there is room. Safe to be dropped while it waits: then nothing is queued.
    ///
    /// # Errors
    /// Where the writer has ended.
    pub async fn write(&self, piece: Bytes) -> Result<(), Closed> {
        let room = self.queue.reserve().await.map_err(|_| Closed)?;
        room.send(piece);
        Ok(())
    }

    /// Waits until all is written, for at most `patience`.
    ///
    /// # Errors
    /// What writing failed with; [`io::ErrorKind::TimedOut`] where the reader does not take what waits.
    pub async fn finish(self, patience: Duration) -> io::Result<()> {
        drop(self.queue);
        match tokio::time::timeout(patience, self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(io::Error::other("the writer ended without a word")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "its reader does not take what is left")),
        }
    }
}

fn write_all(mut waiting: mpsc::Receiver<Bytes>, mut target: Box<dyn Write + Send>) -> io::Result<()> {
    while let Some(piece) = waiting.blocking_recv() {
        target.write_all(&piece)?;
        target.flush()?;
    }
    Ok(())
}
