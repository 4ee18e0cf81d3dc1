//! Normal lives: every state in order, with true times and owners.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen, lose_input, pair, port, receive_again, settle},
    tracer::{Life, Tracer, have_cookies},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("client and server, client closes first", client_closes_first),
    ("server closes first", server_closes_first),
    ("half-close", half_close),
    ("simultaneous close goes through CLOSING", simultaneous_close),
    ("simultaneous open goes through SYN_RECV", simultaneous_open),
    ("IPv6", ipv6),
    ("IPv4 on an IPv6 listener is shown as IPv4", v4_mapped),
    ("SYN_RECV lasts as long as the handshake", syn_recv_time),
    ("retransmitted segments", retransmits),
    ("a reused socket begins a new life", reused_socket),
    ("a socket older than the tracer has lower bounds and a holder", older_socket),
];

const SERVER: &str = "LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE";

fn assert_between(event: &serde_json::Value, at_least: Duration, at_most: Duration) {
    let ns = event["time_in_old_state_ns"].as_u64().unwrap_or_else(|| panic!("no time in {event:#}"));
    let (least, most) = (at_least.as_nanos() as u64, at_most.as_nanos() as u64);
    assert!((least..=most).contains(&ns), "{ns} ns is not within {least}..{most}: {event:#}");
}

fn assert_constant(life: &Life, field: &str) {
    if field == "cookie" && !have_cookies() {
        return;
    }
    let first = &life.0[0][field];
    assert!(!first.is_null(), "no {field}");
    assert!(life.0.iter().all(|event| event[field] == *first), "{field} changes: {:#?}", life.0);
}

fn client_closes_first() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let before_connect = Instant::now();
    let (client, server) = pair(&listener, to);
    let after_connect = Instant::now();
    exchange(&client, &server, b"question");
    exchange(&server, &client, b"the answer");
    std::thread::sleep(Duration::from_millis(80));
    let client_port = port(&client);
    let before_close = Instant::now();
    drop(client);
    net::wait_for_fin(&server);
    let in_close_wait = Instant::now();
    let least_established = before_close - after_connect;
    let most_established = in_close_wait - before_connect;
    std::thread::sleep(Duration::from_millis(60));
    let before_last = Instant::now();
    drop(server);
    settle();
    let end = Instant::now();
    drop(listener);
    settle();
    let events = tracer.stop().events(netns);
    let me = std::process::id();

    let life = events.life(client_port, to.port());
    life.assert_owner(me, "connect", "connect");
    life.assert_closed_first();
    assert_between(life.leaving("ESTABLISHED"), least_established, most_established);
    assert_eq!(life.0.last().unwrap()["new_state_source"], "inferred");
    assert_eq!(life.leaving("CLOSE")["time_in_old_state_ns"], serde_json::Value::Null);
    assert!(life.entering("ESTABLISHED")["handshake_rtt_ns"].as_u64().unwrap() > 0);
    assert_constant(&life, "cookie");
    assert_constant(&life, "netns");

    let life = events.life(to.port(), client_port);
    life.assert_path(SERVER);
    life.assert_owner(me, "listener", "io");
    life.assert_ending("normal", "");
    assert_between(life.leaving("ESTABLISHED"), least_established, most_established);
    assert_between(life.leaving("CLOSE_WAIT"), before_last - in_close_wait, end - before_close);
    let established = life.leaving("ESTABLISHED");
    assert_eq!(established["bytes_received"], 8 + 1, "the question and the FIN");
    assert_constant(&life, "cookie");

    let life = events.life(to.port(), 0);
    life.assert_path("CLOSE LISTEN CLOSE");
    life.assert_owner(me, "listen", "listen");
    assert_between(life.leaving("LISTEN"), end - before_connect, end - before_connect + Duration::from_secs(60));
}

fn server_closes_first() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    drop(server);
    net::wait_for_fin(&client);
    drop(client);
    settle();
    let events = tracer.stop().events(netns);
    let server = events.life(to.port(), client_port);
    let path = server.path().join(" ");
    // The peer's FIN comes either before or after the kernel gives the closed socket to a mini-socket.
    let expected = "LISTEN SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2";
    assert!(path == format!("{expected} TIME_WAIT") || path == format!("{expected} FIN_WAIT2"), "{path}");
    events.life(client_port, to.port()).assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE");
}

fn half_close() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    net::wait_for_fin(&server);
    settle(); // the delayed ACK of the FIN, or the data's
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    exchange(&server, &client, b"more");
    let waited = start.elapsed();
    drop(server);
    net::wait_for_fin(&client);
    drop(client);
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(client_port, to.port());
    life.assert_path("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 TIME_WAIT");
    life.assert_ending("normal", "");
    assert!(life.leaving("FIN_WAIT2")["time_in_old_state_ns"].as_u64().unwrap() > 0);
    let life = events.life(to.port(), client_port);
    life.assert_path(SERVER);
    assert_between(life.leaving("CLOSE_WAIT"), waited, waited + Duration::from_secs(60));
}

fn simultaneous_close() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    lose_input(&client);
    lose_input(&server);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    server.shutdown(std::net::Shutdown::Write).unwrap();
    receive_again(&client);
    receive_again(&server);
    net::wait_for_fin(&client); // sent again
    net::wait_for_fin(&server);
    drop(client);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let paths = [events.life(client_port, to.port()), events.life(to.port(), client_port)].map(|life| life.path());
    assert!(paths.iter().all(|path| path.contains(&"FIN_WAIT1".to_owned())), "{paths:?}");
    assert!(paths.iter().all(|path| path.last().unwrap() == "TIME_WAIT"), "{paths:?}");
    assert!(paths.iter().any(|path| path.contains(&"CLOSING".to_owned())), "{paths:?}");
}

fn simultaneous_open() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let socket = net::socket(LOCALHOST);
    socket.bind(&SocketAddr::new(LOCALHOST, 4242).into()).unwrap();
    socket.connect(&SocketAddr::new(LOCALHOST, 4242).into()).unwrap(); // to itself: its SYN crosses itself
    drop(socket);
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(4242, 4242);
    assert!(life.path().join(" ").starts_with("CLOSE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1"), "{:?}", life.path());
    life.assert_owner(std::process::id(), "connect", "connect");
    assert_eq!(life.leaving("SYN_RECV")["time_source"], "observed");
    assert_eq!(life.leaving("CLOSE")["local_port"], 4242, "a bound port is known from the start");
}

fn ipv6() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    exchange(&client, &server, b"six");
    drop(client);
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let (client, server) = (events.life(client_port, to.port()), events.life(to.port(), client_port));
    client.assert_closed_first();
    server.assert_path(SERVER);
    for life in [client, server] {
        for event in &life.0 {
            assert_eq!((&event["local_address"], &event["remote_address"]), (&"::1".into(), &"::1".into()));
            assert_eq!(event["family"], "inet6");
            assert_eq!(event["pid"], std::process::id());
        }
    }
}

fn v4_mapped() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, bound) = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let to = SocketAddr::new(LOCALHOST, bound.port());
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    exchange(&client, &server, b"four");
    drop(client);
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(bound.port(), client_port);
    life.assert_path(SERVER);
    life.assert_owner(std::process::id(), "listener", "io");
    for event in &life.0 {
        assert_eq!((&event["local_address"], &event["family"]), (&"127.0.0.1".into(), &"inet6".into()));
    }
}

fn syn_recv_time() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let client = net::socket(LOCALHOST);
    lose_input(&client); // the first SYN-ACK is lost
    client.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let _ = client.connect(&to.into());
    std::thread::sleep(Duration::from_millis(300));
    receive_again(&client);
    client.set_nonblocking(false).unwrap();
    let (server, _) = listener.accept().unwrap();
    let took = start.elapsed();
    let client_port = port(&client);
    drop((client, server));
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(to.port(), client_port);
    let established = life.entering("ESTABLISHED");
    // The kernel measures from the last SYN-ACK: less than the whole, and said to be a lower bound.
    assert_eq!(established["time_source"], "handshake_rtt_lower_bound", "{established:#}");
    let again: Vec<_> = events.of_kind("synack_retransmit").collect();
    assert!(!again.is_empty(), "SYN-ACKs were sent again");
    for event in again {
        assert_eq!((&event["local_port"], &event["remote_port"]), (&to.port().into(), &client_port.into()));
        assert_eq!(event["pid"], std::process::id());
        assert_eq!(event["state"], "SYN_RECV");
    }
    let life = events.life(client_port, to.port());
    assert_between(life.leaving("SYN_SENT"), Duration::from_millis(300), took);
    assert!(life.0.iter().any(|event| event["event"] == "retransmit" && event["state"] == "SYN_SENT"));
}

fn retransmits() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    lose_input(&server);
    client.send(b"lost").unwrap();
    std::thread::sleep(Duration::from_millis(900)); // RTO from 200 ms on, doubled each time
    receive_again(&server);
    let mut buffer = [std::mem::MaybeUninit::new(0); 16];
    assert_eq!(server.recv(&mut buffer).unwrap(), 4);
    drop(client);
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let events = tracer.stop().events(netns);
    let life = events.life(client_port, to.port());
    let again: Vec<_> = life.0.iter().filter(|event| event["event"] == "retransmit").collect();
    assert!(again.len() >= 2, "{:#?}", life.0);
    // Timers run on top of whatever task is on the CPU. Some hosts show programs nothing on top of tasks that they
    // protect, so one of them may be missing, but none is told twice.
    let total = |event: &serde_json::Value| event["total_retrans"].as_u64().unwrap();
    assert!(again.windows(2).all(|pair| total(pair[0]) < total(pair[1])), "{again:#?}");
    for event in &again {
        assert_eq!(event["state"], "ESTABLISHED");
        assert_eq!(event["pid"], std::process::id());
    }
    life.assert_closed_first();
    assert!(total(life.transitions().last().unwrap()) >= again.len() as u64);
}

fn reused_socket() {
    if !have_cookies() {
        return println!("sockets have no cookies here");
    }
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    for _ in 0..200 {
        let (client, server) = pair(&listener, to);
        drop(client);
        net::wait_for_fin(&server);
        drop(server);
    }
    settle();
    let events = tracer.stop().events(netns);
    let cookies: std::collections::HashSet<_> = events.0.iter().filter_map(|event| event["cookie"].as_u64()).collect();
    assert_eq!(cookies.len(), 401, "200 connections of two ends, and the listener");
    for cookie in cookies {
        let of_cookie = events.0.iter().filter(|event| event["cookie"] == cookie && event["event"] == "transition");
        let life = Life(of_cookie.cloned().collect());
        match life.path().join(" ").as_str() {
            SERVER | "CLOSE LISTEN" => {}
            _ => life.assert_closed_first(),
        }
    }
}

fn older_socket() {
    const OLD: Duration = Duration::from_millis(300);
    for no_iter in [&[][..], &["--no-iter"]] {
        let netns = enter_new_netns();
        let (listener, to) = listen(LOCALHOST);
        let (client, server) = pair(&listener, to);
        let client_port = port(&client);
        exchange(&client, &server, b"question");
        exchange(&server, &client, b"the answer");
        std::thread::sleep(OLD);
        let tracer = Tracer::here(no_iter);
        drop(client);
        net::wait_for_fin(&server);
        drop(server);
        settle();
        let events = tracer.stop().events(netns);
        let me = std::process::id();

        let life = events.life(client_port, to.port());
        assert!(life.path().join(" ").starts_with("ESTABLISHED FIN_WAIT1 FIN_WAIT2 "), "{:?}", life.path());
        let left = life.leaving("ESTABLISHED");
        assert_between(left, OLD * 9 / 10, Duration::from_secs(60));
        assert_eq!((&left["time_source"], &left["after_gap"]), (&"lower_bound".into(), &false.into()), "{left:#}");
        assert_eq!(life.leaving("FIN_WAIT1")["time_source"], "observed");
        life.assert_owner(me, "close", "close");

        let life = events.life(to.port(), client_port);
        let left = life.leaving("ESTABLISHED");
        assert_between(left, OLD * 9 / 10, Duration::from_secs(60));
        assert_eq!(left["time_source"], "lower_bound");
        // Nobody has touched it yet: who holds it is known from the listing.
        life.assert_owner(me, "holder", "close");
    }
}
