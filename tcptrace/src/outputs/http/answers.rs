//! Handles HTTP requests: queries to the main loop, and responses to clients.

use std::{convert::Infallible, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use crate::{analysis::metrics::Snapshot, render::metrics::prometheus};

/// How long to wait for the main loop's reply.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A query to the main loop.
#[derive(Debug)]
pub enum Query {
    /// The current metrics, for a scrape.
    Metrics(oneshot::Sender<Snapshot>),
    /// The health of the run.
    Health(oneshot::Sender<Health>),
}

/// Health of the run. A reply at all means that the main loop is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it is not ready: programs that are not attached yet, or an initial listing that is not complete.
    pub not_ready: Option<String>,
    /// Threads that hang or are dead.
    pub broken: Option<String>,
}

/// Sends queries to the main loop, one at a time.
#[derive(Debug)]
pub(crate) struct QueryClient(pub(super) Mutex<mpsc::Sender<Query>>);

impl QueryClient {
    /// Sends a query; `None` if there is no reply in time.
    async fn query<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
        let answer = async {
            let queries = self.0.lock().await;
            let (to, answer) = oneshot::channel();
            queries.send(query(to)).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// Responds to a request.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        Ok(match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let format = prometheus::Format::negotiate(&accept.collect::<Vec<_>>().join(","));
                match self.query(Query::Metrics).await {
                    Some(snapshot) => with_type(format.content_type(), prometheus::encode(&snapshot, format)),
                    None => silent(),
                }
            }
            "/healthz" => match self.query(Query::Health).await {
                Some(Health { broken: None, .. }) => plain(StatusCode::OK, "ok\n"),
                Some(Health { broken: Some(why), .. }) => plain(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
                None => silent(),
            },
            "/readyz" => match self.query(Query::Health).await {
                Some(Health { not_ready, broken }) => match not_ready.or(broken) {
                    None => plain(StatusCode::OK, "ready\n"),
                    Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
                },
                None => silent(),
            },
            _ => plain(StatusCode::NOT_FOUND, "not found: there are /metrics, /healthz and /readyz\n"),
        })
    }
}

pub(crate) fn silent() -> Response<Full<Bytes>> {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the main loop does not respond\n")
}

pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = with_type("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

pub(crate) fn with_type(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
