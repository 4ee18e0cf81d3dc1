//! Tests the sinks against loopback servers with correct and incorrect responses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest},
    metrics::v1::ExportMetricsPartialSuccess,
};
use prost::Message as _;

use super::*;
use crate::pipeline::records::RecordsBuilder;

/// A request as received: its head in lower case, and its body.
type Arrived = (String, Vec<u8>);

/// A server that answers each request with the next of `answers`, closes the connection, and passes the request on.
fn server(answers: Vec<Vec<u8>>) -> (OtlpSettings, mpsc::Receiver<Arrived>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = OtlpSettings::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            send.send(request(&connection)).unwrap();
            // The client may have closed before the end of the response.
            let _ = connection.write_all(&answer);
        }
    });
    (settings, receive)
}

fn request(connection: &TcpStream) -> Arrived {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn lines(count: usize) -> Records {
    let mut lines = RecordsBuilder::default();
    for number in 0..count {
        let line = format!("{{\"event\":\"transition\",\"cookie\":{number}}}\n");
        lines.add(|to| to.extend_from_slice(line.as_bytes()));
    }
    lines.take()
}

fn logs(settings: &OtlpSettings) -> OtlpLogs {
    OtlpLogs::new(settings).unwrap()
}

/// Number of log records in a request.
fn count(body: &[u8]) -> usize {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    request.resource_logs.iter().flat_map(|logs| &logs.scope_logs).map(|logs| logs.log_records.len()).sum()
}

#[test]
fn records_go_in_batches_as_the_protocol_has_it() {
    let (mut settings, arrived) = server(vec![answer("200 OK", "", b""); 4]);
    settings.records = 4;
    settings.headers = Headers::parse("api-key=hunter2").unwrap();
    let mut records = lines(9);
    assert_eq!(logs(&settings).deliver(&mut records), Ok(()));
    assert!(records.is_empty());
    let mut counts = Vec::new();
    for (head, body) in arrived.iter().take(3) {
        assert!(head.starts_with("post /v1/logs http/1.1\r\n"), "{head}");
        for header in ["content-type: application/x-protobuf", "content-encoding: gzip", "api-key: hunter2"] {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
        }
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        counts.push(count(&plain));
    }
    assert_eq!(counts, [4, 4, 1]);

    (settings.gzip, settings.records, settings.bytes) = (false, 1000, 1);
    let mut records = lines(1);
    assert_eq!(logs(&settings).deliver(&mut records), Ok(()));
    let (head, body) = arrived.recv().unwrap();
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(count(&body), 1, "a record that is longer than a request may be goes alone");
}

#[test]
fn a_partial_success_refuses_as_many_as_it_says() {
    let partial = |rejected_log_records| {
        let partial = ExportLogsPartialSuccess { rejected_log_records, error_message: "too old".to_owned() };
        answer("200 OK", "", &ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec())
    };
    let (settings, _arrived) = server([0, 3, 99, -1].map(partial).to_vec());
    let mut sink = logs(&settings);
    for (left, refused) in [(0, 0), (3, 3), (5, 5), (0, 0)] {
        let mut records = lines(5);
        let result = sink.deliver(&mut records);
        assert_eq!(records.len(), left);
        match result {
            Ok(()) => assert_eq!(refused, 0),
            Err(DeliveryError::Refused { records, reason }) => {
                assert_eq!(records, refused);
                assert!(reason.ends_with("/v1/logs accepted only a part: too old"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn metrics_are_sent_one_by_one() {
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: String::new() };
    let partial = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let (mut settings, arrived) = server(vec![answer("200 OK", "", b""), answer("200 OK", "", &partial)]);
    settings.gzip = false;
    let mut records = RecordsBuilder::default();
    for body in ["first", "second", "third"] {
        records.add(|to| to.extend_from_slice(body.as_bytes()));
    }
    let mut records = records.take();
    let result = OtlpMetrics::new(&settings).unwrap().deliver(&mut records);
    assert!(matches!(result, Err(DeliveryError::Refused { records: 1, .. })), "{result:?}");
    assert_eq!(records.bytes(), b"secondthird");
    for body in ["first", "second"] {
        let (head, arrived) = arrived.recv().unwrap();
        assert!(head.starts_with("post /v1/metrics http/1.1\r\n"), "{head}");
        assert_eq!(arrived, body.as_bytes());
    }
}

#[test]
fn what_is_refused_is_counted_and_what_may_pass_is_kept() {
    let refused = [
        answer("400 Bad Request", "", b"what is this"),
        answer("401 Unauthorized", "", b"hunter2 is no key"),
        answer("500 Internal Server Error", "", b""),
        answer("307 Temporary Redirect", "location: http://127.0.0.1:1/\r\n", b""),
        answer("200 OK", "", b"<html>welcome</html>"),
    ];
    let later = [
        answer("429 Too Many Requests", "", b""),
        answer("502 Bad Gateway", "", b""),
        answer("503 Service Unavailable", "", b""),
        answer("504 Gateway Timeout", "", b""),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        vec![0xff; 5000],
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec(),
        [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'x'; 2 << 20]].concat(),
    ];
    let (mut settings, arrived) = server([&refused[..], &later].concat());
    settings.headers = Headers::parse("authorization=Bearer%20hunter2").unwrap();
    let mut sink = logs(&settings);
    for index in 0..refused.len() + later.len() {
        let mut records = lines(7);
        let trouble = sink.deliver(&mut records).unwrap_err();
        assert_eq!(records.len(), 7);
        assert_eq!(matches!(trouble, DeliveryError::Refused { records: 7, .. }), index < refused.len(), "{trouble:?}");
        assert_eq!(matches!(trouble, DeliveryError::Later(_)), index >= refused.len(), "{trouble:?}");
        let reason = trouble.to_string();
        assert!(reason.starts_with("http://127.0.0.1:") && reason.len() < 400, "{reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
    assert_eq!(arrived.iter().count(), refused.len() + later.len());
}

#[test]
fn a_server_is_left_alone_for_as_long_as_it_asks() {
    let (settings, arrived) =
        server(vec![answer("429 Too Many Requests", "retry-after: 1\r\n", b"slowly"), answer("200 OK", "", b"")]);
    let mut sink = logs(&settings);
    let mut records = lines(3);
    let begin = Instant::now();
    let first = sink.deliver(&mut records);
    assert!(matches!(&first, Err(DeliveryError::Later(reason)) if reason.ends_with("429 Too Many Requests: slowly")));
    while sink.deliver(&mut records).is_err_and(|trouble| Err(trouble) == first) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(records.is_empty() && begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(arrived.iter().count(), 2, "no request was made in the meantime");
}

/// Responds with a head, and a body without an end.
#[test]
fn a_body_without_end_is_not_read_to_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = OtlpSettings::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        request(&connection);
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while connection.write_all(&[0; 4096]).is_ok() {}
    });
    let mut records = lines(2);
    let trouble = logs(&settings).deliver(&mut records);
    assert!(matches!(trouble, Err(DeliveryError::Refused { records: 2, .. })), "{trouble:?}");
    server.join().unwrap();
}

#[test]
fn a_server_that_is_silent_or_not_there_is_tried_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut settings = OtlpSettings::new(&format!("http://{address}")).unwrap();
    settings.timeout = Duration::from_millis(100);
    let trouble = logs(&settings).deliver(&mut lines(1));
    assert_eq!(trouble, Err(DeliveryError::Later(format!("http://{address}/v1/logs did not respond within 100ms"))));

    // A head without a body.
    let silent = thread::spawn(move || {
        let connection = listener.incoming().nth(1).unwrap().unwrap();
        request(&connection);
        (&connection).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").unwrap();
        let _ = (&connection).read(&mut [0]);
    });
    let trouble = logs(&settings).deliver(&mut lines(1));
    assert!(matches!(&trouble, Err(DeliveryError::Later(reason)) if reason.ends_with("within 100ms")), "{trouble:?}");
    silent.join().unwrap();

    settings.timeout = Duration::from_secs(10);
    let trouble = logs(&settings).deliver(&mut lines(1)).unwrap_err();
    let refused =
        format!("http://{address}/v1/logs cannot be reached: tcp connect error: Connection refused (os error 111)");
    assert_eq!(trouble, DeliveryError::Later(refused));

    let settings = OtlpSettings::new("http://no-such-host.invalid:4318").unwrap();
    let trouble = logs(&settings).deliver(&mut lines(1));
    assert!(matches!(&trouble, Err(DeliveryError::Later(reason)) if reason.contains("dns error")), "{trouble:?}");
}
