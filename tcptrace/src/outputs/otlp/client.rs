//! A minimal HTTP client for OTLP: one POST at a time, each with a time limit.

use std::{
    error::Error,
    io::Write as _,
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
use jiff::Timestamp;
use prost::Message;

use super::{
    super::{tls, waiting::Waiting},
    answer::{Answer, Failure, one_line},
    settings::{OtlpError, OtlpSettings},
};
use crate::outputs::sink::DeliveryError;

/// Maximum size of a response in bytes. A successful response has two fields.
const LONGEST_ANSWER: usize = 64 << 10;
/// A connection that has been idle for longer is not reused: servers close idle connections without notice.
const IDLE: Duration = Duration::from_secs(5);

/// Posts to one URL.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    waiting: Waiting,
    endpoint: Uri,
    headers: HeaderMap,
    gzip: bool,
    timeout: Duration,
    /// When the server accepts requests again, and its message.
    wait: Option<(Instant, String)>,
}

impl Client {
    pub(super) fn new(settings: &OtlpSettings, signal: &str) -> Result<Self, OtlpError> {
        let endpoint = settings.endpoint(signal)?;
        let builder = HttpsConnectorBuilder::new();
        let connector = match endpoint.scheme_str() {
            Some("https") => {
                builder.with_tls_config(tls::client(settings.ca.as_deref())?).https_only().enable_http1().build()
            }
            _ => builder.with_tls_config(tls::none()?).https_or_http().enable_http1().build(),
        };
        let mut headers = settings.headers.map().clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("tcptrace/", env!("CARGO_PKG_VERSION"))));
        if settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        let (gzip, timeout, waiting) = (settings.gzip, settings.timeout, Waiting::new()?);
        Ok(Self { http, waiting, endpoint, headers, gzip, timeout, wait: None })
    }

    /// Posts the message that `message` creates, unless the server asked to wait. Returns the response; a failure
    /// applies to `records` records.
    pub(super) fn post<M: Message + Default>(
        &mut self,
        records: usize,
        message: impl FnOnce() -> Vec<u8>,
    ) -> Result<M, DeliveryError> {
        if let Some((until, reason)) = &self.wait {
            if Instant::now() < *until {
                return Err(DeliveryError::Later(reason.clone()));
            }
            self.wait = None;
        }
        let failure = match self.exchange(message()) {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let name = |reason| format!("{} {reason}", self.endpoint);
        Err(match failure {
            Failure::Later { reason, after } => {
                let reason = name(reason);
                self.wait = after.map(|after| (Instant::now() + after, reason.clone()));
                DeliveryError::Later(reason)
            }
            Failure::Refused(reason) => DeliveryError::Refused { records, reason: name(reason) },
        })
    }

    fn exchange<M: Message + Default>(&self, message: Vec<u8>) -> Result<M, Failure> {
        let later = |reason| Failure::Later { reason, after: None };
        let body = if self.gzip { zipped(&message) } else { message };
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
        Answer { status: head.status, retry_after, body: &body, is_cut }.interpret(Timestamp::now(), &self.secrets())
    }

    /// The error for a request that was accepted in part, with this number of records refused.
    pub(super) fn rejected(&self, records: usize, message: &str) -> Result<(), DeliveryError> {
        if records == 0 {
            return Ok(());
        }
        let message = one_line(message, &self.secrets());
        Err(DeliveryError::Refused { records, reason: format!("{} accepted only a part: {message}", self.endpoint) })
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
