//! Findings on sockets with any history: each opens once and closes once, at the latest when its sockets have ended and
//! all is quiet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use bytes::BytesMut;
use jsonschema::Validator;
use proptest::{collection::vec, prelude::*};
use tcptrace::{
    findings::{Detection, Finding, Findings, Phase, Thresholds},
    model::{
        age::TIME_WAIT_NS,
        decode::{decode, split},
        event::{Event, Owner, OwnerSource},
        holders::Holder,
        namespace::{Namespace, NetCounters, NetSettings},
        snapshot::Snapshot,
        socket::{ConnectionInfo, Keepalive, Kind, ListedSocket, TimerKind},
        socket_filter::{Ends, SocketFilter},
        state::{State, StateSet},
    },
    render::{
        json::Json,
        text::{Text, TextOptions},
    },
    table::{Connection, Table},
};
use tcptrace_common::{
    record::owner_source,
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    any_record::any_record,
    support::{
        listing::{NETNS, holder, socket, timer},
        records::{Life, START_NS, Stream, process},
        replay::{context, plain},
        schema,
    },
};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(schema::validator);

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// Sockets: listeners, both ends of connections of this host, connections with others; some share ends.
const ENDS: [(&str, &str); 12] = [
    ("0.0.0.0:80", "0.0.0.0:0"),
    ("[::]:443", "[::]:0"),
    ("10.1.0.1:80", "10.1.0.9:40000"),
    ("10.1.0.1:80", "10.1.0.9:40001"),
    ("10.1.0.1:443", "10.1.0.1:40002"),
    ("10.1.0.1:40002", "10.1.0.1:443"),
    ("127.0.0.1:40003", "127.0.0.1:80"),
    ("10.1.0.1:50000", "10.9.0.1:5432"),
    ("10.1.0.1:50001", "10.9.0.1:5432"),
    ("10.1.0.1:50002", "10.9.0.2:5432"),
    ("[2001:db8::1]:50003", "[2001:db8::2]:443"),
    ("10.1.0.1:50003", "10.9.0.1:5432"),
];

#[derive(Clone, Debug)]
enum Step {
    /// A socket goes from the state that it has to another one, with this error and these flags.
    Enters { socket: usize, state: u8, err: i32, flags: u16, queues: (u32, u32) },
    /// It sends again, with so many timeouts in a row.
    Retransmits { socket: usize, times: u8, timeouts: u8 },
    /// A RST comes for it.
    Reset { socket: usize, since_ms: [u64; 3] },
    /// It belongs to another process.
    Owner { socket: usize, pid: u32 },
    /// All sockets are listed, some as others than they are.
    Lists { shape: u64, partial: bool },
    /// Time goes by.
    Waits { ms: u64 },
    /// Trouble is looked for.
    Looks,
}

fn any_step() -> impl Strategy<Value = Step> {
    let states = prop_oneof![
        4 => (1u8..=11).boxed(),
        4 => prop_oneof![Just(CLOSE_WAIT), Just(LAST_ACK), Just(FIN_WAIT1), Just(FIN_WAIT2), Just(CLOSE)].boxed(),
        2 => prop_oneof![Just(ESTABLISHED), Just(SYN_SENT), Just(SYN_RECV), Just(LISTEN)].boxed(),
    ];
    let errors = prop_oneof![
        Just(0),
        Just(libc::ECONNRESET),
        Just(libc::EPIPE),
        Just(libc::ETIMEDOUT),
        Just(libc::ECONNREFUSED),
        Just(libc::EHOSTUNREACH),
    ];
    let which = || 0..ENDS.len();
    let queue = || prop_oneof![Just(0u32), 0..5000u32];
    let enters = (which(), states, errors, 0u16..1 << 10, (queue(), queue()));
    prop_oneof![
        8 => enters.prop_map(|(socket, state, err, flags, queues)| Step::Enters { socket, state, err, flags, queues }),
        2 => (which(), 0u8..30, 0u8..9)
            .prop_map(|(socket, times, timeouts)| Step::Retransmits { socket, times, timeouts }),
        2 => (which(), prop::array::uniform3(0u64..200_000)).prop_map(|(socket, since_ms)| Step::Reset { socket, since_ms }),
        1 => (which(), 700u32..703).prop_map(|(socket, pid)| Step::Owner { socket, pid }),
        4 => (any::<u64>(), any::<bool>()).prop_map(|(shape, partial)| Step::Lists { shape, partial }),
        5 => prop_oneof![0u64..1000, 0u64..90_000, 0u64..8_000_000].prop_map(|ms| Step::Waits { ms }),
        6 => Just(Step::Looks),
    ]
}

struct Run {
    filter: SocketFilter,
    stream: Stream,
    lives: Vec<Life>,
    table: Table,
    findings: Findings,
    told: Vec<Finding>,
}

impl Run {
    fn new(thresholds: Thresholds) -> Self {
        let owner = |index: usize| process(700 + index as u32 % 3, b"any", owner_source::IO);
        let life = |(index, (local, remote)): (usize, &(&str, &str))| {
            let mut life = Life::in_state(CLOSE, local, remote);
            // Some sockets of a process that is never known; two may have the same ports.
            if index % 5 != 4 {
                life.owner = owner(index);
            }
            (life.header.sk, life.header.cookie) = (0xffff_8881_0000_0000 + index as u64, index as u64 + 1);
            life
        };
        Self {
            filter: SocketFilter::default(),
            stream: Stream::new(),
            lives: ENDS.iter().enumerate().map(life).collect(),
            table: Table::new(1000, StateSet::default(), true),
            findings: Findings::new(thresholds, START_NS),
            told: Vec::new(),
        }
    }

    fn now_ns(&self) -> u64 {
        self.stream.now_ns
    }

    /// Takes in the events that have happened.
    fn read(&mut self) {
        for record in split(&std::mem::take(&mut self.stream.bytes)) {
            let mut event = decode(record.unwrap()).unwrap();
            let left = self.table.ingest(&mut event);
            let is_shown = self.filter.matches_event(&event, |_| None::<&str>);
            self.findings.ingest(&event, left.as_ref(), is_shown);
        }
    }

    fn lists(&mut self, sockets: Vec<ListedSocket>, shape: u64, is_whole: bool) {
        self.read();
        let holders = sockets.iter().map(|socket| holder(socket.handle, 700, 700, 3, b"any")).collect();
        let counters = NetCounters {
            listen_overflows: shape >> 32,
            syncookies_sent: shape >> 50,
            time_wait_overflows: shape & 3,
            ..NetCounters::default()
        };
        let settings = NetSettings {
            local_ports: (shape & 1 > 0).then_some((50_000, 50_003)),
            retries2: (shape & 2 > 0).then_some(shape as u32 >> 8),
            keepalive_time: Some(shape as u32),
            ..NetSettings::default()
        };
        let snapshot = Snapshot {
            started_ns: self.now_ns(),
            ended_ns: self.now_ns(),
            // A poll asks for some states.
            states: if is_whole { [].into_iter().collect() } else { State::ALL.into_iter().collect() },
            sockets,
            holders: Some(tcptrace::model::holders::Holders::new(holders)),
            namespaces: vec![Namespace {
                inode: NETNS,
                counters: Some(counters),
                settings: Some(settings),
                ..Namespace::default()
            }],
            ..Snapshot::default()
        };
        let mut polled: Vec<Event> = Vec::new();
        if is_whole {
            self.table.begin_listing();
            self.table.reconcile(&snapshot, |_, _| true, |event| polled.push(event));
        } else if shape.is_multiple_of(3) {
            self.table.update_listed(&snapshot);
        } else {
            self.table.poll(&snapshot, |_, _| true, |event| polled.push(event));
        }
        self.findings.listed(&snapshot);
        for event in &polled {
            self.findings.ingest(event, None, self.filter.matches_event(event, |_| None::<&str>));
        }
    }

    /// What a listing shows; `shape` says how the sockets look.
    fn listed(&self, shape: u64) -> Vec<ListedSocket> {
        let bits = |index: usize, shift: u32| shape.rotate_left(index as u32 * 5 + shift);
        let alive = self.lives.iter().enumerate().filter(|(_, life)| life.socket.state != CLOSE);
        let mut sockets: Vec<_> = alive
            .map(|(index, life)| {
                let state = State::from_raw(life.socket.state).unwrap();
                let (local, remote) = ENDS[index];
                let bits = |shift| bits(index, shift);
                let ns = |shift| bits(shift) % (8000 * S);
                let info = ConnectionInfo {
                    last_sent_ns: ns(7),
                    last_received_ns: ns(11),
                    last_ack_ns: ns(13),
                    ..ConnectionInfo::default()
                };
                let is_timewait = matches!(state, State::TimeWait) || state == State::FinWait2 && bits(1) & 1 > 0;
                let kinds = [TimerKind::Retransmit, TimerKind::Keepalive, TimerKind::Probe];
                let kind = if is_timewait { TimerKind::TimeWait } else { kinds[bits(2) as usize % 3] };
                let on = Keepalive::On { time_ns: None, interval_ns: Some(S), probes: Some(9) };
                let is_kept = !is_timewait && ConnectionInfo::is_available(Kind::Full, state);
                ListedSocket {
                    sk: Some(life.header.sk),
                    cookie: Some(life.header.cookie),
                    kind: if is_timewait { Kind::TimeWait } else { Kind::Full },
                    receive_queue: bits(3) as u32 % 300,
                    send_queue: bits(4) as u32 % 300,
                    timer: (bits(5) & 1 > 0 || is_timewait).then(|| timer(kind, bits(6) % TIME_WAIT_NS)),
                    timeouts: bits(7) as u8 % 9,
                    keepalive: [Keepalive::Unknown, Keepalive::Off, on][bits(8) as usize % 3],
                    uid: (bits(9) & 1 > 0).then_some(33),
                    entered_ns: (bits(10) & 1 > 0).then(|| self.now_ns() - bits(11) % START_NS),
                    owner: (bits(12) & 1 > 0).then(|| {
                        let command = holder(0, 0, 0, 0, b"any").command;
                        Owner {
                            pid: 700 + bits(13) as u32 % 3,
                            uid: 33,
                            cgroup: 0,
                            start: None,
                            command,
                            source: OwnerSource::Holder,
                        }
                    }),
                    connection: is_kept.then_some(info),
                    ..socket(index as u64 + 1, state, local, remote)
                }
            })
            .collect();
        for request in 0..(shape >> 40) % 100 {
            let (local, remote) = ("10.1.0.1:80", format!("203.0.113.7:{}", 1024 + request));
            let full = socket(1000 + request, State::SynRecv, local, &remote);
            sockets.push(ListedSocket { kind: Kind::Request, connection: None, timeouts: request as u8 % 3, ..full });
        }
        sockets
    }

    fn looks(&mut self) {
        self.read();
        let now_ns = self.now_ns();
        let filter =
            |known: &Connection, holders: &[Holder]| self.filter.matches_known(known, holders, |_| None::<&str>);
        self.told.extend(self.findings.evaluate(&mut self.table, now_ns, Some(&filter)));
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Enters { socket, state, err, flags, queues } => {
                let life = &mut self.lives[socket];
                if life.socket.state == CLOSE {
                    // Another socket comes to the place.
                    life.header.cookie += ENDS.len() as u64;
                    life.facts = tcptrace_common::record::Transition::default();
                }
                life.facts.err = err;
                (life.facts.receive_queue, life.facts.send_queue) = queues;
                life.flags(flags).enters(&mut self.stream, state);
            }
            Step::Retransmits { socket, times, timeouts } => {
                self.lives[socket].timeouts = timeouts;
                for _ in 0..times {
                    self.lives[socket].retransmits(&mut self.stream, 0);
                }
            }
            Step::Reset { socket, since_ms } => {
                self.lives[socket].since_ms = Some(since_ms);
                self.lives[socket].gets_reset(&mut self.stream);
            }
            Step::Owner { socket, pid } => {
                self.lives[socket].is_taken_by(&mut self.stream, process(pid, b"other", owner_source::ACCEPT));
            }
            Step::Lists { shape, partial } => {
                let sockets = self.listed(shape);
                self.lists(sockets, shape, !partial);
            }
            Step::Waits { ms } => self.stream.wait(std::time::Duration::from_millis(ms)),
            Step::Looks => self.looks(),
        }
        self.stream.now_ns += 1000;
    }

    /// All sockets end, by events or unseen, and the quiet time passes.
    fn ends(&mut self, seen: bool) {
        for life in &mut self.lives {
            if seen && life.socket.state != CLOSE {
                life.facts.err = 0;
                life.flags(0).enters(&mut self.stream, CLOSE);
            }
            life.socket.state = CLOSE;
        }
        self.stream.now_ns += MS;
        self.lists(Vec::new(), 0, true);
        // Failures with the last events, and what is held open for a while.
        for _ in 0..3 {
            self.looks();
            self.stream.now_ns += 61 * S;
        }
        self.looks();
    }
}

fn any_thresholds() -> impl Strategy<Value = Thresholds> {
    (any::<bool>(), any::<bool>()).prop_map(|(low, expects)| {
        let mut thresholds = Thresholds::default();
        let states = State::ALL.into_iter().filter(|_| low);
        states.for_each(|state| _ = thresholds.set_stuck(state, S));
        if low {
            thresholds.half_open_requests = 8;
            thresholds.storm_retransmits = 5;
            thresholds.peer_dead_timeouts = 2;
            thresholds.time_wait_share = 0.2;
        }
        thresholds.expected = expects.then(|| vec!["443".parse().unwrap()]);
        thresholds
    })
}

fn any_filter() -> impl Strategy<Value = SocketFilter> {
    let states = vec(prop::sample::select(State::ALL.to_vec()), 0..3);
    let port = prop::sample::select(vec![80u16, 443, 40_000, 40_001, 50_000, 5432]);
    let ports = || vec(port.clone().prop_map(|port| (port, port)), 0..2);
    let pids = vec(700u32..703, 0..2);
    (states, ports(), ports(), pids).prop_map(|(states, local, any, pids)| SocketFilter {
        states: states.into_iter().collect(),
        ports: Ends { local, any, ..Ends::default() },
        pids,
        ..SocketFilter::default()
    })
}

/// What is told of each finding, in order.
fn by_number(told: &[Finding]) -> BTreeMap<u64, Vec<&Finding>> {
    let mut found: BTreeMap<u64, Vec<&Finding>> = BTreeMap::new();
    told.iter().for_each(|finding| found.entry(finding.number).or_default().push(finding));
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn findings_close_when_their_sockets_end(
        steps in vec(any_step(), 1..120), thresholds in any_thresholds(), seen: bool,
    ) {
        let update_every_ns = thresholds.update_every_ns;
        let mut run = Run::new(thresholds);
        steps.iter().for_each(|step| run.take(step));
        run.ends(seen);
        prop_assert_eq!(run.findings.open(run.now_ns()), vec![]);
        prop_assert!(!run.findings.is_waiting());
        prop_assert!(run.told.windows(2).all(|two| two[0].time_ns <= two[1].time_ns));
        for (expected, (number, told)) in (1..).zip(by_number(&run.told)) {
            prop_assert_eq!(number, expected, "numbers are given one after the other");
            let phases: Vec<_> = told.iter().map(|finding| finding.phase).collect();
            let (last, others) = phases.split_last().unwrap();
            let (first, updates) = others.split_first().unwrap();
            prop_assert!(*first == Phase::Opened && matches!(*last, Phase::Closed | Phase::Merged(_)), "{:?}", told);
            prop_assert!(last.into_number().is_none_or(|into| into != number));
            prop_assert!(updates.iter().all(|phase| *phase == Phase::Updated));
            for (nth, two) in told[..told.len() - 1].windows(2).enumerate() {
                let is_urgent = two[1].detection.severity > two[0].detection.severity
                    || two[1].detection.count >= 2 * two[0].detection.count;
                let most_ns = if is_urgent { S } else { S << nth.min(20) };
                prop_assert!(two[1].time_ns - two[0].time_ns >= update_every_ns.min(most_ns), "updated too often");
                prop_assert!(two[1].detection.count >= two[0].detection.count, "counts only rise");
                prop_assert!(two[1].count_now <= two[1].detection.count);
            }
            for (finding, opened) in told.iter().zip(std::iter::repeat(told[0])) {
                prop_assert_eq!(finding.open_for_ns, finding.time_ns - opened.time_ns);
                let (now, then) = (&finding.detection, &opened.detection);
                prop_assert_eq!((now.kind, now.netns), (then.kind, then.netns), "it may move, but not more");
            }
        }
    }

    /// What a filter shows of the findings is the same as is told without one, from when on it shows any of their sockets.
    #[test]
    fn a_filter_chooses_findings_and_changes_none(
        steps in vec(any_step(), 1..120), thresholds in any_thresholds(), seen: bool, filter in any_filter(),
    ) {
        let run = |filter: SocketFilter| {
            let mut run = Run { filter, ..Run::new(thresholds.clone()) };
            steps.iter().for_each(|step| run.take(step));
            run.ends(seen);
            run.told
        };
        let (all, shown) = (run(SocketFilter::default()), run(filter));
        let as_shown = |finding: &Finding| {
            let detection = Detection { is_shown: true, ..finding.detection.clone() };
            Finding { detection, ..finding.clone() }
        };
        for (number, told) in by_number(&shown) {
            let opened = told[0];
            prop_assert_eq!(opened.phase, Phase::Opened);
            let later = all.iter().filter(|finding| finding.number == number && finding.time_ns >= opened.time_ns);
            let mut later: Vec<_> = later.map(as_shown).collect();
            let told: Vec<_> = told.iter().map(|finding| as_shown(finding)).collect();
            // It is opened for this output when the first of its sockets is shown.
            if later.first().is_some_and(|first| first.time_ns == opened.time_ns) {
                later.remove(0);
            }
            prop_assert_eq!(&told[1..], &later[..]);
        }
    }

    #[test]
    fn findings_follow_the_schema(steps in vec(any_step(), 1..120), thresholds in any_thresholds()) {
        let mut run = Run::new(thresholds);
        steps.iter().for_each(|step| run.take(step));
        run.ends(true);
        let (mut json, mut text, mut context) = (Json::default(), Text::new(plain()), context());
        for finding in &run.told {
            let seen = &finding.detection;
            let names: BTreeSet<_> = seen.evidence.iter().map(|(name, _)| *name).collect();
            prop_assert_eq!(names.len(), seen.evidence.len(), "a name stands there twice: {:?}", seen);
            prop_assert!(seen.count > 0 && seen.examples.len() <= 5, "{:?}", seen);
            let mut to = BytesMut::new();
            json.finding(&mut to, finding, &mut context);
            let record = schema::valid_record(&VALIDATOR, std::str::from_utf8(&to).unwrap());
            prop_assert_eq!(&record["finding"], seen.kind.id());
            let mut to = BytesMut::new();
            text.finding(&mut to, finding, &mut context);
            let printed = String::from_utf8(to.to_vec()).unwrap();
            prop_assert!(printed.lines().count() <= 4 && !printed.contains(|c: char| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn trouble_is_looked_for_in_anything(input in vec(any_record(), 0..80), times in vec(any::<u64>(), 1..5)) {
        let mut table = Table::new(20, StateSet::default(), true);
        let mut findings = Findings::new(Thresholds::default(), START_NS);
        let mut text = Text::new(TextOptions { color: true, ..plain() });
        let mut context = context();
        for (index, record) in input.iter().enumerate() {
            let mut event = decode(record).unwrap();
            let left = table.ingest(&mut event);
            findings.ingest(&event, left.as_ref(), true);
            for finding in findings.evaluate(&mut table, times[index % times.len()], None) {
                text.finding(&mut BytesMut::new(), &finding, &mut context);
            }
        }
    }
}
