//! Posts each record as JSON to a URL.

use std::{
    env, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use hyper::Uri;

use crate::{
    model::number::duration,
    outputs::{
        client::{Client, ClientSettings, Headers, check_url},
        flat::parse,
        rate::{Limiter, Rate, rate},
        sink::{DeliveryError, Sink},
        target::{OutputKind, Target},
    },
    pipeline::records::Records,
};

/// The kind `webhook`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "webhook",
    form: "webhook:URL",
    parse: |url| {
        let of_variable = env::var(URL).unwrap_or_default();
        let url = if url.is_empty() && !of_variable.is_empty() { &of_variable } else { url };
        let endpoint =
            check_url(url).map_err(|error| format!("webhook needs a URL such as https://host/path: {error}"))?;
        Ok(Box::new(WebhookTarget { receiver: Receiver::new(HEADERS)?, endpoint, rate: Some(Rate::DEFAULT) }))
    },
};

/// The variable with headers, which may hold secrets that belong neither on a command line nor in a file that others read.
const HEADERS: &str = "TCPTRACE_WEBHOOK_HEADERS";

/// The variable with the URL of `webhook` without one, for URLs that are secrets themselves.
const URL: &str = "TCPTRACE_WEBHOOK_URL";

/// What webhooks and Alertmanager have in common.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    headers: Headers,
    headers_file: Option<PathBuf>,
    timeout: Duration,
    ca: Option<PathBuf>,
}

impl Receiver {
    /// With the headers in this variable.
    pub(super) fn new(variable: &str) -> Result<Self, String> {
        let headers = env::var(variable).unwrap_or_default();
        let headers = Headers::parse(&headers).map_err(|error| format!("${variable}: {error}"))?;
        Ok(Self { headers, headers_file: None, timeout: Duration::from_secs(10), ca: None })
    }

    /// Sets `timeout`, `ca` or `headers-file`.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "timeout" => self.timeout = duration(value)?,
            "ca" => self.ca = Some(value.into()),
            _ => self.headers_file = Some(value.into()),
        }
        Ok(())
    }

    /// A client that posts JSON to this URL. Messages name only its host: the path of a webhook may be a secret.
    pub(super) fn client(&self, endpoint: Uri) -> io::Result<Client> {
        let of_file = self.headers_file.as_deref().map(Headers::read).transpose().map_err(io::Error::other)?;
        let headers = self.headers.clone().and(&of_file.unwrap_or_default());
        let authority = endpoint.authority().map_or("", |authority| authority.as_str());
        let shown = format!("{}://{authority}", endpoint.scheme_str().unwrap_or_default());
        let (timeout, ca, content_type) = (self.timeout, self.ca.clone(), "application/json");
        Client::new(ClientSettings { endpoint, shown, headers, content_type, gzip: false, timeout, ca })
            .map_err(io::Error::other)
    }
}

/// A URL with its options.
#[derive(Clone, Debug)]
struct WebhookTarget {
    receiver: Receiver,
    endpoint: Uri,
    rate: Option<Rate>,
}

impl Target for WebhookTarget {
    fn keys(&self) -> &'static [&'static str] {
        &["timeout", "ca", "headers-file", "rate"]
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "rate" => self.rate = rate(value)?,
            _ => self.receiver.set(key, value)?,
        }
        Ok(())
    }

    fn is_for_findings(&self) -> bool {
        true
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Webhook {
            client: self.receiver.client(self.endpoint.clone())?,
            limiter: Limiter::new(self.rate, Instant::now()),
            is_admitted: false,
            target: self.clone(),
        }))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}

/// Posts one record at a time.
struct Webhook {
    client: Client,
    limiter: Limiter,
    /// True if the first record is within the rate, but was not delivered yet.
    is_admitted: bool,
    target: WebhookTarget,
}

impl Sink for Webhook {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        loop {
            let Some(record) = records.iter().next().map(<[u8]>::to_vec) else { return Ok(()) };
            let fields = parse(&record).map_err(|reason| DeliveryError::Refused { records: 1, reason })?;
            if !self.is_admitted && !self.limiter.admits(&fields, Instant::now()) {
                return Err(DeliveryError::Suppressed { records: 1, reason: self.limiter.reason() });
            }
            let posted =
                self.client.post(1, || record.trim_ascii_end().to_vec(), |answer, secrets| answer.accepted(secrets));
            self.is_admitted = matches!(posted, Err(DeliveryError::Later(_)));
            posted?;
            records.take(1);
        }
    }

    /// Reads the headers again: a token may have been replaced.
    fn reopen(&mut self) {
        match self.target.receiver.client(self.target.endpoint.clone()) {
            Ok(client) => self.client = client,
            Err(error) => super::messages::warn(format_args!("webhook: the headers are not read again: {error}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        sync::mpsc,
        thread,
    };

    use super::*;
    use crate::{outputs::kinds, pipeline::records::RecordsBuilder};

    /// A server that answers each request with the next of `answers`, and passes on the request's head in lower case and
    /// its body.
    fn server(answers: &'static [&'static str]) -> (String, mpsc::Receiver<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to_test, requests) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (connection, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(&connection);
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    head += &line.to_lowercase();
                    line.clear();
                }
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                let mut body = vec![0; length.trim().parse().unwrap()];
                reader.read_exact(&mut body).unwrap();
                to_test.send((head, String::from_utf8(body).unwrap())).unwrap();
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                (&connection).write_all(answer.as_bytes()).unwrap();
            }
        });
        (url, requests)
    }

    fn records(lines: &[&str]) -> Records {
        let mut builder = RecordsBuilder::default();
        lines.iter().for_each(|line| _ = builder.add(|to| to.extend_from_slice(format!("{line}\n").as_bytes())));
        builder.take()
    }

    const OPENED: &str = r#"{"event":"finding","phase":"opened","number":1,"time":"2026-03-04T05:06:10Z","finding":"half-open","severity":"warning"}"#;
    const CLOSED: &str = r#"{"event":"finding","phase":"closed","number":1,"time":"2026-03-04T05:07:10Z","finding":"half-open","severity":"warning"}"#;

    #[test]
    fn each_record_is_a_request_and_failures_are_told_apart() {
        let (url, requests) =
            server(&["200 OK", "503 Service Unavailable\r\nretry-after: 3600", "204 No Content", "400 Bad Request"]);
        let path = std::env::temp_dir().join(format!("tcptrace-webhook-{}", std::process::id()));
        std::fs::write(&path, "Authorization: Bearer hunter2\n").unwrap();
        let mut target = kinds::parse(&format!("webhook:{url}/hook?x=1")).unwrap();
        target.set("headers-file", path.to_str().unwrap()).unwrap();
        let mut sink = target.open().unwrap();
        let mut all = records(&[OPENED, CLOSED]);
        let Err(DeliveryError::Later(reason)) = sink.deliver(&mut all) else { panic!() };
        assert!(reason.contains("responded 503") && !reason.contains("hook"), "{reason}");
        assert_eq!(all.len(), 1);
        let (head, body) = requests.recv().unwrap();
        assert!(head.starts_with("post /hook?x=1 http/1.1"), "{head}");
        assert!(
            head.contains("content-type: application/json") && head.contains("authorization: bearer hunter2"),
            "{head}"
        );
        assert_eq!(body, OPENED);
        assert_eq!(requests.recv().unwrap().1, CLOSED);
        // The server asked for an hour: nothing is sent meanwhile.
        assert!(matches!(sink.deliver(&mut all), Err(DeliveryError::Later(_))));
        assert!(requests.try_recv().is_err());
        sink.reopen(); // with the headers as they are now, and another client
        sink.deliver(&mut all).unwrap();
        assert_eq!(requests.recv().unwrap().1, CLOSED);
        let Err(DeliveryError::Refused { records: 1, reason }) = sink.deliver(&mut records(&[OPENED])) else {
            panic!()
        };
        assert!(reason.contains("responded 400") && !reason.contains("hunter2"), "{reason}");
        std::fs::remove_file(&path).unwrap();
        assert!(target.open().err().unwrap().to_string().contains("No such file"));
    }

    #[test]
    fn a_flood_is_cut_to_the_rate() {
        let (url, requests) = server(&["200 OK", "200 OK", "200 OK"]);
        let mut target = kinds::parse(&format!("webhook:{url}")).unwrap();
        target.set("rate", "1/d").unwrap();
        let mut sink = target.open().unwrap();
        let mut all = records(&[OPENED, &OPENED.replace(":1,", ":2,"), &CLOSED.replace(":1,", ":2,"), CLOSED]);
        for _ in 0..2 {
            assert!(matches!(sink.deliver(&mut all), Err(DeliveryError::Suppressed { records: 1, .. })));
            all.take(1);
        }
        sink.deliver(&mut all).unwrap();
        assert_eq!([requests.recv().unwrap().1, requests.recv().unwrap().1], [OPENED, CLOSED]);
        assert!(requests.try_recv().is_err());
    }

    #[test]
    fn alertmanager_gets_an_alert_until_the_finding_closes() {
        let (url, requests) = server(&["200 OK", "500 Internal Server Error", "200 OK", "200 OK", "400 Bad Request"]);
        let mut target = kinds::parse(&format!("alertmanager:{url}/prefix/")).unwrap();
        for (key, value) in [("label", "cluster:prod"), ("resend", "1ms")] {
            target.set(key, value).unwrap();
        }
        let mut sink = target.open().unwrap();
        let mut all = records(&[OPENED]);
        sink.deliver(&mut all).unwrap();
        assert!(all.is_empty());
        let request = || {
            let (head, body) = requests.recv().unwrap();
            assert!(head.starts_with("post /prefix/api/v2/alerts http/1.1"), "{head}");
            serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap()
        };
        let first = request();
        assert_eq!((first.len(), &first[0]["labels"]["cluster"]), (1, &"prod".into()));
        assert_eq!(first[0]["startsAt"], "2026-03-04T05:06:10Z");
        let mut all = records(&[CLOSED]);
        assert!(matches!(sink.deliver(&mut all), Err(DeliveryError::Later(_))));
        assert_eq!(all.len(), 1);
        sink.deliver(&mut all).unwrap();
        for over in [request(), request()] {
            assert_eq!((over.len(), &over[0]["labels"]), (1, &first[0]["labels"]));
            assert_eq!(over[0]["endsAt"], "2026-03-04T05:07:10Z");
        }
        thread::sleep(Duration::from_millis(2));
        sink.idle().unwrap(); // nothing is open: no request
        let mut all = records(&[&OPENED.replace(":1,", ":2,")]);
        sink.deliver(&mut all).unwrap();
        assert_eq!(request()[0]["startsAt"], "2026-03-04T05:06:10Z");
        thread::sleep(Duration::from_millis(2));
        assert!(matches!(sink.idle(), Err(DeliveryError::Refused { records: 0, .. })), "sent again, as it is open");
        assert_eq!(request()[0]["startsAt"], "2026-03-04T05:06:10Z");
    }
}
