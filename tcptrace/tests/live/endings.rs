//! Every way in which a connection ends, told apart.

use std::{
    collections::BTreeMap,
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen, lose_input, now_ns, pair, port, settle, sysctl},
    ss,
    tracer::{Events, Run, Tracer, have_cookies},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("refused", refused),
    ("reset by peer, and the linger abort that does it", linger_abort),
    ("close with unread data", unread_data),
    ("close with unread data after shutdown", unread_data_after_shutdown),
    ("shutdown while connecting", shutdown_while_connecting),
    ("connect(AF_UNSPEC)", disconnect),
    ("listener closed before accept", listener_closed),
    ("closed while connecting", closed_while_connecting),
    ("user timeout", user_timeout),
    ("unanswered SYN", unanswered_syn),
    ("orphan in FIN_WAIT2", orphan),
    ("TCP_LINGER2 below 0", linger2),
    ("write after the peer closed", write_after_close),
    ("TIME_WAIT is at the end that closed first", time_wait),
    ("an orphan in FIN_WAIT2 that stays a full socket", full_orphan),
    ("killed by ss -K", killed),
    ("a RST after silence", silence),
];

/// Traces what `play` does with a connected pair; it gets the client's end, the server's and the listener. Gives the
/// events, the client's port and the server's.
fn play(play: impl FnOnce(Socket, Socket, Socket)) -> (Events, u16, u16) {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    play(client, server, listener);
    (finish(tracer, netns).events(netns), client_port, to.port())
}

/// Ends the trace, and compares what its events say with what ss shows at the same moment: which sockets are there, in
/// which states, and how long mini-sockets will stay.
fn finish(tracer: Tracer, netns: u64) -> Run {
    settle();
    let (at_ns, there) = (now_ns(), ss::list());
    let run = tracer.stop();
    if !have_cookies() {
        return run; // it is by cookies that they are compared
    }
    let events = run.events(netns);
    let mut last: BTreeMap<u64, &Value> = BTreeMap::new();
    for event in events.of_kind("transition") {
        // A connection that comes in may have its listener's cookie at first.
        if let Some(cookie) = event["cookie"].as_u64().filter(|_| event["new_state"] != "SYN_RECV") {
            last.insert(cookie, event);
        }
    }
    let told: BTreeMap<u64, &str> = last
        .iter()
        .map(|(cookie, event)| (*cookie, event["new_state"].as_str().unwrap()))
        .filter(|(_, state)| *state != "CLOSE")
        .collect();
    let shown: BTreeMap<u64, &str> = there.iter().map(|socket| (socket.cookie, socket.state)).collect();
    assert_eq!(told, shown, "{:#?}\n{there:#?}", events.0);
    for socket in &there {
        let event = last[&socket.cookie];
        assert_eq!(event["remote_port"].as_u64().unwrap_or(0), u64::from(socket.remote.port()), "{event:#}");
        if event["new_state_source"] == "inferred" {
            let (kind, left) = socket.timer.clone().expect("a mini-socket has a timer");
            let since = Duration::from_nanos(at_ns.saturating_sub(event["mono_ns"].as_u64().unwrap()));
            let expected = MINI.saturating_sub(since);
            assert!(
                kind == "timewait" && left.abs_diff(expected) <= Duration::from_secs(2),
                "{expected:?}: {socket:?}"
            );
        }
    }
    run
}

/// TIME_WAIT lasts as long, and so does an orphan's FIN_WAIT2 by default (`tcp_fin_timeout`).
const MINI: Duration = Duration::from_secs(60);

fn refused() {
    let netns = enter_new_netns();
    let tracer = Tracer::json(&[]);
    let client = net::socket(LOCALHOST);
    client.bind(&SocketAddr::new(LOCALHOST, 5001).into()).unwrap();
    assert!(client.connect(&SocketAddr::new(LOCALHOST, 5002).into()).is_err());
    let run = finish(tracer, netns);
    let events = run.events(netns);
    let life = events.life(5001, 5002);
    life.assert_path("CLOSE SYN_SENT CLOSE");
    life.assert_ending("refused", "ECONNREFUSED");
    life.assert_owner(std::process::id(), "connect", "connect");
    let received = life.0.iter().find(|event| event["event"] == "reset_received").expect("a RST");
    assert_eq!(facts(received), [const { None }; 5], "nothing was established: {received:#}");
    assert!(life.leaving("SYN_SENT")["time_in_old_state_ns"].as_u64().unwrap() > 0);
    // Where the kernel tells of RSTs without a socket (6.12 and later), the one that refused is there.
    let answer = run
        .records()
        .into_iter()
        .find(|event| event["event"] == "reset_sent" && event["local_port"] == 5002 && event["remote_port"] == 5001);
    if let Some(answer) = answer {
        assert!(answer["pid"].is_null() && answer["sk"].is_null(), "nobody sent it: {answer:#}");
        assert_eq!(answer["reason"], "no_socket");
        assert_eq!(facts(&answer), [const { None }; 5], "{answer:#}");
    }
}

/// What a RST's record tells of the connection.
fn facts(reset: &Value) -> [Option<u64>; 5] {
    ["receive_queue", "send_queue", "last_sent_ns", "last_received_ns", "last_ack_ns"].map(|name| reset[name].as_u64())
}

/// The queues that a record tells.
fn queues(record: &Value) -> (u64, u64) {
    (record["receive_queue"].as_u64().unwrap(), record["send_queue"].as_u64().unwrap())
}

fn linger_abort() {
    let (events, client, server) = play(|client, server, _listener| {
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        settle();
        drop(server);
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE");
    life.assert_ending("aborted_linger_zero", "");
    assert!(life.0.iter().any(|event| event["event"] == "reset_sent"));
    let life = events.life(server, client);
    life.assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE");
    life.assert_ending("reset_by_peer", "ECONNRESET");
    assert!(life.0.iter().any(|event| event["event"] == "reset_received" && event["state"] == "ESTABLISHED"));
}

fn unread_data() {
    let (events, client, server) = play(|client, server, _listener| {
        client.send(b"never read").unwrap();
        net::wait_readable(&server);
        drop(server);
        settle();
        drop(client);
    });
    let life = events.life(server, client);
    life.assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE");
    life.assert_ending("aborted_unread_data", "");
    let sent = life.0.iter().find(|event| event["event"] == "reset_sent").expect("a RST");
    assert_eq!(sent["pid"], std::process::id());
    assert_eq!((queues(sent), queues(life.entering("CLOSE"))), ((10, 0), (10, 0)));
    assert_eq!(queues(life.entering("ESTABLISHED")), (0, 0));
    let life = events.life(client, server);
    life.assert_ending("reset_by_peer", "ECONNRESET");
    assert_eq!(queues(life.entering("CLOSE")), (0, 0));
}

fn unread_data_after_shutdown() {
    let (events, client, server) = play(|client, server, _listener| {
        client.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&server);
        server.send(b"never read").unwrap();
        net::wait_readable(&client);
        drop(client);
        settle();
        drop(server);
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE");
    life.assert_ending("aborted_unread_data", "");
    assert_eq!(queues(life.entering("CLOSE")), (10, 0));
    assert_eq!(queues(life.entering("FIN_WAIT2")), (0, 0), "the FIN was acknowledged");
    events.life(server, client).assert_ending("reset_by_peer", "EPIPE");
}

fn shutdown_while_connecting() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    lose_input(&listener);
    let client = net::socket(LOCALHOST);
    client.set_nonblocking(true).unwrap();
    let _ = client.connect(&to.into());
    let client_port = port(&client);
    client.shutdown(Shutdown::Both).unwrap();
    drop(client);
    let life = finish(tracer, netns).events(netns).life(client_port, to.port());
    life.assert_path("CLOSE SYN_SENT CLOSE");
    let ending = life.0.last().unwrap()["ending"].as_str().unwrap();
    assert!(["aborted_disconnect", "aborted_before_established"].contains(&ending), "{ending}");
}

fn disconnect() {
    let (events, client, server) = play(|client, server, _listener| {
        let unspecified = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
        use std::os::fd::AsRawFd as _;
        // SAFETY: the address is as long as is said.
        let result = unsafe { libc::connect(client.as_raw_fd(), &raw const unspecified, 16) };
        assert_eq!(result, 0);
        settle();
        drop((client, server));
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE");
    life.assert_ending("aborted_disconnect", "");
}

fn listener_closed() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    let client = net::socket(LOCALHOST);
    client.connect(&to.into()).unwrap();
    let client_port = port(&client);
    net::wait_readable(&listener);
    drop(listener);
    let events = finish(tracer, netns).events(netns);
    let life = events.life(to.port(), client_port);
    life.assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE");
    life.assert_ending("aborted_listener_closed", "");
    life.assert_owner(std::process::id(), "listener", "listener");
    events.life(client_port, to.port()).assert_ending("reset_by_peer", "ECONNRESET");
}

fn closed_while_connecting() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    lose_input(&listener);
    let client = net::socket(LOCALHOST);
    client.set_nonblocking(true).unwrap();
    let _ = client.connect(&to.into());
    let client_port = port(&client);
    drop(client);
    let events = finish(tracer, netns).events(netns);
    let life = events.life(client_port, to.port());
    life.assert_path("CLOSE SYN_SENT CLOSE");
    life.assert_ending("aborted_before_established", "");
}

fn user_timeout() {
    let (events, client, server) = play(|client, server, _listener| {
        client.set_tcp_user_timeout(Some(Duration::from_millis(500))).unwrap();
        lose_input(&server);
        client.send(b"into the void").unwrap();
        let mut buffer = [std::mem::MaybeUninit::new(0); 16];
        let error = client.recv(&mut buffer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        drop((client, server));
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE");
    life.assert_ending("timed_out", "ETIMEDOUT");
    assert_eq!(queues(life.entering("CLOSE")), (0, 13));
    assert!(life.0.iter().any(|event| event["event"] == "retransmit"));
    life.assert_owner(std::process::id(), "connect", "connect");
}

fn unanswered_syn() {
    let netns = enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen(LOCALHOST);
    lose_input(&listener);
    let client = net::socket(LOCALHOST);
    client.set_tcp_user_timeout(Some(Duration::from_millis(1500))).unwrap();
    client.bind(&SocketAddr::new(LOCALHOST, 5003).into()).unwrap();
    assert_eq!(client.connect(&to.into()).unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
    let events = finish(tracer, netns).events(netns);
    let life = events.life(5003, to.port());
    life.assert_path("CLOSE SYN_SENT CLOSE");
    life.assert_ending("timed_out", "ETIMEDOUT");
    let again = life.0.iter().find(|event| event["event"] == "retransmit").expect("the SYN is sent again");
    assert_eq!((&again["state"], &again["total_retrans"]), (&"SYN_SENT".into(), &1.into()));
}

fn orphan() {
    let (events, client, server) = play(|client, server, _listener| {
        drop(client); // and the server does not close
        std::thread::sleep(Duration::from_millis(200));
        drop(server);
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 FIN_WAIT2");
    let last = life.0.last().unwrap();
    assert_eq!((&last["new_state_source"], &last["ending"]), (&"inferred".into(), &serde_json::Value::Null));
    let server = events.life(server, client);
    assert!(server.leaving("CLOSE_WAIT")["time_in_old_state_ns"].as_u64().unwrap() > 100_000_000);
}

fn linger2() {
    let (events, client, server) = play(|client, server, _listener| {
        use std::os::fd::AsRawFd as _;
        let never: libc::c_int = -1;
        // SAFETY: the value is as long as is said.
        let result = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_LINGER2,
                (&raw const never).cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        assert_eq!(result, 0);
        drop(client);
        std::thread::sleep(Duration::from_millis(200)); // until the FIN is acknowledged
        drop(server);
    });
    let life = events.life(client, server);
    assert_eq!(life.path().last().unwrap(), "CLOSE");
    life.assert_ending("aborted_linger2", "");
}

fn write_after_close() {
    let (events, client, server) = play(|client, server, _listener| {
        exchange(&client, &server, b"first");
        drop(client);
        net::wait_for_fin(&server);
        server.send(b"nobody is there").unwrap();
        settle();
        assert!(server.send(b"and now it is known").is_err());
        drop(server);
    });
    let life = events.life(server, client);
    life.assert_path("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT CLOSE");
    life.assert_ending("reset_by_peer", "EPIPE");
    let received = life.0.iter().find(|event| event["event"] == "reset_received").expect("a RST");
    assert_eq!(received["state"], "CLOSE_WAIT");
}

fn time_wait() {
    for client_first in [true, false] {
        let (events, client, server) = play(|client, server, _listener| {
            let (first, last) = if client_first { (client, server) } else { (server, client) };
            first.shutdown(Shutdown::Write).unwrap();
            net::wait_for_fin(&last);
            drop(last);
            net::wait_for_fin(&first);
            let minis: Vec<_> = ss::list().into_iter().filter(|socket| socket.state == "TIME_WAIT").collect();
            assert_eq!(minis.iter().map(|mini| mini.local.port()).collect::<Vec<_>>(), [port(&first)]);
        });
        let (first, last) = if client_first { (client, server) } else { (server, client) };
        let life = events.life(first, last);
        assert!(life.path().join(" ").ends_with("ESTABLISHED FIN_WAIT1 FIN_WAIT2 TIME_WAIT"), "{:?}", life.path());
        life.assert_ending("normal", "");
        let life = events.life(last, first);
        assert!(life.path().join(" ").ends_with("ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE"), "{:?}", life.path());
        life.assert_ending("normal", "");
    }
}

fn full_orphan() {
    let (events, client, server) = play(|client, server, _listener| {
        sysctl("tcp_fin_timeout", 100); // longer than a mini-socket lives
        let client_port = port(&client);
        drop(client);
        net::wait_for_fin(&server);
        let is_it = |socket: &ss::Socket| socket.local.port() == client_port && socket.state == "FIN_WAIT2";
        net::wait_until("the orphan", || ss::list().iter().any(is_it));
        let orphan = ss::list().into_iter().find(is_it).unwrap();
        let (kind, left) = orphan.timer.unwrap();
        assert!(kind == "keepalive" && left > MINI / 2, "{kind} {left:?}");
        drop(server);
        settle();
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 TIME_WAIT");
    life.assert_ending("normal", "");
}

fn killed() {
    let (events, client, server) = play(|client, server, _listener| {
        ss::kill(&["state", "established", "sport", "=", &format!(":{}", port(&client))]);
        settle();
        drop((client, server));
    });
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE");
    life.assert_ending("aborted_destroyed", "ECONNABORTED");
    events.life(server, client).assert_ending("reset_by_peer", "ECONNRESET");
}

/// The client says 5 bytes, and a second later 3 more that get lost; the server, which reads nothing, says nothing.
fn silence() {
    let (events, client, server) = play(|client, server, _listener| {
        client.send(b"hello").unwrap();
        net::wait_readable(&server);
        server.shutdown(Shutdown::Write).unwrap();
        net::wait_for_fin(&client);
        std::thread::sleep(Duration::from_millis(1500));
        lose_input(&server);
        client.send(b"???").unwrap();
        std::thread::sleep(Duration::from_millis(500));
        net::receive_again(&server);
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        settle();
        drop(server);
    });
    let reset = |life: &crate::tracer::Life, kind: &str| {
        let reset = life.0.iter().find(|event| event["event"] == kind).expect("a RST").clone();
        (queues(&reset), facts(&reset).map(|fact| fact.unwrap() as f64 / 1e9))
    };
    let about = |seconds: f64, expected: f64| (expected - 0.02..expected + 5.0).contains(&seconds);
    let life = events.life(client, server);
    life.assert_path("CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT CLOSE");
    let (queues_of_client, [_, _, sent, received, ack]) = reset(&life, "reset_sent");
    assert_eq!((queues_of_client, queues(life.entering("CLOSE"))), ((0, 3), (0, 3)), "{:#?}", life.0);
    assert_eq!(queues(life.entering("CLOSE_WAIT")), (0, 0), "a FIN is no data");
    assert!(sent < 1.0 && about(received, 2.0) && about(ack, 2.0), "{:#?}", life.0);
    let life = events.life(server, client);
    let (queues_of_server, [_, _, sent, received, ack]) = reset(&life, "reset_received");
    assert_eq!(queues_of_server, (5, 0), "{:#?}", life.0);
    assert!([sent, received, ack].iter().all(|time| about(*time, 2.0)), "{:#?}", life.0);
}
