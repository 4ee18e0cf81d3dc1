//! Responses of receivers.

use std::time::Duration;

use hyper::StatusCode;
use jiff::{Timestamp, fmt::rfc2822};

use crate::model::printable::is_printable;

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Retry, but not before `after` has passed.
    Later { reason: String, after: Option<Duration> },
    /// The same request will never be accepted.
    Refused(String),
}

/// Upper limit on Retry-After.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Maximum length of a server's message in a reason, in characters.
const LONGEST_MESSAGE: usize = 200;

/// A response whose body was read up to a limit.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    /// The header Retry-After.
    pub(crate) retry_after: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// True if the body was longer than the limit.
    pub(crate) is_cut: bool,
}

impl Answer<'_> {
    /// Success for any status of success; 429 and 5xx are worth another attempt, and 408 (RFC 9110, section 15.5.9).
    pub(crate) fn accepted(self, secrets: &[&str]) -> Result<(), Failure> {
        if self.status.is_success() {
            return Ok(());
        }
        let is_later = matches!(self.status.as_u16(), 408 | 429 | 500..=599);
        let message = String::from_utf8_lossy(self.body).into_owned();
        Err(self.failure(&message, is_later, Timestamp::now(), secrets))
    }

    /// The failure that this response means, with the server's message. `secrets` are removed from it.
    pub(crate) fn failure(&self, message: &str, is_later: bool, now: Timestamp, secrets: &[&str]) -> Failure {
        let mut reason = format!("responded {}", self.status);
        if self.status.is_redirection() {
            reason += ", and redirects are not followed";
        }
        let message = one_line(message, secrets);
        if !message.is_empty() {
            reason = format!("{reason}: {message}");
        }
        match is_later {
            true => Failure::Later { reason, after: self.retry_after.and_then(|text| wait(text, now)) },
            false => Failure::Refused(reason),
        }
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
pub(crate) fn one_line(text: &str, secrets: &[&str]) -> String {
    let text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"));
    let words: Vec<_> = text.split(|c| c == ' ' || !is_printable(c)).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn failure(status: u16, retry_after: Option<&str>, body: &[u8]) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after, body, is_cut: false }.accepted(&["hunter2"]).unwrap_err()
    }

    #[test]
    fn busy_and_broken_servers_get_another_attempt() {
        for status in 200..300 {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Answer { status, retry_after: None, body: b"", is_cut: true }.accepted(&[]), Ok(()));
        }
        for status in 300..600 {
            let later = matches!(failure(status, None, b""), Failure::Later { after: None, .. });
            assert_eq!(later, status == 408 || status == 429 || status >= 500, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (text, seconds) in [
            ("3", Some(3)),
            (" 3 ", Some(3)),
            ("99999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:29 GMT", None),
            ("-3", None),
            ("soon", None),
        ] {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_reason_repeats_the_servers_words_on_one_line_and_no_secret() {
        let reason = "responded 400 Bad Request: field [31m 7 is wrong, …".to_owned();
        assert_eq!(failure(400, None, b"field\x1b[31m 7\nis wrong, hunter2"), Failure::Refused(reason));
        let reason = format!("responded 404 Not Found: {}", "x".repeat(LONGEST_MESSAGE));
        assert_eq!(failure(404, None, &[b'x'; 5000]), Failure::Refused(reason));
        let reason = "responded 301 Moved Permanently, and redirects are not followed".to_owned();
        assert_eq!(failure(301, None, b""), Failure::Refused(reason));
    }
}
