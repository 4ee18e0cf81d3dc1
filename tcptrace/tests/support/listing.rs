//! A listing made by hand, with sockets of all kinds, and what `tcptrace sockets` prints of it.

use std::{convert::Infallible, net::SocketAddr};

use bytes::BytesMut;
use tcptrace::{
    cli::args::GroupBy,
    commands::sockets::{
        csv::Csv,
        form::Form,
        json::Json,
        listing::Listing,
        rows::{Cgroups, add_peers, count, rows, sort, totals},
        text::{Text, TextOptions},
    },
    model::{
        event::{Command, Owner, OwnerSource, StartTicks},
        filter::Filter,
        holders::{Holder, Holders},
        namespace::{Namespace, NetCounters},
        skipped::Skipped,
        snapshot::Snapshot,
        socket::{ConnectionInfo, Kind, ListedSocket, Timer, TimerKind},
        state::State,
        time::WallOffset,
    },
};

/// CLOCK_MONOTONIC of the listing's end.
pub(crate) const ENDED_NS: u64 = 7_200_000_000_000;
/// A network namespace without a name, and one that has one.
pub(crate) const NETNS: u32 = 4_026_531_840;
/// See [`NETNS`].
pub(crate) const BLUE: u32 = 4_026_532_200;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A socket that a file refers to, and whose handle is `handle`.
pub(crate) fn socket(handle: u64, state: State, local: &str, remote: &str) -> ListedSocket {
    let connected = state != State::Listen;
    ListedSocket {
        sk: Some(0xffff_8881_0000_0000 + handle),
        cookie: Some(handle + 100),
        handle,
        ipv6: end(local).is_ipv6(),
        uid: Some(33),
        connection: connected.then_some(ConnectionInfo {
            last_sent_ns: 250 * MS,
            last_received_ns: 90 * S,
            last_ack_ns: 80 * S,
            srtt_us: Some(409),
            total_retrans: 0,
            bytes_acked: 519,
            bytes_received: 48_114,
            is_accepted: Some(true),
            ..ConnectionInfo::default()
        }),
        ..ListedSocket::new(Kind::Full, state, NETNS, end(local), end(remote))
    }
}

/// A mini-socket or a request, which knows less.
pub(crate) fn small(handle: u64, kind: Kind, state: State, local: &str, remote: &str, timer: Timer) -> ListedSocket {
    let full = socket(handle, state, local, remote);
    ListedSocket { kind, uid: None, connection: None, timer: Some(timer), ..full }
}

/// A descriptor by which a process holds a socket.
pub(crate) fn holder(handle: u64, pid: u32, ns_pid: u32, fd: u32, command: &[u8]) -> Holder {
    let mut bytes = [0; 16];
    bytes[..command.len()].copy_from_slice(command);
    Holder {
        handle,
        pid,
        ns_pid,
        fd,
        uid: 33,
        cgroup: None,
        start: StartTicks::new(360_000),
        command: Command::new(bytes),
    }
}

/// A timer that runs.
pub(crate) const fn timer(kind: TimerKind, left_ns: u64) -> Timer {
    Timer { kind, left_ns }
}

/// Command names that a process may choose to do harm.
pub(crate) const HOSTILE: [&[u8]; 4] = [b"\x1b[2J\x07\r\n,end", b"a\"b\\c,d'", b"\xff\xfe(\xf0", b""];

/// Sockets of all kinds, in no order.
pub(crate) fn snapshot() -> Snapshot {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait};
    let keepalive = timer(TimerKind::Keepalive, 110 * S);
    let command = holder(0, 0, 0, 0, b"nginx").command;
    let owner = Owner { pid: 801, uid: 33, cgroup: 4711, start: None, command, source: OwnerSource::Accept };
    let request = |handle, local, remote, left_ns| {
        small(handle, Kind::Request, SynRecv, local, remote, timer(TimerKind::Retransmit, left_ns))
    };
    let timewait = |handle, state, local, remote, left_ns| {
        small(handle, Kind::TimeWait, state, local, remote, timer(TimerKind::TimeWait, left_ns))
    };
    let mut sockets = vec![
        timewait(40, TimeWait, "10.1.0.1:80", "10.1.0.9:50001", 42 * S),
        timewait(41, FinWait2, "10.1.0.1:80", "10.1.0.9:50002", 12_300 * MS),
        ListedSocket {
            owner: Some(owner),
            entered_ns: Some(ENDED_NS - 3_725 * S),
            timer: Some(keepalive),
            ..socket(10, Established, "10.1.0.1:80", "10.1.0.9:40000")
        },
        ListedSocket { receive_queue: 2, send_queue: 511, ..socket(1, Listen, "0.0.0.0:80", "0.0.0.0:0") },
        ListedSocket { send_queue: 128, ..socket(2, Listen, "[::]:443", "[::]:0") },
        ListedSocket { send_queue: 4096, ..socket(3, Listen, "10.1.0.1:443", "0.0.0.0:0") },
        request(20, "10.1.0.1:80", "10.1.0.9:33000", 400 * MS),
        ListedSocket { timeouts: 2, ..request(21, "10.1.0.1:80", "10.1.0.9:33001", 1_600 * MS) },
        request(22, "10.1.0.1:443", "10.1.0.9:33002", 700 * MS),
        request(23, "10.1.0.2:443", "10.1.0.9:33003", 700 * MS),
        ListedSocket {
            receive_queue: 12,
            send_queue: 1448,
            timer: Some(timer(TimerKind::Retransmit, 0)),
            timeouts: 3,
            ..socket(11, Established, "[2001:db8::10]:443", "[2001:db8::feed:5678]:40000")
        },
        // Its handle leads to no file: it waits to be accepted.
        ListedSocket {
            handle: 0,
            uid: None,
            receive_queue: 5,
            ..socket(12, Established, "10.1.0.1:80", "10.1.0.9:40001")
        },
        // Somebody holds it, and may not be looked at.
        ListedSocket { netns: BLUE, ipv6: true, ..socket(13, Established, "192.0.2.7:40022", "192.0.2.8:5432") },
        ListedSocket {
            netns: BLUE,
            timer: Some(timer(TimerKind::Probe, 5 * S)),
            probes: 4,
            send_queue: 65_536,
            ..socket(14, Established, "192.0.2.7:40023", "192.0.2.8:5432")
        },
        socket(15, SynSent, "10.1.0.1:51000", "198.51.100.7:443"),
        socket(16, CloseWait, "10.1.0.1:51001", "198.51.100.7:443"),
        socket(17, CloseWait, "10.1.0.1:51002", "198.51.100.7:443"),
        socket(18, CloseWait, "10.1.0.1:51003", "198.51.100.7:443"),
        socket(19, CloseWait, "10.1.0.1:51004", "198.51.100.7:443"),
        socket(30, Closing, "10.1.0.1:51005", "198.51.100.7:443"),
        ListedSocket { uid: None, ..socket(31, FinWait1, "10.1.0.1:51006", "198.51.100.7:443") },
        ListedSocket { uid: None, ..socket(32, LastAck, "10.1.0.1:51007", "198.51.100.7:443") },
        socket(33, FinWait2, "10.1.0.1:51008", "198.51.100.7:443"),
        socket(34, State::Close, "0.0.0.0:0", "0.0.0.0:0"),
    ];
    sockets.iter_mut().filter(|socket| socket.state == State::Close).for_each(|socket| socket.cookie = None);
    let mut holders = vec![
        holder(1, 800, 800, 6, b"nginx"),
        holder(1, 801, 801, 6, b"nginx"),
        holder(1, 802, 802, 6, b"nginx"),
        holder(2, 900, 1, 7, b"node"),
        holder(2, 900, 1, 9, b"node"),
        holder(3, 901, 12, 3, b"envoy"),
        holder(10, 802, 802, 11, b"nginx"),
        holder(11, 900, 1, 20, b"node"),
        holder(11, 901, 12, 21, b"envoy"),
        holder(14, 77, 77, 4, b"psql"),
        holder(15, 5000, 5000, 3, b"curl"),
        holder(30, 5000, 5000, 4, b"curl"),
        holder(33, 5000, 5000, 5, b"curl"),
        holder(34, 5000, 5000, 6, b"curl"),
    ];
    for (index, command) in (0..).zip(HOSTILE) {
        holders.push(holder(16 + index, 6000 + index as u32, 6000 + index as u32, 3, command));
    }
    Snapshot {
        started_ns: ENDED_NS - 21 * MS,
        ended_ns: ENDED_NS,
        states: [].into_iter().collect(),
        sockets,
        stuck: true,
        processes: Vec::new(),
        next_hops: Vec::new(),
        holders: Some(Holders::new(holders)),
        namespaces: vec![
            Namespace { inode: NETNS, name: None, counters: overflows(3), settings: None },
            Namespace { inode: BLUE, name: Some("blue".to_owned()), ..Namespace::default() },
        ],
        left_alone: Vec::new(),
        skipped: Skipped { namespaces_gone: 1, processes_denied: 2, ..Skipped::default() },
        cpu_ns: 0,
    }
}

/// Counters of a namespace in which there was no room for so many mini-sockets.
pub(crate) fn overflows(count: u64) -> Option<NetCounters> {
    Some(NetCounters { time_wait_overflows: count, ..NetCounters::default() })
}

/// Cgroups of the processes in [`snapshot`].
pub(crate) fn cgroups() -> Cgroups {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str =
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod4a1b2c3d_0e5f_6789_abcd_ef0123456789.slice";
    Cgroups::new(Box::new(|pid| match pid {
        800..900 => Some("/system.slice/nginx.service".to_owned()),
        900 => Some(format!("/system.slice/docker-{ID}.scope")),
        901 => Some(format!("/{POD}/cri-containerd-{ID}.scope")),
        5000 => Some("/user.slice/user-1000.slice/session-3.scope".to_owned()),
        6000 => Some("/evil\x1b[2J\n\",.service".to_owned()),
        6001 => Some("/".to_owned()),
        _ => None,
    }))
}

/// Text without colour, with the columns that the snapshot asks for.
pub(crate) fn plain() -> TextOptions {
    TextOptions { netns: true, owner_source: true, ..TextOptions::default() }
}

/// Makes a form of output.
pub(crate) type MakeForm = for<'a> fn(Listing<'a>) -> Form<'a>;

/// See [`MakeForm`].
pub(crate) fn text(listing: Listing<'_>) -> Form<'_> {
    Form::Text(Text::new(&listing, plain()))
}

/// See [`MakeForm`].
pub(crate) fn json(listing: Listing<'_>) -> Form<'_> {
    Form::Json(Json::new(listing))
}

/// See [`MakeForm`].
pub(crate) fn csv(listing: Listing<'_>) -> Form<'_> {
    Form::Csv(Csv::new(listing))
}

/// All that the program prints.
pub(crate) fn printed(
    snapshot: &Snapshot,
    selection: &Filter,
    by: &[GroupBy],
    form: impl for<'a> FnOnce(Listing<'a>) -> Form<'a>,
) -> String {
    let (mut snapshot, cgroups) = (snapshot.clone(), cgroups());
    sort(&mut snapshot.sockets);
    let mut rows = rows(&snapshot, selection, &cgroups);
    add_peers(&mut rows, &snapshot);
    let wall = WallOffset(1_772_597_167_250_000_000);
    let form = form(Listing { snapshot: &snapshot, wall, totals: totals(&rows), by, age_unknown: None });
    let mut all = Vec::new();
    let take = |piece: BytesMut| {
        all.extend_from_slice(&piece);
        Ok::<_, Infallible>(())
    };
    let Ok(()) = match by {
        [] => form.rows(&rows, &cgroups, take),
        by => form.groups(&count(&rows, by, &cgroups), take),
    };
    String::from_utf8(all).unwrap()
}
