//! Sessions in which trouble is looked for: what is told of it among the events, and what `tcptrace stuck` shows.

use std::time::Duration;

use tcptrace::{
    findings::Thresholds,
    model::{
        decode::split,
        event::StartTicks,
        holders::{Holder, Holders},
        namespace::{Namespace, NetCounters, NetSettings},
        screen::Screen,
        snapshot::{ProcessState, Snapshot},
        socket::{ConnectionInfo, Keepalive, Kind, ListedSocket, TimerKind},
        state::State,
    },
    pipeline::{route::Renderer, session::Session, settings::SessionSettings},
    render::{
        csv::{Csv, Rows},
        text::{StuckText, TextOptions},
    },
};
use tcptrace_common::{
    record::{
        owner_source,
        socket_flag::{ATTACHED, DEAD, DONE, EXITING, KEEPALIVE, LINGER, LINGER_ZERO, OWNED, SHUTDOWN_RECEIVE},
    },
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    compare::compare,
    listings::{listed, timewait},
    stories::{BOTH_SHUT, CLOSING, accepted, connected, curl, web},
    support::{
        listing::{NETNS, holder, timer},
        records::{Life, START_NS, Stream, process},
        replay::{json, output, page, plain, session, settings, text},
        rfc4180,
    },
};

/// Files that these tests make begin so.
pub(crate) const FOUND: &str = "found_";

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// A session, and the events that it did not get yet.
pub(crate) struct Run {
    pub(crate) stream: Stream,
    pub(crate) session: Session,
    counters: NetCounters,
}

fn thresholds() -> Thresholds {
    let mut thresholds = Thresholds::default();
    thresholds.expected = Some(vec!["80".parse().unwrap(), "443".parse().unwrap()]);
    thresholds
}

impl Run {
    pub(crate) fn new(renderer: Renderer) -> Self {
        Self::with(settings(), renderer)
    }

    fn with(settings: SessionSettings, renderer: Renderer) -> Self {
        let settings = SessionSettings { polls: true, findings: Some(thresholds()), ..settings };
        let mut session = session(settings, renderer);
        session.context.names.own_netns = Some(NETNS);
        Self { stream: Stream::new(), session, counters: NetCounters::default() }
    }

    /// All that has happened is taken in and looked at, then `time` goes by.
    pub(crate) fn wait(&mut self, time: Duration) {
        for record in split(&std::mem::take(&mut self.stream.bytes)) {
            self.session.ingest(record.unwrap());
        }
        self.session.evaluate(self.stream.now_ns);
        self.stream.wait(time);
    }

    /// What a listing finds now.
    fn snapshot(&mut self, sockets: Vec<ListedSocket>, holders: Vec<Holder>) -> Snapshot {
        let settings = NetSettings {
            local_ports: Some((50_000, 50_003)),
            tw_reuse: Some(2),
            max_tw_buckets: Some(32_768),
            syncookies: Some(1),
            max_syn_backlog: Some(512),
            somaxconn: Some(4096),
            retries2: Some(15),
            keepalive_time: Some(7200),
            keepalive_interval: Some(75),
            keepalive_probes: Some(9),
            ..NetSettings::default()
        };
        // Nothing comes or goes on what is half closed.
        let now_ns = self.stream.now_ns;
        let silent = |socket: ListedSocket| {
            let is_half_closed = matches!(socket.state, State::CloseWait | State::FinWait2);
            let entered_ns = socket.entered_ns.filter(|_| is_half_closed).unwrap_or(now_ns);
            let is_default = |info: &ConnectionInfo| *info == ConnectionInfo::default();
            let Some(info) = socket.connection.filter(is_default) else { return socket };
            let ns = now_ns - entered_ns;
            // Nothing was acknowledged since it came to its state.
            let last_ack_ns = now_ns - socket.entered_ns.unwrap_or(now_ns);
            ListedSocket {
                connection: Some(ConnectionInfo { last_sent_ns: ns, last_received_ns: ns, last_ack_ns, ..info }),
                ..socket
            }
        };
        Snapshot {
            started_ns: self.stream.now_ns,
            ended_ns: self.stream.now_ns,
            stuck: true,
            processes: vec![ProcessState {
                pid: 800,
                read_ns: now_ns,
                letter: b'T',
                cpu_ns: 0,
                descriptors: Some(40),
                max_descriptors: Some(1024),
                waits_in: Some("do_signal_stop".to_owned()),
            }],
            sockets: sockets.into_iter().map(silent).collect(),
            holders: Some(Holders::new(holders)),
            namespaces: vec![Namespace {
                inode: NETNS,
                name: None,
                counters: Some(self.counters),
                settings: Some(settings),
            }],
            ..Snapshot::default()
        }
    }

    fn lists(&mut self, sockets: Vec<ListedSocket>, holders: Vec<Holder>) {
        self.wait(Duration::ZERO);
        self.session.begin_listing();
        let snapshot = self.snapshot(sockets, holders);
        self.session.reconcile(&snapshot);
    }
}

/// A socket as a listing shows it that knows when it entered its state.
fn since(life: &Life, state: State, entered_ns: u64) -> ListedSocket {
    let connection = ConnectionInfo::is_available(Kind::Full, state).then(ConnectionInfo::default);
    ListedSocket { entered_ns: Some(entered_ns), connection, ..listed(life, Kind::Full, state, None) }
}

/// A server that does not close: the leak opens, grows, is closed in part, and is over when the process is.
fn leak(run: &mut Run) {
    let listener = Life::in_state(LISTEN, "10.1.0.1:80", "0.0.0.0:0").owned_by(web());
    let listening = ListedSocket {
        send_queue: 511,
        uid: Some(33),
        ..since(&listener, State::Listen, run.stream.now_ns - 3600 * S)
    };
    run.lists(vec![listening], vec![holder(listener.header.cookie, 800, 800, 3, b"web")]);
    let mut lives = Vec::new();
    for (port, unread) in [(40_200, 0), (40_201, 17), (40_202, 0)] {
        let mut child = accepted(&mut run.stream, "10.1.0.1:80", &format!("10.1.0.2:{port}"));
        run.wait(Duration::from_millis(250));
        child.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(&mut run.stream, CLOSE_WAIT);
        child.facts.receive_queue = 1 + unread;
        lives.push(child);
    }
    run.wait(Duration::from_secs(60));
    run.wait(Duration::from_millis(250));
    let sockets = |lives: &[Life]| {
        let waiting = lives.iter().map(|life| ListedSocket {
            receive_queue: life.facts.receive_queue,
            keepalive: Keepalive::Off,
            ..since(life, State::CloseWait, 0)
        });
        waiting.chain([listening]).collect::<Vec<_>>()
    };
    let held = (4..).zip(&lives).map(|(fd, life)| holder(life.header.cookie, 800, 800, fd, b"web")).collect::<Vec<_>>();
    run.lists(sockets(&lives), held.clone());
    run.wait(Duration::from_secs(20));
    // One more, and the process is killed.
    let mut child = accepted(&mut run.stream, "10.1.0.1:80", "10.1.0.2:40203");
    child.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(&mut run.stream, CLOSE_WAIT);
    lives.push(child);
    run.wait(Duration::from_secs(61));
    run.lists(sockets(&lives), held);
    run.wait(Duration::from_secs(3));
    for life in &mut lives {
        life.facts.receive_queue = 0;
        life.flags(CLOSING | DONE).enters(&mut run.stream, LAST_ACK);
        run.stream.wait_us(40);
        life.flags(DEAD | DONE | BOTH_SHUT).enters(&mut run.stream, CLOSE);
    }
    run.wait(Duration::from_secs(1));
}

/// Connections that fail in each way.
fn failures(run: &mut Run) {
    for port in [51_300, 51_301] {
        let mut client = Life::in_state(CLOSE, &format!("192.0.2.10:{port}"), "203.0.113.9:443").owned_by(curl());
        client.flags(OWNED | ATTACHED).enters(&mut run.stream, SYN_SENT);
        run.stream.wait_us(180);
        client.facts.err = libc::ECONNREFUSED;
        client.flags(ATTACHED).gets_reset(&mut run.stream).enters(&mut run.stream, CLOSE);
    }
    let mut rejected = Life::in_state(CLOSE, "192.0.2.10:51303", "203.0.113.9:8443").owned_by(curl());
    rejected.flags(OWNED | ATTACHED).enters(&mut run.stream, SYN_SENT);
    run.stream.wait_us(180);
    rejected.facts.err = libc::ECONNREFUSED; // by ICMP
    rejected.flags(ATTACHED).enters(&mut run.stream, CLOSE);
    let mut itself = Life::in_state(SYN_RECV, "127.0.0.1:40000", "127.0.0.1:40000").owned_by(curl());
    itself.flags(ATTACHED).enters(&mut run.stream, ESTABLISHED);
    let mut killed = accepted(&mut run.stream, "10.1.0.1:80", "10.1.0.2:51320");
    (killed.facts.receive_queue, killed.facts.exit_signal) = (77, libc::SIGKILL as u8);
    killed.flags(CLOSING | EXITING | LINGER_ZERO).enters(&mut run.stream, CLOSE);
    let mut without_port = Life::in_state(CLOSE, "192.0.2.10:0", "203.0.113.12:443").owned_by(curl());
    without_port.flags(OWNED | ATTACHED).enters(&mut run.stream, SYN_SENT);
    run.stream.wait_us(9);
    without_port.enters(&mut run.stream, CLOSE);
    for port in [51_330, 51_331] {
        let mut pool = Life::in_state(CLOSE, &format!("192.0.2.10:{port}"), "203.0.113.13:443").owned_by(curl());
        pool.flags(OWNED | ATTACHED).enters(&mut run.stream, SYN_SENT);
        run.stream.wait(Duration::from_millis(1005));
        pool.flags(CLOSING).enters(&mut run.stream, CLOSE);
    }
    let mut unreachable = Life::in_state(CLOSE, "192.0.2.10:51302", "203.0.113.10:443").owned_by(curl());
    unreachable.flags(OWNED | ATTACHED).enters(&mut run.stream, SYN_SENT);
    run.wait(Duration::from_secs(3));
    unreachable.facts.err = libc::EHOSTUNREACH;
    unreachable.facts.total_retrans = 1;
    unreachable.flags(ATTACHED).enters(&mut run.stream, CLOSE);
    // Both ends are here: one aborts.
    let mut server = accepted(&mut run.stream, "127.0.0.1:80", "127.0.0.1:51304");
    let mut client = connected(&mut run.stream, "127.0.0.1:51304", "127.0.0.1:80", curl());
    run.wait(Duration::from_secs(1));
    client.facts.send_queue = 5;
    client.flags(OWNED | ATTACHED | LINGER | LINGER_ZERO).enters(&mut run.stream, CLOSE);
    run.stream.wait_us(20);
    (server.facts.receive_queue, server.since_ms) = (512, Some([40, 12, 12]));
    (server.facts.err, server.facts.total_retrans) = (libc::ECONNRESET, 0);
    server.flags(ATTACHED).gets_reset(&mut run.stream).enters(&mut run.stream, CLOSE);
    // After silence; after the peer's FIN; no answer to keepalives.
    let mut idle = connected(&mut run.stream, "192.0.2.10:51306", "198.51.100.7:5432", curl());
    let mut late = connected(&mut run.stream, "192.0.2.10:51308", "198.51.100.7:8080", curl());
    let mut silent = connected(&mut run.stream, "192.0.2.10:51310", "198.51.100.7:6379", curl());
    let mut dead = connected(&mut run.stream, "192.0.2.10:51312", "198.51.100.7:9200", curl());
    run.wait(Duration::from_secs(2));
    late.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(&mut run.stream, CLOSE_WAIT);
    run.wait(Duration::from_secs(20));
    late.since_ms = Some([1, 20_000, 20_000]);
    late.facts.err = libc::EPIPE;
    late.gets_reset(&mut run.stream).enters(&mut run.stream, CLOSE);
    run.wait(Duration::from_secs(30));
    idle.since_ms = Some([30, 52_000, 350_000]);
    idle.facts.err = libc::ECONNRESET;
    run.wait(Duration::from_secs(10));
    idle.since_ms = Some([30, 62_000, 62_000]);
    idle.flags(ATTACHED | KEEPALIVE).gets_reset(&mut run.stream).enters(&mut run.stream, CLOSE);
    silent.since_ms = Some([62_000; 3]);
    silent.facts.err = libc::ETIMEDOUT;
    silent.probes = 9;
    silent.sends_reset(&mut run.stream, None).enters(&mut run.stream, CLOSE);
    (dead.facts.send_queue, dead.facts.total_retrans, dead.timeouts) = (1448, 14, 15);
    dead.facts.err = libc::ETIMEDOUT;
    dead.retransmits(&mut run.stream, 0).enters(&mut run.stream, CLOSE);
    run.wait(Duration::from_secs(60));
    run.wait(Duration::from_millis(2250));
    run.wait(Duration::from_millis(250));
}

/// Loss that is spread over many short connections.
fn losses(run: &mut Run) {
    for port in 40_000..40_021 {
        let mut child = Life::in_state(SYN_SENT, &format!("192.0.2.10:{port}"), "203.0.113.14:443").owned_by(curl());
        child.enters(&mut run.stream, ESTABLISHED);
        child.timeouts = 1;
        child.retransmits(&mut run.stream, 0);
        run.stream.wait_us(500);
    }
    run.wait(Duration::from_millis(250));
    run.session.evaluate(run.stream.now_ns);
}

/// What is stuck, and what presses, all from one listing.
pub(crate) fn stuck(run: &mut Run) {
    run.wait(Duration::from_secs(3 * 3600));
    let now_ns = run.stream.now_ns;
    let life = |state, local: &str, remote: &str| {
        Life::in_state(state, local, remote).owned_by(process(5000, b"worker", owner_source::CONNECT))
    };
    let owner = |pid, command: &[u8]| {
        let mut bytes = [0; 16];
        bytes[..command.len()].copy_from_slice(command);
        let command = tcptrace::model::event::Command::new(bytes);
        let source = tcptrace::model::event::OwnerSource::Listen;
        Some(tcptrace::model::event::Owner {
            pid,
            uid: 33,
            cgroup: 4711,
            start: StartTicks::new(360_000),
            command,
            source,
        })
    };
    let quiet = |ns| {
        let info = ConnectionInfo::default();
        Some(ConnectionInfo { last_sent_ns: ns, last_received_ns: ns, last_ack_ns: ns, srtt_us: Some(409), ..info })
    };
    let listener = life(LISTEN, "10.1.0.1:80", "0.0.0.0:0");
    let full = life(LISTEN, "[::]:443", "[::]:0");
    let foreign = life(LISTEN, "0.0.0.0:4444", "0.0.0.0:0");
    let stuck = [
        (life(SYN_SENT, "10.1.0.1:51400", "198.51.100.1:25"), State::SynSent, 31),
        (life(FIN_WAIT1, "10.1.0.1:51401", "198.51.100.2:80"), State::FinWait1, 20),
        (life(FIN_WAIT2, "10.1.0.1:51402", "198.51.100.2:81"), State::FinWait2, 3600),
        (life(LAST_ACK, "10.1.0.1:51403", "198.51.100.2:82"), State::LastAck, 16),
        (life(CLOSE_WAIT, "10.1.0.1:51404", "198.51.100.2:83"), State::CloseWait, 7261),
        (life(CLOSE_WAIT, "10.1.0.1:51410", "198.51.100.2:86"), State::CloseWait, 99),
    ];
    // The first one was inherited.
    let held = (0..)
        .zip(&stuck)
        .map(|(index, (life, ..))| {
            let pid = if index == 0 { 5001 } else { 5000 };
            holder(life.header.cookie, pid, pid, 7, b"worker")
        })
        .collect::<Vec<_>>();
    let entered = |s: u64| now_ns.saturating_sub(s * S);
    let mut sockets: Vec<_> = stuck
        .iter()
        .map(|(life, state, s)| {
            let uid = (*state != State::LastAck).then_some(33);
            ListedSocket { owner: owner(5000, b"worker"), uid, timeouts: 3, ..since(life, *state, entered(*s)) }
        })
        .collect();
    let listening = |life: &Life, pid, command, queue, limit| ListedSocket {
        owner: owner(pid, command),
        receive_queue: queue,
        send_queue: limit,
        ..since(life, State::Listen, entered(9000))
    };
    sockets.extend([
        listening(&listener, 800, &b"web"[..], 0, 128),
        listening(&full, 801, b"api", 12, 10),
        listening(&foreign, 6666, b"\x1b[2Jsh", 0, 1),
        ListedSocket {
            owner: owner(5000, b"worker"),
            connection: quiet(7300 * S),
            keepalive: Keepalive::Off,
            ..since(&life(ESTABLISHED, "10.1.0.1:51405", "198.51.100.3:22"), State::Established, entered(8000))
        },
        ListedSocket {
            owner: owner(5000, b"worker"),
            connection: quiet(40 * S),
            timeouts: 7,
            backoff: Some(7),
            rto_ns: Some(25_600 * MS),
            send_queue: 2896,
            timer: Some(timer(TimerKind::Retransmit, 11 * S)),
            ..since(&life(ESTABLISHED, "10.1.0.1:51406", "198.51.100.4:443"), State::Established, entered(500))
        },
        timewait(&life(FIN_WAIT2, "10.1.0.1:51407", "198.51.100.2:84"), State::FinWait2, 12 * S),
    ]);
    sockets.last_mut().unwrap().entered_ns = Some(entered(48));
    for port in 50_000..50_003 {
        sockets.push(timewait(&life(CLOSE, &format!("10.1.0.1:{port}"), "198.51.100.5:443"), State::TimeWait, 30 * S));
    }
    for port in 0..70 {
        let request = life(LISTEN, "10.1.0.1:80", &format!("203.0.113.{port}:1024"));
        let shown = listed(&request, Kind::Request, State::SynRecv, None);
        sockets.push(ListedSocket { timeouts: u8::from(port < 60), ..shown });
    }
    let request = life(LISTEN, "10.1.0.1:443", "10.1.0.2:40300");
    sockets.push(listed(&request, Kind::Request, State::SynRecv, None));
    run.lists(sockets.clone(), held.clone());
    let mut lossy = connected(&mut run.stream, "10.1.0.1:51408", "198.51.100.6:443", curl());
    lossy.srtt_us(250_000);
    for _ in 0..25 {
        run.stream.wait(Duration::from_millis(20));
        lossy.retransmits(&mut run.stream, 0);
    }
    let lossy = since(&lossy, State::Established, run.stream.now_ns);
    run.wait(Duration::from_millis(100));
    run.counters = NetCounters { listen_overflows: 41, listen_drops: 42, syncookies_sent: 7, ..run.counters };
    sockets.push(lossy);
    run.lists(sockets, held);
    run.session.evaluate(run.stream.now_ns);
}

/// A server that is stopped: it does not accept, and does not read.
fn waiting(run: &mut Run) {
    let now_ns = run.stream.now_ns;
    let entered_ns = now_ns.saturating_sub(10 * S);
    let life = |state, local: &str, remote: &str| Life::in_state(state, local, remote).owned_by(web());
    let listener = life(LISTEN, "10.1.0.1:80", "0.0.0.0:0");
    let lives = [
        life(ESTABLISHED, "10.1.0.1:80", "10.1.0.2:40200"),
        life(ESTABLISHED, "10.1.0.1:80", "10.1.0.2:40201"),
        life(ESTABLISHED, "10.1.0.1:80", "10.1.0.2:40202"),
    ];
    let holders = [(&listener, 3), (&lives[1], 4), (&lives[2], 5)];
    let holders = holders.map(|(life, fd)| holder(life.header.cookie, 800, 800, fd, b"web"));
    let info = |is_accepted, receive_window| {
        let times = ConnectionInfo { last_sent_ns: 10 * S, last_received_ns: 9 * S, ..ConnectionInfo::default() };
        let receive_window = Some(receive_window);
        Some(ConnectionInfo { is_accepted: Some(is_accepted), receive_window, bytes_received: 1 << 20, ..times })
    };
    let established = |life, receive_queue, connection| ListedSocket {
        receive_queue,
        connection,
        ..since(life, State::Established, entered_ns)
    };
    let sockets = vec![
        ListedSocket {
            receive_queue: 1,
            send_queue: 511,
            uid: Some(33),
            ..since(&listener, State::Listen, now_ns - 3600 * S)
        },
        ListedSocket { handle: 0, ..established(&lives[0], 18, info(false, 65_535)) },
        ListedSocket { uid: Some(33), ..established(&lives[1], 18, info(true, 65_535)) },
        ListedSocket { uid: Some(33), ..established(&lives[2], 128_512, info(true, 0)) },
    ];
    run.lists(sockets.clone(), holders.to_vec());
    run.wait(Duration::from_secs(1));
    run.lists(sockets, holders.to_vec());
    run.session.evaluate(run.stream.now_ns);
}

type Scene = fn(&mut Run);

const ALL: &[(&str, Scene)] =
    &[("leak", leak), ("failures", failures), ("losses", losses), ("stuck", stuck), ("waiting", waiting)];

/// Findings as rows.
fn findings_csv() -> Renderer {
    Renderer::Csv(Csv::new(Rows::Findings))
}

/// All that is printed of a scene.
fn played(scene: Scene, renderer: Renderer) -> String {
    played_on(scene, renderer, None)
}

/// The same on a terminal.
fn played_on(scene: Scene, renderer: Renderer, screen: Option<Screen>) -> String {
    let mut run = Run::new(renderer);
    run.session.context.screen = screen;
    scene(&mut run);
    run.session.end_interval(run.stream.now_ns);
    output(&mut run.session)
}

/// What a run writes that tells of findings alone: what was looked at comes before the end.
fn alone(scene: Scene) -> String {
    let mut run = Run::with(SessionSettings { events: false, ..settings() }, json());
    scene(&mut run);
    run.session.finish(run.stream.now_ns);
    output(&mut run.session)
}

/// The report on a scene.
fn report(scene: Scene) -> String {
    let mut run = Run::new(page());
    scene(&mut run);
    run.session.finish(run.stream.now_ns);
    run.session.end(run.stream.now_ns, "interrupted", &[]);
    output(&mut run.session)
}

/// All scenes.
pub(crate) fn all_json() -> String {
    ALL.iter().map(|(_, scene)| played(*scene, json())).collect::<String>() + &alone(stuck)
}

fn list(color: bool) -> Renderer {
    Renderer::Stuck(StuckText::new(color, plain().time))
}

#[test]
fn findings_among_events_and_alone() {
    let mut files = Vec::new();
    for (name, scene) in ALL {
        files.push((format!("{FOUND}{name}.txt"), played(*scene, text(plain()))));
        files.push((format!("{FOUND}{name}.json"), played(*scene, json())));
    }
    files.push((format!("{FOUND}list.txt"), played(stuck, list(false))));
    files.push((format!("{FOUND}list_color.txt"), played(stuck, list(true))));
    let narrow = TextOptions { fits: true, ..plain() };
    files.push((format!("{FOUND}leak_60.txt"), played_on(leak, text(narrow), Some(Screen { columns: 60, rows: 24 }))));
    files.push((format!("{FOUND}stuck.csv"), played(stuck, findings_csv())));
    files.push((format!("{FOUND}alone.json"), alone(stuck)));
    let options = TextOptions { color: true, ..plain() };
    files.push((format!("{FOUND}leak_color.txt"), played(leak, text(options))));
    for (name, scene) in [("leak", leak as Scene), ("stuck", stuck)] {
        files.push((format!("{FOUND}{name}.html"), report(scene)));
    }
    compare(&files, |name| name.starts_with(FOUND));
}

/// Lines of findings: those that begin with a mark, and those that belong to them.
fn lines_of_findings(printed: &str) -> Vec<Vec<&str>> {
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut is_part = false;
    for line in printed.lines() {
        if line.starts_with("!! ") || line.starts_with("-- ") {
            found.push(vec![line]);
            is_part = true;
        } else if is_part && line.starts_with("   ") {
            found.last_mut().unwrap().push(line);
        } else {
            is_part = false;
        }
    }
    found
}

#[test]
fn a_finding_takes_four_lines_at_most() {
    for (name, scene) in ALL {
        let printed = played(*scene, text(plain()));
        let found = lines_of_findings(&printed);
        assert!(!found.is_empty(), "{name}");
        for lines in found {
            let most = if lines[0].starts_with("--") { 1 } else { 4 };
            assert!(lines.len() <= most, "{name}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:?}");
        }
    }
}

#[test]
fn findings_of_one_kind_are_explained_once() {
    let printed = played(stuck, list(false));
    for line in printed.lines().filter(|line| line.contains("-> ")) {
        assert_eq!(printed.matches(line).count(), 1, "{line}");
    }
    assert_eq!(printed.lines().filter(|line| line.starts_with("!! ")).count(), 14);
}

#[test]
fn nothing_wrong_is_said_so() {
    let mut run = Run::new(list(false));
    run.session.end_interval(START_NS);
    assert_eq!(
        output(&mut run.session),
        "05:06:07  nothing is beyond its threshold after checking 0 sockets for 0ns\n"
    );
}

#[test]
fn csv_of_findings_has_the_values_of_json() {
    let records = played(stuck, json());
    let records = records.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let records: Vec<_> = records.filter(|record| record["event"] == "finding").collect();
    let rows = rfc4180::rows(&played(stuck, findings_csv())).unwrap();
    assert_eq!(rows.len(), 1 + records.len());
    for (row, record) in rows[1..].iter().zip(&records) {
        for (name, cell) in rows[0].iter().zip(row) {
            let value = match name.as_str() {
                "pid" | "command" | "uid" | "cgroup" | "executable" => &record["owner"][name],
                "owner_source" => &record["owner"]["source"],
                name => record.get(name).unwrap_or_else(|| panic!("JSON has no {name}")),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), rfc4180::cell);
            assert_eq!(*cell, if value.is_null() { String::new() } else { text }, "{name}");
        }
    }
}

#[test]
fn findings_are_told_of_as_they_come() {
    let printed = played(leak, json());
    let records = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let found: Vec<_> = records.filter(|record| record["event"] == "finding").collect();
    let phases: Vec<_> =
        found.iter().map(|record| (record["phase"].as_str().unwrap(), record["count"].as_u64())).collect();
    assert_eq!(phases, [("opened", Some(3)), ("updated", Some(4)), ("closed", Some(4))]);
    assert!(found.iter().all(|record| record["number"] == 1 && record["finding"] == "close-wait-leak"));
    assert_eq!(found[0]["owner"]["executable"], "/usr/sbin/web");
    assert_eq!(found[0]["evidence"]["unread_bytes"], 17);
    let descriptors = found[0]["examples"].as_array().unwrap().iter().map(|example| &example["holders"][0]["fd"]);
    assert_eq!(descriptors.collect::<Vec<_>>(), [4, 5, 6]);
}
