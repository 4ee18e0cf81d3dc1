//! An HTTP/1 server for scrapers and probes: `/metrics`, `/healthz` and `/readyz`.
//!
//! It runs in a separate thread and queries the main loop ([`Query`]) for each request, so that responses are current,
//! and a main loop that hangs is noticed. [`Server::start`] returns the server, which runs until it is dropped, and the
//! receiver of the queries. The main loop replies to each query (a failure to send means that the client has given up):
//!
//! ```
//! # use tcptrace::{analysis::metrics::Snapshot, outputs::http::answers::{Health, Query}};
//! # fn reply(query: Query, snapshot: impl FnOnce() -> Snapshot) {
//! match query {
//!     Query::Metrics(to) => _ = to.send(snapshot()),
//!     Query::Health(to) => _ = to.send(Health::default()),
//! }
//! # }
//! ```
//!
//! Clients cannot do any harm: the number of connections, their memory and their duration are limited
//! ([`MAX_CONNECTIONS`], [`MAX_HEADER_BYTES`], [`IDLE`]), and queries are sent one at a time.

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
        http::answers::{Query, QueryClient},
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
    sender: mpsc::Sender<Query>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<(Arc<Worker>, thread::JoinHandle<()>)>,
}

impl Server {
    /// Starts listening. The receiver delivers the queries.
    ///
    /// # Errors
    /// If the address cannot be bound, or no thread can be started.
    pub fn start(address: SocketAddr) -> io::Result<(Self, mpsc::Receiver<Query>)> {
        Self::on(std::net::TcpListener::bind(address)?)
    }

    /// Serves requests to an address that is bound already.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn on(listener: std::net::TcpListener) -> io::Result<(Self, mpsc::Receiver<Query>)> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, queries) = mpsc::channel(1);
        let mut server = Self { address, listener, sender, stop: None, thread: None };
        server.serve()?;
        Ok((server, queries))
    }

    /// Serves requests in a new thread.
    fn serve(&mut self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _guard = runtime.enter();
            TcpListener::from_std(self.listener.try_clone()?)?
        };
        let (stop, stopped) = oneshot::channel();
        let client = Arc::new(QueryClient(Mutex::new(self.sender.clone())));
        let serve = move || runtime.block_on(connections::serve(listener, client, stopped));
        self.thread = Some(workers::spawn("http", "http".to_owned(), serve)?);
        self.stop = Some(stop);
        Ok(())
    }

    /// Whether the thread hangs or panicked.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.thread.as_ref().is_some_and(|(worker, _)| worker.problem().is_some())
    }

    /// Replaces the thread. The old one ends as soon as it continues.
    ///
    /// # Errors
    /// If no more threads or descriptors are available.
    pub fn replace(&mut self) -> io::Result<()> {
        if let Some((worker, _)) = &self.thread {
            workers::forget(worker);
        }
        self.serve()
    }

    /// The address that it listens on.
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

/// How long dropping the server waits for its thread.
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
