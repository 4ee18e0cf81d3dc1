//! What a listing knows beside the sockets that `tcptrace sockets` shows: timeouts, keepalive, and what is counted and set
//! in a namespace.

use std::{fs, time::Duration};

use socket2::{Socket, TcpKeepalive};
use tcptrace::{
    listing::{Lister, ListingOptions},
    model::{
        namespace::Namespace,
        netns_choice::NetnsChoice,
        snapshot::Snapshot,
        socket::{Keepalive, ListedSocket},
        state::State,
    },
};

use crate::{
    Test,
    net::{self, LOCALHOST, begin_connect, enter_new_netns, listen, lose_input, pair, port, sysctl, wait_until},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("keepalive, as it is set", keepalive),
    ("the timeout of a retransmission, and how often it was doubled", timeouts),
    ("settings of a namespace, where they are wanted", settings),
    ("counters of a namespace", counters),
];

/// Lists this thread's namespace by iterators, or the other way.
fn list(no_iter: bool, settings: bool) -> Snapshot {
    let wanted = ListingOptions { settings, ..ListingOptions::default() };
    Lister::alone(no_iter, Some(NetnsChoice::Own)).list(&wanted).unwrap()
}

fn find(snapshot: &Snapshot, socket: &Socket) -> ListedSocket {
    let (local, remote) = (port(socket), socket.peer_addr().map_or(0, |peer| peer.as_socket().unwrap().port()));
    let is_it = |listed: &&ListedSocket| {
        listed.local.port() == local && (listed.remote.port() == remote || listed.state == State::SynSent)
    };
    *snapshot.sockets.iter().find(is_it).unwrap_or_else(|| panic!("no {local} in {:#?}", snapshot.sockets))
}

fn seconds(ns: Option<u64>) -> Option<u64> {
    ns.map(|ns| (ns + 500_000_000) / 1_000_000_000)
}

fn keepalive() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let [own, plain, off, half_closed, busy] = [(); 5].map(|()| pair(&listener, to));
    let keepalive = TcpKeepalive::new();
    let all = keepalive.with_time(Duration::from_secs(90)).with_interval(Duration::from_secs(7)).with_retries(4);
    own.0.set_tcp_keepalive(&all).unwrap();
    for socket in [&plain.0, &half_closed.0, &busy.0] {
        socket.set_keepalive(true).unwrap();
    }
    half_closed.1.shutdown(std::net::Shutdown::Write).unwrap();
    net::wait_for_fin(&half_closed.0);
    lose_input(&busy.1);
    busy.0.send(b"?").unwrap();

    let unset = Keepalive::On { time_ns: None, interval_ns: None, probes: None };
    let by_iterator = list(false, false);
    if by_iterator.sockets[0].sk.is_some() {
        let Keepalive::On { time_ns, interval_ns, probes } = find(&by_iterator, &own.0).keepalive else {
            panic!("off: {:#?}", find(&by_iterator, &own.0));
        };
        assert_eq!((seconds(time_ns), seconds(interval_ns), probes), (Some(90), Some(7), Some(4)));
        assert_eq!(find(&by_iterator, &busy.0).keepalive, unset);
    }
    let by_diag = list(true, false);
    assert_eq!(find(&by_diag, &own.0).keepalive, unset, "not known what is set");
    assert_eq!(find(&by_diag, &busy.0).keepalive, Keepalive::Unknown, "another timer is told of");
    for snapshot in [by_iterator, by_diag] {
        for socket in [&plain.0, &half_closed.0] {
            assert_eq!(find(&snapshot, socket).keepalive, unset);
        }
        for socket in [&off.0, &off.1] {
            assert_eq!(find(&snapshot, socket).keepalive, Keepalive::Off);
        }
    }
}

fn timeouts() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let (stuck, deaf) = pair(&listener, to);
    stuck.set_tcp_user_timeout(Some(Duration::from_millis(60_000))).unwrap();
    lose_input(&deaf);
    stuck.send(b"into the void").unwrap();
    let (unheard, to_unheard) = listen(LOCALHOST);
    lose_input(&unheard);
    let client = net::socket(LOCALHOST);
    begin_connect(&client, to_unheard);
    for no_iter in [false, true] {
        let mut snapshot = list(no_iter, false);
        wait_until("a second timeout", || {
            snapshot = list(no_iter, false);
            find(&snapshot, &stuck).backoff >= Some(2)
        });
        let listed = find(&snapshot, &stuck);
        assert!((400_000_000..100_000_000_000).contains(&listed.rto_ns.unwrap()), "{listed:#?}");
        assert_eq!(listed.user_timeout_ms, listed.sk.map(|_| 60_000), "{listed:#?}");
        let idle = find(&snapshot, &deaf);
        assert_eq!((idle.backoff, idle.user_timeout_ms), (Some(0), idle.sk.map(|_| 0)), "{idle:#?}");
        assert!(find(&snapshot, &client).rto_ns >= Some(900_000_000), "{:#?}", find(&snapshot, &client));
        let of_listener = snapshot.sockets.iter().find(|socket| socket.state == State::Listen).unwrap();
        assert_eq!((of_listener.rto_ns, of_listener.backoff), (None, None));
    }
}

fn own(snapshot: &Snapshot) -> &Namespace {
    &snapshot.namespaces[0]
}

fn settings() {
    enter_new_netns();
    for (name, value) in
        [("tcp_keepalive_time", 77), ("tcp_retries2", 5), ("tcp_max_tw_buckets", 100), ("tcp_tw_reuse", 1)]
    {
        sysctl(name, value);
    }
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "3000 3009").unwrap();
    fs::write("/proc/sys/net/core/somaxconn", "9").unwrap();
    for no_iter in [false, true] {
        let snapshot = list(no_iter, true);
        let settings = own(&snapshot).settings.unwrap();
        assert_eq!(
            (settings.keepalive_time, settings.retries2, settings.max_tw_buckets, settings.tw_reuse),
            (Some(77), Some(5), Some(100), Some(1))
        );
        assert_eq!((settings.local_ports, settings.somaxconn), (Some((3000, 3009)), Some(9)));
        assert_eq!((settings.keepalive_interval, settings.syn_retries), (Some(75), Some(6)), "as by default");
        assert_eq!(own(&list(no_iter, false)).settings, None);
    }
}

fn counters() {
    enter_new_netns();
    assert_eq!(own(&list(true, false)).counters.unwrap().listen_overflows, 0);
    let (listener, to) = listen(LOCALHOST);
    listener.listen(0).unwrap();
    let clients = [(); 3].map(|()| net::socket(LOCALHOST));
    for client in &clients {
        begin_connect(client, to); // there is room for one
    }
    for no_iter in [false, true] {
        wait_until("an overflow", || {
            let counters = own(&list(no_iter, false)).counters.unwrap();
            counters.listen_overflows > 0 && counters.listen_drops > 0 && counters.time_wait_overflows == 0
        });
    }
}
