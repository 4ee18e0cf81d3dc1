//! The server of metrics: what it answers, and that it goes on answering whatever else is sent to it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tcptrace::{
    analysis::metrics::Snapshot,
    outputs::http::{
        MAX_CONNECTIONS, MAX_HEADER_BYTES, Server,
        answers::{Health, Query},
    },
    sys::process::usage,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and a main loop that answers it until the server is dropped.
struct Served {
    server: Option<Server>,
    answers: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Served {
    fn new(not_ready: Option<&str>) -> Self {
        let (server, mut queries) = Server::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let not_ready = not_ready.map(str::to_owned);
        let answers = thread::spawn(move || {
            while let Some(query) = queries.blocking_recv() {
                match query {
                    Query::Metrics(to) => _ = to.send(Snapshot::default()),
                    Query::Health(to) => _ = to.send(Health { not_ready: not_ready.clone(), ..Health::default() }),
                }
            }
        });
        Self { address: server.address(), server: Some(server), answers: Some(answers) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A response to a request on a connection of its own.
    fn ask(&self, request: &str) -> String {
        ask(self.connect(), request)
    }

    /// A scrape, tried again as a scraper does where its connection was closed under it.
    fn scrape(&self) {
        let start = Instant::now();
        loop {
            let mut response = String::new();
            let mut stream = self.connect();
            let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let _ = asked.and_then(|()| stream.read_to_string(&mut response));
            if response.starts_with("HTTP/1.1 200 OK") {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "no scrape gets through: {response:?}");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.server.take());
        self.answers.take().map(JoinHandle::join);
    }
}

fn ask(mut stream: TcpStream, request: &str) -> String {
    let request = format!("{request}\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn answers_are_as_asked_for() {
    let served = Served::new(None);
    for (request, status, part) in [
        ("GET /metrics HTTP/1.1", "200 OK", "content-type: text/plain; version=0.0.4; charset=utf-8"),
        ("GET /metrics?a=b HTTP/1.1\r\nAccept: application/openmetrics-text", "200 OK", "\r\n\r\n# EOF\n"),
        ("GET /metrics HTTP/1.1\r\nAccept: text/html\r\nAccept: application/openmetrics-text", "200 OK", "# EOF\n"),
        ("GET /healthz HTTP/1.1", "200 OK", "\r\n\r\nok\n"),
        ("HEAD /healthz HTTP/1.1", "200 OK", "content-length: 3\r\n"),
        ("GET /readyz HTTP/1.1", "200 OK", "\r\n\r\nready\n"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", "405 Method Not Allowed", "allow: GET, HEAD"),
        ("GET /etc/passwd HTTP/1.1", "404 Not Found", "/healthz"),
        ("GET / HTTP/1.1", "404 Not Found", "/metrics"),
    ] {
        let response = served.ask(request);
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
        assert!(response.contains(part), "{request}: {response}");
    }
    let waits = Served::new(Some("still listing the sockets from before the start"));
    let response = waits.ask("GET /readyz HTTP/1.1");
    assert!(response.starts_with("HTTP/1.1 503 ") && response.ends_with("before the start\n"), "{response}");
    assert!(waits.ask("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200 "), "not ready, but alive");
}

#[test]
fn a_connection_may_ask_again() {
    let served = Served::new(None);
    let mut stream = served.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\nok\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            response.push(byte[0]);
        }
    }
}

#[test]
fn a_main_loop_that_hangs_is_noticed() {
    let (server, queries) = Server::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let connect = || TcpStream::connect(server.address()).unwrap();
    let response = ask(connect(), "GET /healthz HTTP/1.1");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    drop(queries);
    assert!(ask(connect(), "GET /metrics HTTP/1.1").starts_with("HTTP/1.1 503 "));
}

#[test]
fn an_address_in_use_is_an_error() {
    let served = Served::new(None);
    assert_eq!(Server::start(served.address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let address = served.address;
    drop(served);
    assert!(Server::start(address).is_ok(), "it is free when the server is dropped");
}

/// Descriptors for all the connections below, at both of their ends.
fn many_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to, and to read from.
    let set = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    assert!(set == 0 && limit.rlim_cur > 3000, "{}", limit.rlim_cur);
}

/// How many of these were closed by the server.
fn closed(streams: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match (&mut &**stream).read(&mut [0; 4096]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    };
    streams.iter().filter(is_closed).count()
}

#[test]
fn abuse_does_no_harm() {
    many_descriptors();
    let served = Served::new(None);
    served.scrape();
    let before = usage().resident_bytes;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Headers without an end: as fast as they are taken, and a byte now and then.
        let endless = scope.spawn(|| {
            let mut taken = Vec::new();
            while !stop.load(Relaxed) {
                let mut stream = served.connect();
                let mut sent = stream.write(b"GET /metrics HTTP/1.1\r\nX: ").unwrap_or(0);
                while let Ok(more) = stream.write(&[b'a'; 1024]) {
                    sent += more;
                    if stop.load(Relaxed) || closed(std::slice::from_ref(&stream)) > 0 {
                        break;
                    }
                    stream.set_nonblocking(false).unwrap();
                }
                taken.push(sent);
            }
            taken
        });
        let slow = scope.spawn(|| {
            let mut streams: Vec<_> = (0..2 * MAX_CONNECTIONS).map(|_| served.connect()).collect();
            while !stop.load(Relaxed) {
                for stream in &mut streams {
                    if stream.write(b"G").is_err() {
                        *stream = served.connect();
                    }
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let garbage = scope.spawn(|| {
            let mut seed = 1u64;
            let mut sent = 0;
            while !stop.load(Relaxed) {
                let bytes = (0..2000).map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 56) as u8
                });
                let mut stream = served.connect();
                let _ = stream.write_all(&bytes.collect::<Vec<_>>()).and_then(|()| stream.read(&mut [0; 4096]));
                sent += 1;
            }
            sent
        });
        let idle: Vec<_> = (0..1000)
            .map(|place| {
                if place % 100 == 0 {
                    served.scrape();
                }
                served.connect()
            })
            .collect();
        (0..20).for_each(|_| served.scrape());
        let start = Instant::now();
        while closed(&idle) < idle.len() - MAX_CONNECTIONS {
            assert!(start.elapsed() < PATIENCE, "{} of {} were closed", closed(&idle), idle.len());
            thread::sleep(Duration::from_millis(10));
        }
        served.scrape();
        stop.store(true, Relaxed);
        let taken = endless.join().unwrap();
        // What the sockets' buffers take comes to it.
        assert!(taken.iter().all(|bytes| *bytes < MAX_HEADER_BYTES + (16 << 20)), "{taken:?}");
        assert!(garbage.join().unwrap() > 0);
        slow.join().unwrap();
    });
    served.scrape();
    let grown = usage().resident_bytes.saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}
