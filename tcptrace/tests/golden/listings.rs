//! Sessions in which sockets are listed: at the start, by polls, and after events were lost.

use std::time::Duration;

use tcptrace::{
    model::{
        decode::split,
        event::address,
        holders::Holders,
        namespace::Namespace,
        skipped::Skipped,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, Timer, TimerKind},
        state::State,
    },
    pipeline::{route::Renderer, session::Session, settings::SessionSettings},
};
use tcptrace_common::{
    counters::Counters,
    record::{
        owner_source,
        socket_flag::{ATTACHED, DEAD, DONE, SHUTDOWN_RECEIVE, SYN_COOKIES},
    },
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    compare::compare,
    stories::{BOTH_SHUT, CLOSING, connected, curl, web},
    support::{
        listing::{self, BLUE, NETNS, holder, overflows, timer},
        records::{Life, Stream, known_by},
        replay::{csv, json, output, plain, session, settings, text},
    },
};

/// Files that these tests make begin so.
pub(crate) const LISTED: &str = "listed_";

const S: u64 = 1_000_000_000;

/// A session, and the events that it did not get yet.
struct Run {
    stream: Stream,
    session: Session,
}

impl Run {
    fn new(renderer: Renderer) -> Self {
        let mut session = session(SessionSettings { polls: true, ..settings() }, renderer);
        session.context.names.own_netns = Some(NETNS);
        Self { stream: Stream::new(), session }
    }

    /// All that has happened is taken in, then `time` goes by.
    fn wait(&mut self, time: Duration) {
        for record in split(&std::mem::take(&mut self.stream.bytes)) {
            self.session.ingest(record.unwrap());
        }
        self.stream.wait(time);
    }

    /// What a listing finds that begins now and takes 2 ms.
    fn snapshot(&mut self, sockets: Vec<ListedSocket>) -> Snapshot {
        let started_ns = self.stream.now_ns;
        self.wait(Duration::from_millis(2));
        let blue = Some("blue".to_owned());
        Snapshot {
            started_ns,
            ended_ns: self.stream.now_ns,
            sockets,
            namespaces: vec![
                Namespace { inode: NETNS, name: None, counters: overflows(0), settings: None },
                Namespace { inode: BLUE, name: blue, counters: overflows(3), settings: None },
            ],
            ..Snapshot::default()
        }
    }

    fn polls(&mut self, sockets: Vec<ListedSocket>) {
        let snapshot = self.snapshot(sockets);
        self.session.poll(&snapshot);
    }

    fn reconciles(&mut self, sockets: Vec<ListedSocket>, holders: Option<Holders>) {
        self.wait(Duration::ZERO);
        self.session.begin_listing();
        let snapshot = Snapshot { holders, ..self.snapshot(sockets) };
        self.session.reconcile(&snapshot);
    }

    /// So many events were lost on each CPU since the start.
    fn loses(&mut self, by_cpu: [u64; 2], program_busy: u64) -> bool {
        let counters = by_cpu.map(|ring_full| Counters { ring_full, ..Counters::default() });
        self.session.check_losses(&counters, program_busy, self.stream.now_ns)
    }
}

/// A socket as a listing shows it.
pub(crate) fn listed(life: &Life, kind: Kind, state: State, timer: Option<Timer>) -> ListedSocket {
    let end = |ip, port| std::net::SocketAddr::new(address(ip), port).to_string();
    let (local, remote) =
        (end(life.socket.local, life.socket.local_port), end(life.socket.remote, life.socket.remote_port));
    let full = listing::socket(life.header.cookie, state, &local, &remote);
    let connection = full.connection.filter(|_| kind == Kind::Full);
    let (sk, cookie, netns) = (Some(life.header.sk), Some(life.header.cookie), life.socket.netns);
    ListedSocket { sk, cookie, netns, kind, timer, connection, ..full }
}

/// The same of a mini-socket.
pub(crate) fn timewait(life: &Life, state: State, left_ns: u64) -> ListedSocket {
    listed(life, Kind::TimeWait, state, Some(timer(TimerKind::TimeWait, left_ns)))
}

/// A client that closed, and whose peer did not.
fn orphan(run: &mut Run, local: &str) -> Life {
    let mut client = connected(&mut run.stream, local, "198.51.100.7:8080", curl());
    run.wait(Duration::from_millis(40));
    client.flags(CLOSING).enters(&mut run.stream, FIN_WAIT1);
    run.stream.wait_us(300);
    client.flags(DEAD | BOTH_SHUT).enters(&mut run.stream, FIN_WAIT2);
    run.stream.wait_us(20);
    client.enters(&mut run.stream, CLOSE);
    client
}

/// Mini-sockets: one goes on to TIME_WAIT, one waits for its peer in vain, one goes before its time, and one is from
/// before the start.
fn polled(run: &mut Run) {
    let older = Life::in_state(CLOSE, "192.0.2.10:51200", "198.51.100.7:443");
    run.reconciles(vec![timewait(&older, State::TimeWait, 5 * S)], None);
    let [closes, never_closes, goes] = ["192.0.2.10:51202", "192.0.2.10:51204", "192.0.2.10:51206"].map(|local| {
        let orphan = orphan(run, local);
        run.wait(Duration::from_millis(10));
        orphan
    });
    let waits = |life: &Life, left_ns| timewait(life, State::FinWait2, left_ns);
    run.polls(vec![
        timewait(&older, State::TimeWait, 5 * S),
        waits(&closes, 59 * S),
        waits(&never_closes, 59 * S),
        waits(&goes, 59 * S),
    ]);
    run.wait(Duration::from_secs(10));
    run.polls(vec![timewait(&closes, State::TimeWait, 52 * S), waits(&never_closes, 49 * S)]);
    run.wait(Duration::from_secs(50));
    run.polls(vec![timewait(&closes, State::TimeWait, 2 * S)]);
    run.wait(Duration::from_secs(3));
    run.polls(Vec::new());
}

/// Events are lost twice: a listing makes up for the first loss, and none for the second.
fn gap(run: &mut Run) {
    let mut client = connected(&mut run.stream, "192.0.2.10:51210", "198.51.100.7:443", curl());
    connected(&mut run.stream, "192.0.2.10:51212", "198.51.100.7:443", curl());
    run.wait(Duration::from_secs(1));
    assert!(!run.loses([0, 0], 0));
    // The peer closes, another connection ends, and one comes in.
    run.wait(Duration::from_millis(600));
    client.socket.state = CLOSE_WAIT;
    client.facts.entered_ns = run.stream.now_ns;
    let server = Life::in_state(ESTABLISHED, "10.1.0.1:80", "10.1.0.2:40120");
    assert!(run.loses([0, 4], 1));
    let sockets = |client: &Life| {
        vec![listed(client, Kind::Full, State::CloseWait, None), listed(&server, Kind::Full, State::Established, None)]
    };
    run.reconciles(sockets(&client), None);
    assert!(!run.loses([0, 4], 1), "it is healed");
    client.flags(CLOSING | DONE).enters(&mut run.stream, LAST_ACK);
    run.stream.wait_us(61);
    client.flags(DEAD | DONE | BOTH_SHUT).enters(&mut run.stream, CLOSE);
    run.wait(Duration::from_secs(2));
    let mut server = server;
    assert!(run.loses([2, 4], 1));
    // The event before this one is among the lost.
    server.socket.state = CLOSE_WAIT;
    server.facts.entered_ns = 0;
    server.flags(CLOSING | DONE).enters(&mut run.stream, LAST_ACK);
}

/// There are as many mini-sockets as there may be, in a namespace that has a name.
fn time_wait_overflow(run: &mut Run) {
    run.polls(Vec::new());
    let mut client = connected(&mut run.stream, "192.0.2.10:51220", "198.51.100.7:443", curl());
    client.socket.netns = BLUE;
    client.flags(CLOSING).enters(&mut run.stream, FIN_WAIT1);
    client.flags(DEAD | DONE | BOTH_SHUT).enters(&mut run.stream, CLOSE);
    run.wait(Duration::from_secs(1));
    let mut snapshot = run.snapshot(Vec::new());
    snapshot.namespaces[1].counters = overflows(45);
    run.session.poll(&snapshot);
}

/// Sockets from before the start: of one process, of several, of nobody that is known, with half-open connections.
fn before_the_start(run: &mut Run) {
    let old = |state: u8, remote: &str| Life::in_state(state, "10.1.0.1:80", remote);
    let [mut alone, mut several, mut nobody] =
        ["10.1.0.2:40130", "10.1.0.2:40132", "10.1.0.2:40134"].map(|remote| old(ESTABLISHED, remote));
    let (listener, waiting) = (old(LISTEN, "0.0.0.0:0"), old(CLOSE_WAIT, "10.1.0.2:40136"));
    let requests = ["10.1.0.2:40138", "10.1.0.2:40140"].map(|remote| {
        let request = listed(&old(SYN_RECV, remote), Kind::Request, State::SynRecv, None);
        ListedSocket { timeouts: u8::from(remote.ends_with('0')), ..request }
    });
    let full = |life: &Life, state| listed(life, Kind::Full, state, None);
    let mut sockets = vec![
        full(&listener, State::Listen),
        full(&alone, State::Established),
        full(&several, State::Established),
        ListedSocket { handle: 0, ..full(&nobody, State::Established) },
        full(&waiting, State::CloseWait),
        timewait(&old(CLOSE, "10.1.0.2:40142"), State::TimeWait, 45 * S),
    ];
    sockets.extend(requests);
    let held = |life: &Life, pid, command: &[u8]| holder(life.header.cookie, pid, pid, 5, command);
    let holders = Holders::new(vec![
        held(&listener, 800, b"web"),
        held(&alone, 801, b"worker"),
        held(&several, 801, b"worker"),
        held(&several, 802, b"worker"),
        held(&waiting, 801, b"worker"),
        held(&waiting, 803, b"logger"),
    ]);
    run.reconciles(sockets, Some(holders));
    run.wait(Duration::from_secs(3));
    for life in [&mut alone, &mut several, &mut nobody] {
        life.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(&mut run.stream, CLOSE_WAIT);
        run.stream.wait_us(50);
    }
    // A process shows whose it is.
    nobody.owner = known_by(owner_source::CLOSE, web());
    nobody.flags(CLOSING | DONE).enters(&mut run.stream, LAST_ACK);
    run.session.losses.unlisted = Skipped { namespaces_denied: 1, ..Skipped::default() }.unseen();
}

/// The listener sends SYN cookies: the kernel's measure of the handshake is wrong.
fn syn_cookies(run: &mut Run) {
    let mut child = Life::in_state(LISTEN, "10.1.0.1:80", "10.1.0.2:40150");
    child.owner = known_by(owner_source::LISTENER, web());
    child.flags(SYN_COOKIES).enters(&mut run.stream, SYN_RECV);
    run.stream.wait_us(3);
    child.srtt_us(1_203_400).enters(&mut run.stream, ESTABLISHED);
}

/// A connection in a network namespace that has a name, and one in another that has none.
fn named_netns(run: &mut Run) {
    run.reconciles(Vec::new(), None);
    for (port, netns) in [(51230, BLUE), (51232, BLUE + 1)] {
        let mut client = Life::in_state(CLOSE, &format!("192.0.2.10:{port}"), "198.51.100.7:443").owned_by(curl());
        client.socket.netns = netns;
        client.flags(ATTACHED).enters(&mut run.stream, SYN_SENT);
        run.stream.wait_us(412);
        client.srtt_us(409).enters(&mut run.stream, ESTABLISHED);
    }
}

type Scene = fn(&mut Run);

const ALL: &[(&str, Scene)] = &[
    ("polled", polled),
    ("gap", gap),
    ("time_wait_overflow", time_wait_overflow),
    ("before_the_start", before_the_start),
    ("syn_cookies", syn_cookies),
    ("named_netns", named_netns),
];

/// All that is printed of a scene that is over a second after its last event.
fn played(scene: Scene, renderer: Renderer) -> String {
    let mut run = Run::new(renderer);
    scene(&mut run);
    run.wait(Duration::from_secs(1));
    run.session.finish(run.stream.now_ns);
    run.session.end(run.stream.now_ns, "interrupted", &[]);
    output(&mut run.session)
}

/// All scenes.
pub(crate) fn all_json() -> String {
    ALL.iter().map(|(_, scene)| played(*scene, json())).collect()
}

#[test]
fn sessions_with_listings_in_each_form() {
    let with_pid = || text(tcptrace::render::text::TextOptions { owner_columns: true, ..plain() });
    let mut files = Vec::new();
    for (name, scene) in ALL {
        for (extension, renderer) in [("txt", with_pid()), ("json", json()), ("csv", csv())] {
            files.push((format!("{LISTED}{name}.{extension}"), played(*scene, renderer)));
        }
    }
    compare(&files, |name| name.starts_with(LISTED));
}

#[test]
fn a_listing_heals_what_was_lost_before_it_began_and_no_more() {
    let mut run = Run::new(json());
    run.wait(Duration::from_secs(1));
    assert!(run.loses([3, 0], 0));
    run.session.begin_listing();
    let snapshot = run.snapshot(Vec::new());
    assert!(run.loses([3, 1], 0), "lost while the sockets were being listed");
    run.session.reconcile(&snapshot);
    assert!(run.loses([3, 1], 0), "another listing must make up for that");
    run.session.begin_listing();
    run.session.abandon_listing();
    assert!(run.loses([3, 2], 0), "nothing came of it");
    run.reconciles(Vec::new(), None);
    assert!(!run.loses([3, 2], 0));
    let gaps = output(&mut run.session);
    let lost = gaps.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["lost"].as_u64());
    assert_eq!(lost.collect::<Vec<_>>(), [Some(3), Some(2)]);
}

#[test]
fn what_is_polled_for_follows_from_the_wanted_states() {
    let polled = |states: &[State]| {
        let states = states.iter().copied().collect();
        session(SessionSettings { states, ..settings() }, json()).polled_states()
    };
    let all = [State::SynRecv, State::FinWait2, State::TimeWait];
    assert_eq!(polled(&[]), Some(all.into_iter().collect()));
    assert_eq!(polled(&[State::CloseWait, State::Established]), None);
    assert_eq!(polled(&[State::SynRecv, State::Listen]), Some([State::SynRecv].into_iter().collect()));
    assert_eq!(polled(&[State::FinWait2]), Some([State::FinWait2, State::TimeWait].into_iter().collect()));
    assert_eq!(polled(&[State::TimeWait]), Some([State::TimeWait].into_iter().collect()));
}
