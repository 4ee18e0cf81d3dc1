//! The HTTP client of outputs: one POST at a time, each with a time limit.

mod answer;
mod headers;
mod url;

use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Request, Uri,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{tls, tls::TlsError, waiting::Waiting};
use crate::outputs::sink::DeliveryError;

pub use self::headers::{HeaderError, Headers};
pub(super) use self::{
    answer::{Answer, Failure, one_line},
    url::{UrlError, check as check_url},
};

/// Maximum size of a response in bytes. A successful response has a few fields.
const LONGEST_ANSWER: usize = 64 << 10;
/// A connection that has been idle for longer is not reused: servers close idle connections without notice.
const IDLE: Duration = Duration::from_secs(5);

/// Why there is no client. Contains no secrets.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ClientError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot wait for the network: {0}")]
    Runtime(#[from] io::Error),
}

/// What a client needs to know.
pub(super) struct ClientSettings {
    /// Where it posts to.
    pub(super) endpoint: Uri,
    /// How messages name that.
    pub(super) shown: String,
    /// Additional headers of each request.
    pub(super) headers: Headers,
    /// The media type of bodies.
    pub(super) content_type: &'static str,
    /// Whether bodies are compressed.
    pub(super) gzip: bool,
    /// Time limit for a request, from the name lookup to the last byte of the response.
    pub(super) timeout: Duration,
    /// PEM file of the trusted certificate authorities; `None` for the system's.
    pub(super) ca: Option<PathBuf>,
}

/// Posts to one URL.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    waiting: Waiting,
    endpoint: Uri,
    shown: String,
    headers: HeaderMap,
    gzip: bool,
    timeout: Duration,
    /// When the server accepts requests again, and its message.
    wait: Option<(Instant, String)>,
}

impl Client {
    pub(super) fn new(settings: ClientSettings) -> Result<Self, ClientError> {
        let ClientSettings { endpoint, shown, headers, content_type, gzip, timeout, ca } = settings;
        let builder = HttpsConnectorBuilder::new();
        let connector = match endpoint.scheme_str() {
            Some("https") => builder.with_tls_config(tls::client(ca.as_deref())?).https_only().enable_http1().build(),
            _ => builder.with_tls_config(tls::none()?).https_or_http().enable_http1().build(),
        };
        let mut headers = headers.into_map();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("tcptrace/", env!("CARGO_PKG_VERSION"))));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { http, waiting: Waiting::new()?, endpoint, shown, headers, gzip, timeout, wait: None })
    }

    /// Posts the body that `body` creates, unless the server asked to wait. Returns what `interpret` makes of the
    /// response, given the secrets that a reason must not contain; a failure applies to `records` records.
    pub(super) fn post<T>(
        &mut self,
        records: usize,
        body: impl FnOnce() -> Vec<u8>,
        interpret: impl FnOnce(Answer<'_>, &[&str]) -> Result<T, Failure>,
    ) -> Result<T, DeliveryError> {
        if let Some((until, reason)) = &self.wait {
            if Instant::now() < *until {
                return Err(DeliveryError::Later(reason.clone()));
            }
            self.wait = None;
        }
        let failure = match self.exchange(body(), interpret) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let name = |reason| format!("{} {reason}", self.shown);
        Err(match failure {
            Failure::Later { reason, after } => {
                let reason = name(reason);
                self.wait = after.map(|after| (Instant::now() + after, reason.clone()));
                DeliveryError::Later(reason)
            }
            Failure::Refused(reason) => DeliveryError::Refused { records, reason: name(reason) },
        })
    }

    fn exchange<T>(
        &self,
        body: Vec<u8>,
        interpret: impl FnOnce(Answer<'_>, &[&str]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let later = |reason| Failure::Later { reason, after: None };
        let body = if self.gzip { zipped(&body) } else { body };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| later(unreached(&error)))?;
            let (head, body) = response.into_parts();
            let (body, is_cut) =
                read(body).await.map_err(|error| later(chain("sent an incomplete response", &error)))?;
            Ok((head, body, is_cut))
        };
        let late = || later(format!("did not respond within {:?}", self.timeout));
        let (head, body, is_cut) = self.waiting.wait(self.timeout, exchange).ok_or_else(late)??;
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        interpret(Answer { status: head.status, retry_after, body: &body, is_cut }, &self.secrets())
    }

    /// The error for a request that was accepted in part, with this number of records refused.
    pub(super) fn rejected(&self, records: usize, message: &str) -> Result<(), DeliveryError> {
        if records == 0 {
            return Ok(());
        }
        let message = one_line(message, &self.secrets());
        Err(DeliveryError::Refused { records, reason: format!("{} accepted only a part: {message}", self.shown) })
    }

    /// Values of headers, which must not appear in a reason.
    fn secrets(&self) -> Vec<&str> {
        let values = self.headers.values().filter(|value| value.is_sensitive());
        values.filter_map(|value| str::from_utf8(value.as_bytes()).ok()).flat_map(str::split_whitespace).collect()
    }
}

/// Reads a body up to a limit; returns whether there is more.
async fn read(mut body: Incoming) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > LONGEST_ANSWER {
            bytes.truncate(LONGEST_ANSWER);
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn unreached(error: &legacy::Error) -> String {
    chain(if error.is_connect() { "cannot be reached" } else { "did not respond" }, error)
}

/// An error with its causes, since the error itself says only that there was one.
fn chain(what: &str, error: &dyn Error) -> String {
    let mut text = what.to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}
