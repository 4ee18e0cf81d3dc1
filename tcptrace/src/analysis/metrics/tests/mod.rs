//! What is counted, how it is told apart, and what the encoders make of it.

mod counting;
mod documented;
mod encoding;

use std::collections::HashMap;

use super::*;
use crate::{
    model::{
        event::{Command, Owner, OwnerSource, Retransmit, Socket, TimeInState},
        output_state::OutputState,
        state::StateSet,
    },
    sys::workers::{WorkerProblem, WorkerState},
};

const S: u64 = 1_000_000_000;
const START_UNIX_NS: u64 = 1_700_000_000 * S;

fn owner(command: &str, cgroup: u64, source: OwnerSource) -> Owner {
    let mut bytes = [0; 16];
    bytes[..command.len()].copy_from_slice(command.as_bytes());
    Owner { pid: 7, uid: 0, cgroup, start: None, command: Command::new(bytes), source }
}

fn event(local: &str, owner: Option<Owner>, what: EventKind) -> Event {
    let state = match what {
        EventKind::Transition(change) => change.old,
        _ => State::Established,
    };
    let socket = Socket {
        sk: Some(0xffff_8880_0000_0001),
        cookie: Some(1),
        netns: Some(7),
        ipv6: false,
        state,
        local: local.parse().unwrap(),
        remote: "10.0.0.9:50123".parse().unwrap(),
        flags: 0,
    };
    Event { cpu: Some(0), owner, ..Event::new(100 * S, socket, what) }
}

fn change(old: State, new: State) -> Transition {
    Transition::new(old, new)
}

fn timed(old: State, new: State, ns: u64, source: TimeSource) -> Transition {
    Transition { time_in_old: Some(TimeInState { ns, source }), ..change(old, new) }
}

fn retransmit() -> EventKind {
    EventKind::Retransmit(Retransmit {
        state: State::Established,
        total_retrans: 1,
        timeouts: 1,
        srtt_us: None,
        failed: None,
    })
}

fn sent(reason: Option<u32>) -> EventKind {
    EventKind::ResetSent { reason, facts: None }
}

/// Names of a reason of RSTs, and of cgroups: 5 and 6 have one path, and 99 is gone.
fn names() -> Names {
    let find = |id| match id {
        99 => None,
        5 | 6 => Some("/five".to_owned()),
        id => Some(format!("/{id}")),
    };
    Names::new(HashMap::from([(6, "no_socket".to_owned())]), Box::new(find))
}

fn table() -> Table {
    Table::new(100, StateSet::default(), true)
}

/// The snapshot of `metrics` at this time after the start, with this table.
fn with_table(metrics: &mut Metrics, table: &Table, now_s: u64) -> Snapshot {
    let losses = Losses { received: 12, filtered: 3, ring_by_cpu: vec![1, 4], evicted: 2, ..Losses::default() };
    let workers = [("listing", None), ("http", Some(WorkerProblem::Hangs))];
    let workers = workers.map(|(name, problem)| WorkerState { name: name.to_owned(), problem });
    let outputs = [OutputState {
        has_no_reader: false,
        name: "file".to_owned(),
        delivered: 9,
        dropped: 8,
        refused: 7,
        suppressed: 3,
        waiting: 4,
        retries: 6,
        queued_bytes: 5,
        trouble: Some("disk full".to_owned()),
    }];
    metrics.snapshot(&mut Moment {
        now_ns: now_s * S,
        now_unix_ns: START_UNIX_NS + now_s * S,
        table,
        losses: &losses,
        open: &[],
        outputs: &outputs,
        workers: &workers,
        usage: Usage { cpu_ns: 1_500_000_000, resident_bytes: 4096 },
        names: &mut names(),
    })
}

fn snapshot(metrics: &mut Metrics) -> Snapshot {
    with_table(metrics, &table(), 101)
}

fn metrics(settings: Settings) -> Metrics {
    Metrics::new(settings, START_UNIX_NS)
}

fn all_labels(max_series: usize) -> Settings {
    Settings { by_cgroup: true, by_local_port: true, max_series, ..Settings::default() }
}

fn sum(snapshot: &Snapshot, name: &str, labels: &[(&str, &str)]) -> u64 {
    snapshot.family(name).unwrap().sum(labels)
}

fn distribution<'a>(snapshot: &'a Snapshot, name: &str, value: &str) -> &'a Distribution {
    let series = &snapshot.family(name).unwrap().series;
    let found = series.iter().find(|series| series.labels.iter().any(|(_, is)| is == value)).unwrap();
    let Value::Distribution(times) = &found.value else { panic!("{found:?}") };
    times
}

/// One of each.
fn some() -> Metrics {
    use State::{CloseWait, Established, LastAck, SynRecv, SynSent};
    let mut metrics = metrics(Settings::default());
    let web = Some(owner("web", 5, OwnerSource::Accept));
    let handshake = |old, rtt_ns, total_retrans, source| {
        let timed = timed(old, Established, rtt_ns, source);
        EventKind::Transition(Transition { handshake_rtt_ns: Some(rtt_ns), total_retrans, ..timed })
    };
    let ended = |old, ending| EventKind::Transition(Transition { ending: Some(ending), ..change(old, State::Close) });
    for what in [
        handshake(SynRecv, 250_000, 0, TimeSource::Handshake),
        handshake(SynRecv, 1_000_000, 2, TimeSource::HandshakeLowerBound),
        handshake(SynRecv, 2_000_000, 0, TimeSource::HandshakeUnreliable),
        handshake(SynSent, 40_000_000, 0, TimeSource::Observed),
        handshake(SynSent, 50_000_000, 1, TimeSource::Observed),
        EventKind::Transition(timed(CloseWait, LastAck, 3 * S, TimeSource::Observed)),
        EventKind::Transition(timed(CloseWait, LastAck, 5 * S, TimeSource::LowerBound)),
        ended(SynSent, CloseReason::Refused),
        ended(SynSent, CloseReason::Failed(libc::EHOSTUNREACH)),
        ended(SynSent, CloseReason::Failed(4095)),
        ended(LastAck, CloseReason::Normal),
        retransmit(),
        retransmit(),
        EventKind::SynAckRetransmit { count: 1 },
        sent(Some(6)),
        sent(Some(77)),
        sent(None),
        EventKind::ResetReceived(None),
        EventKind::OwnerChanged,
    ] {
        metrics.ingest(&event("10.0.0.1:80", web, what));
    }
    metrics
}
