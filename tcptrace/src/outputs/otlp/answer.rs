//! Interprets responses, by the OTLP specification 1.x, section "OTLP/HTTP Response".

use jiff::Timestamp;
use prost::Message;

use crate::outputs::client::{Answer, Failure};

/// `google.rpc.Status`, the body of an error response.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// The message in the response to an accepted request, or why it was not accepted. `secrets` are removed from the
/// server's messages.
///
/// A success with another kind of body does not come from an OTLP receiver: the request counts as refused, since it
/// would otherwise be lost silently.
pub(super) fn interpret<M: Message + Default>(
    answer: Answer<'_>,
    now: Timestamp,
    secrets: &[&str],
) -> Result<M, Failure> {
    let Answer { status, body, .. } = answer;
    if status.is_success() {
        let no_receiver =
            || Failure::Refused(format!("responded {status}, but not by the protocol: it is not an OTLP receiver"));
        return if answer.is_cut { Err(no_receiver()) } else { M::decode(body).map_err(|_| no_receiver()) };
    }
    let message = Status::decode(body).ok().map(|status| status.message).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    Err(answer.failure(&message, matches!(status.as_u16(), 429 | 502 | 503 | 504), now, secrets))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};

    fn interpret(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<ExportLogsServiceResponse, Failure> {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        super::interpret(Answer { status, retry_after, body, is_cut: false }, now, &["hunter2"])
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
    fn a_reason_repeats_the_servers_words_on_one_line_and_no_secret() {
        let status = Status { message: "field\x1b[31m 7\nis wrong, hunter2".to_owned() }.encode_to_vec();
        let reason = "responded 400 Bad Request: field [31m 7 is wrong, …".to_owned();
        assert_eq!(interpret(400, None, &status), Err(Failure::Refused(reason)));
    }
}
