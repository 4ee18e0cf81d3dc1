//! The edge to scrapers and probes: a small HTTP/1 server of `/metrics`, `/healthz` and `/readyz`.
//!
//! It runs in a thread of its own, and asks the main loop for what it needs ([`Question`]), so that an answer is of the
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
mod connections;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::{
    analysis::metrics::Snapshot,
    render::metrics::prometheus,
    sys::workers::{self, Worker},
};

pub use address::{AddressError, parse_address};
pub use connections::{IDLE, MAX_CONNECTIONS, MAX_HEADER_BYTES};

/// An answer is waited for so long at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server wants to know.
#[derive(Debug)]
pub enum Question {
    /// The metrics of this moment.
    Metrics(oneshot::Sender<Snapshot>),
    /// How tcptrace is.
    Health(oneshot::Sender<Health>),
}

/// How tcptrace is. That it answers at all says that it is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it is not ready: programs that are not attached yet, sockets from before the start that are not known yet.
    pub not_ready: Option<String>,
    /// Threads that hang, or are dead.
    pub broken: Option<String>,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: std::net::TcpListener,
    asks: mpsc::Sender<Question>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<(Arc<Worker>, thread::JoinHandle<()>)>,
}

impl Server {
    /// Starts to listen. The questions come through the receiver.
    ///
    /// # Errors
    /// Where the address cannot be listened at, or no thread be made.
    pub fn start(address: SocketAddr) -> io::Result<(Self, mpsc::Receiver<Question>)> {
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

/// Asks the main loop, one question at a time.
#[derive(Debug)]
struct Asker(Mutex<mpsc::Sender<Question>>);

impl Asker {
    /// The answer; `None` where there is none in time.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let answer = async {
            let questions = self.0.lock().await;
            let (to, answer) = oneshot::channel();
            questions.send(question(to)).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// The response to a request.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        Ok(match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let format = prometheus::Format::negotiate(&accept.collect::<Vec<_>>().join(","));
                match self.ask(Question::Metrics).await {
                    Some(snapshot) => with_type(format.content_type(), prometheus::encode(&snapshot, format)),
                    None => silent(),
                }
            }
            "/healthz" => match self.ask(Question::Health).await {
                Some(Health { broken: None, .. }) => plain(StatusCode::OK, "ok\n"),
                Some(Health { broken: Some(why), .. }) => plain(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
                None => silent(),
            },
            "/readyz" => match self.ask(Question::Health).await {
                Some(Health { not_ready, broken }) => match not_ready.or(broken) {
                    None => plain(StatusCode::OK, "ready\n"),
                    Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
                },
                None => silent(),
            },
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        })
    }
}

fn silent() -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the main loop does not answer\n")
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = with_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
