//! Connections of the server: bounded in number, time and memory.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{self, AbortHandle},
    time::{Instant, interval, sleep},
};

use crate::{outputs::http::answers::Asker, sys::workers};

/// Connections at once. One more closes that which did nothing for longest.
pub const MAX_CONNECTIONS: usize = 64;
/// The line and headers of a request take so many bytes at most.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// A request must come, and an answer be taken, within this time.
pub const IDLE: Duration = Duration::from_secs(30);

/// After an error of `accept` (no descriptors left, say).
const REST: Duration = Duration::from_millis(100);
/// [`Connection::quiet_since_ms`] of one that waits for the main loop.
const BUSY: u64 = u64::MAX;

/// Serves until `stopped`.
pub(super) async fn serve(listener: TcpListener, asker: Arc<Asker>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = Connections { asker, start: Instant::now(), all: Vec::new() };
    let mut looks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = looks.tick() => {
                workers::alive();
                connections.close_idle();
            }
            accepted = listener.accept() => connections.accepted(accepted).await,
        }
    }
}

struct Connections {
    asker: Arc<Asker>,
    start: Instant,
    all: Vec<Connection>,
}

struct Connection {
    task: AbortHandle,
    /// When something last happened, in ms since the start; [`BUSY`] while it waits for an answer.
    quiet_since_ms: Arc<AtomicU64>,
}

impl Connections {
    fn close_idle(&mut self) {
        let last_ms = ms(self.start).saturating_sub(IDLE.as_millis() as u64);
        self.all.retain(|connection| {
            let is_idle = connection.quiet_since_ms.load(Relaxed) < last_ms;
            if is_idle {
                connection.task.abort();
            }
            !is_idle && !connection.task.is_finished()
        });
    }

    async fn accepted(&mut self, accepted: io::Result<(TcpStream, std::net::SocketAddr)>) {
        let Ok((stream, _)) = accepted else { return sleep(REST).await };
        self.all.retain(|connection| !connection.task.is_finished());
        if self.all.len() >= MAX_CONNECTIONS {
            let quiet_since = |place: &usize| self.all.get(*place).map(|one| one.quiet_since_ms.load(Relaxed));
            let Some(quietest) = (0..self.all.len()).min_by_key(quiet_since) else { return };
            if quiet_since(&quietest) == Some(BUSY) {
                return; // all wait for an answer, which takes some seconds at most
            }
            self.all.swap_remove(quietest).task.abort();
        }
        self.spawn(stream);
        // What came with the connection is read before the next one is taken, which might close this one.
        task::yield_now().await;
    }

    fn spawn(&mut self, stream: TcpStream) {
        let (start, asker) = (self.start, self.asker.clone());
        let quiet_since_ms = Arc::new(AtomicU64::new(ms(start)));
        let quiet = quiet_since_ms.clone();
        let service = service_fn(move |request| {
            let (asker, quiet) = (asker.clone(), quiet.clone());
            async move {
                quiet.store(BUSY, Relaxed);
                let response = asker.answer(request).await;
                quiet.store(ms(start), Relaxed);
                response
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE) // also the time between two requests
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async { _ = served.await }).abort_handle(); // the other end knows what went wrong
        self.all.push(Connection { task, quiet_since_ms });
    }
}

fn ms(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}
