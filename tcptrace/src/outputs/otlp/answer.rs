//! Interprets responses, by the OTLP specification 1.x, section "OTLP/HTTP Response".

use std::time::Duration;

use hyper::StatusCode;
use jiff::{Timestamp, fmt::rfc2822};
use prost::Message;

use crate::model::printable::is_printable;

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Retry, but not before `after` has passed.
    Later { reason: String, after: Option<Duration> },
    /// The same request will never be accepted.
    Refused(String),
}

/// Upper limit on Retry-After.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Maximum length of a server's message in a reason, in characters.
const LONGEST_MESSAGE: usize = 200;

/// `google.rpc.Status`, the body of an error response.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// A response whose body was read up to a limit.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    /// The header Retry-After.
    pub(super) retry_after: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// True if the body was longer than the limit.
    pub(super) is_cut: bool,
}

impl Answer<'_> {
    /// The message in the response to an accepted request, or why it was not accepted. `secrets` are removed from the
    /// server's messages.
    ///
    /// A success with another kind of body does not come from an OTLP receiver: the request counts as refused, since it
    /// would otherwise be lost silently.
    pub(super) fn interpret<M: Message + Default>(self, now: Timestamp, secrets: &[&str]) -> Result<M, Failure> {
        let Self { status, body, .. } = self;
        if status.is_success() {
            let no_receiver =
                || Failure::Refused(format!("responded {status}, but not by the protocol: it is not an OTLP receiver"));
            return if self.is_cut { Err(no_receiver()) } else { M::decode(body).map_err(|_| no_receiver()) };
        }
        let mut reason = format!("responded {status}");
        if status.is_redirection() {
            reason += ", and redirects are not followed";
        }
        let message = Status::decode(body).ok().map(|status| status.message).filter(|message| !message.is_empty());
        let message = one_line(&message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()), secrets);
        if !message.is_empty() {
            reason = format!("{reason}: {message}");
        }
        Err(match status.as_u16() {
            429 | 502 | 503 | 504 => {
                Failure::Later { reason, after: self.retry_after.and_then(|text| wait(text, now)) }
            }
            _ => Failure::Refused(reason),
        })
    }
}

/// Parses Retry-After (RFC 9110 section 10.2.3): seconds, or a date.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(rfc2822::parse(text).ok()?.timestamp().duration_since(now)).ok()?,
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The beginning of a server's message, on one line and without secrets.
pub(super) fn one_line(text: &str, secrets: &[&str]) -> String {
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"));
    let words: Vec<_> = text.split(|c| c == ' ' || !is_printable(c)).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};

    fn interpret(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<ExportLogsServiceResponse, Failure> {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after, body, is_cut: false }.interpret(now, &["hunter2"])
    }

    #[test]
    fn successes_are_messages() {
        assert_eq!(interpret(200, None, b""), Ok(ExportLogsServiceResponse::default()));
        assert_eq!(interpret(204, None, b""), Ok(ExportLogsServiceResponse::default()));
        let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "no".to_owned() };
        let partial = ExportLogsServiceResponse { partial_success: Some(partial) };
        assert_eq!(interpret(200, None, &partial.encode_to_vec()), Ok(partial));
        for body in [&b"<html></html>"[..], b"{}", b"OK"] {
            assert!(
                matches!(interpret(200, None, body), Err(Failure::Refused(reason)) if reason.contains("not an OTLP receiver"))
            );
        }
    }

    #[test]
    fn what_is_to_be_tried_again_is_what_the_specification_says() {
        for status in 300..600 {
            let failure = interpret(status, None, b"").unwrap_err();
            let later = matches!(failure, Failure::Later { after: None, .. });
            assert_eq!(later, [429, 502, 503, 504].contains(&status), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, seconds) in [
            ("3", Some(3)),
            (" 3 ", Some(3)),
            ("99999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:29 GMT", None),
            ("-3", None),
            ("soon", None),
        ] {
            let Err(Failure::Later { after, .. }) = interpret(429, Some(text), b"") else { panic!("{text}") };
            assert_eq!(after, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_reason_repeats_the_servers_words_on_one_line_and_no_secret() {
        let status = Status { message: "field\x1b[31m 7\nis wrong, hunter2".to_owned() }.encode_to_vec();
        let reason = "responded 400 Bad Request: field [31m 7 is wrong, …".to_owned();
        assert_eq!(interpret(400, None, &status), Err(Failure::Refused(reason)));
        let Err(Failure::Refused(reason)) = interpret(404, None, &[b'x'; 5000]) else { panic!() };
        assert_eq!(reason, format!("responded 404 Not Found: {}", "x".repeat(LONGEST_MESSAGE)));
        assert_eq!(
            interpret(301, None, b""),
            Err(Failure::Refused("responded 301 Moved Permanently, and redirects are not followed".to_owned()))
        );
    }
}
