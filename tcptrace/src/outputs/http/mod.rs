//! The edge to scrapers and probes: a small HTTP/1 server of `/metrics`, `/healthz` and `/readyz`.
//!
//! It runs in a thread of its own, and asks the main loop for what it needs ([`Query`]), so that an answer is of the
//! moment, and a main loop that hangs is noticed. [`Server::start`] gives the server, which serves until it is
//! dropped, and the receiver of the questions; the main loop's `select!` has an arm `Some(question) = questions.recv()`,
//! and sends the answer, as in
//!
//! ```
//! # use tcptrace::{http::{Health, Question}, metrics::Snapshot};
//! # fn answer(question: Question, snapshot: impl FnOnce() -> Snapshot) {
//! match question {
//!     Question::Metrics(to) => _ = to.send(snapshot()),
//!     Question::Health(to) => _ = to.send(Health::default()),
//! }
//! # }
//! ```
//!
//! (nobody waits any more where sending fails). Whoever reaches the port can do no harm: what a connection holds, how many there are and how long they
//! take is bounded ([`MAX_CONNECTIONS`], [`MAX_HEADER_BYTES`], [`IDLE`]), and one question is asked at a time.

mod address;
pub mod answers;
mod connections;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
};

use crate::{
    outputs::{
        Sink,
        http::answers::{Asker, Query},
        target::{Content, OutputKind, Target},
    },
    sys::workers::{self, Worker},
};

pub use address::{AddressError, parse_address};
pub use connections::{IDLE, MAX_CONNECTIONS, MAX_HEADER_BYTES};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: std::net::TcpListener,
    asks: mpsc::Sender<Query>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<(Arc<Worker>, thread::JoinHandle<()>)>,
}

impl Server {
    /// Starts to listen. The questions come through the receiver.
    ///
    /// # Errors
    /// Where the address cannot be listened at, or no thread be made.
    pub fn start(address: SocketAddr) -> io::Result<(Self, mpsc::Receiver<Query>)> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (asks, questions) = mpsc::channel(1);
        let mut server = Self { address, listener, asks, stop: None, thread: None };
        server.serve()?;
        Ok((server, questions))
    }

    /// Serves in a new thread.
    fn serve(&mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(self.listener.try_clone()?)?
        };
        let (stop, stopped) = oneshot::channel();
        let asker = Arc::new(Asker(Mutex::new(self.asks.clone())));
        let serve = move || runtime.block_on(connections::serve(listener, asker, stopped));
        self.thread = Some(workers::spawn("http", "http".to_owned(), serve)?);
        self.stop = Some(stop);
        Ok(())
    }

    /// Does the thread hang, or did it panic?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.thread.as_ref().is_some_and(|(worker, _)| worker.trouble().is_some())
    }

    /// Puts another thread in its place. Where this one goes on, it ends.
    ///
    /// # Errors
    /// Where there can be no more threads or descriptors.
    pub fn replace(&mut self) -> io::Result<()> {
        if let Some((worker, _)) = &self.thread {
            workers::forget(worker);
        }
        self.serve()
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some((_, thread)) = self.thread.take() else { return };
        let until = Instant::now() + ENDS_WITHIN;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The end of the server is waited for so long at most.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The kind `prometheus`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "prometheus",
    form: "prometheus:ADDRESS",
    parse: |address| match parse_address(address) {
        Ok(address) => Ok(Box::new(Scraped(address))),
        Err(error) => Err(error.to_string()),
    },
};

/// The address that scrapers fetch metrics from.
#[derive(Clone, Copy, Debug)]
struct Scraped(SocketAddr);

impl Target for Scraped {
    fn content(&self) -> Content {
        Content::Scraped(self.0)
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Err(io::Error::other("it serves metrics, and takes no records"))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(*self)
    }
}
