//! Connections of the HTTP server, bounded in number, time and memory.

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

use crate::{outputs::http::answers::QueryClient, sys::workers};

/// Maximum number of connections. Another one closes the connection that has been idle the longest.
pub const MAX_CONNECTIONS: usize = 64;
/// Maximum size of a request's line and headers, in bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Time limit for receiving a request, and for sending a response.
pub const IDLE: Duration = Duration::from_secs(30);

/// Pause after an error of `accept`, for example when no descriptors are left.
const REST: Duration = Duration::from_millis(100);
/// [`Connection::quiet_since_ms`] while the connection waits for the main loop.
const BUSY: u64 = u64::MAX;

/// Serves requests until `stopped`.
pub(super) async fn serve(listener: TcpListener, client: Arc<QueryClient>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = Connections { client, start: Instant::now(), all: Vec::new() };
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
    client: Arc<QueryClient>,
    start: Instant,
    all: Vec<Connection>,
}

struct Connection {
    task: AbortHandle,
    /// Time of the last activity, in ms since the start; [`BUSY`] while it waits for the main loop.
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
                return; // all wait for the main loop, which takes a few seconds at most
            }
            self.all.swap_remove(quietest).task.abort();
        }
        self.spawn(stream);
        // Read the request that came with the connection before accepting the next one, which might close this one.
        task::yield_now().await;
    }

    fn spawn(&mut self, stream: TcpStream) {
        let (start, client) = (self.start, self.client.clone());
        let quiet_since_ms = Arc::new(AtomicU64::new(ms(start)));
        let quiet = quiet_since_ms.clone();
        let service = service_fn(move |request| {
            let (client, quiet) = (client.clone(), quiet.clone());
            async move {
                quiet.store(BUSY, Relaxed);
                let response = client.answer(request).await;
                quiet.store(ms(start), Relaxed);
                response
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE) // also limits the time between two requests
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async { _ = served.await }).abort_handle(); // the client knows what went wrong
        self.all.push(Connection { task, quiet_since_ms });
    }
}

fn ms(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}
