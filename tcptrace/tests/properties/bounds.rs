//! A long run with very many processes keeps its bounds (docs/architecture.md), and gives back what it kept.

use std::{collections::BTreeMap, time::Duration};

use tcptrace::{
    analysis::metrics,
    findings::Thresholds,
    model::{namespace::Namespace, snapshot::Snapshot},
    pipeline::{session::Session, settings::SessionSettings},
};
use tcptrace_common::{
    record::{owner_source, socket_flag},
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, SYN_SENT},
};

use crate::support::{
    listing,
    records::{Life, Stream, process},
    replay::{json, output, session, settings},
};

const PROCESSES: u32 = 200_000;
const MAX_SOCKETS: usize = 10_000;
/// A namespace for so many of them.
const IN_NAMESPACE: u32 = 1000;

/// Lives one after the other, each of another process, cgroup and pair of ends, some of other namespaces.
fn churn(session: &mut Session, stream: &mut Stream, processes: std::ops::Range<u32>) {
    for number in processes {
        let mut owner = process(1000 + number, format!("job-{number}").as_bytes(), owner_source::CONNECT);
        owner.cgroup = u64::from(10_000 + number);
        let [a, b] = [number >> 8 & 0xff, number & 0xff];
        let (local, remote) = (format!("10.{}.{a}.{b}:4000", number >> 16), format!("10.9.{a}.{b}:443"));
        let mut life = Life::in_state(CLOSE, &local, &remote).owned_by(owner);
        life.header.sk = 0xffff_8881_0000_0000 + u64::from(number) * 64;
        life.header.cookie = u64::from(number) + 1;
        life.socket.netns += number / IN_NAMESPACE;
        life.enters(stream, SYN_SENT);
        match number % 4 {
            0 => {
                life.facts.err = libc::ECONNREFUSED;
                life.enters(stream, CLOSE);
            }
            1 => {
                life.enters(stream, ESTABLISHED).gets_reset(stream);
                life.facts.err = libc::ECONNRESET;
                life.enters(stream, CLOSE);
            }
            2 => _ = life.enters(stream, ESTABLISHED).enters(stream, CLOSE_WAIT), // its end is lost
            _ => {
                life.enters(stream, ESTABLISHED).enters(stream, FIN_WAIT1).enters(stream, FIN_WAIT2);
                life.flags(socket_flag::DONE | socket_flag::DEAD).enters(stream, CLOSE); // TIME_WAIT
            }
        }
        stream.wait_us(100);
        for record in tcptrace::model::decode::split(&std::mem::take(&mut stream.bytes)) {
            session.ingest(record.unwrap());
        }
        if number % 100 == 0 {
            output(session);
        }
    }
}

fn empty(now_ns: u64, states: bool) -> Snapshot {
    let all = listing::snapshot();
    let inodes = (0..PROCESSES / IN_NAMESPACE).map(|number| 4_026_531_840 + number);
    let namespaces = inodes.map(|inode| Namespace { inode, ..Namespace::default() }).collect();
    let states =
        if states { [tcptrace::model::state::State::TimeWait].into_iter().collect() } else { Default::default() };
    Snapshot { started_ns: now_ns, ended_ns: now_ns + 1, sockets: Vec::new(), holders: None, states, namespaces, ..all }
}

#[test]
fn two_hundred_thousand_processes_leave_nothing_behind() {
    let settings = SessionSettings {
        max_sockets: MAX_SOCKETS,
        polls: true,
        findings: Some(Thresholds::default()),
        metrics: Some(metrics::Settings { by_cgroup: true, by_local_port: true, ..metrics::Settings::default() }),
        ..settings()
    };
    let (mut session, mut stream) = (session(settings, json()), Stream::new());
    let bounds = BTreeMap::from([
        ("sockets", MAX_SOCKETS),
        ("room", 2 * MAX_SOCKETS + 128),
        ("roles", 2 * MAX_SOCKETS + 64),
        ("half_open", 0),
        ("requested", 0),
        ("addresses", 65_536),
        ("departed", PROCESSES as usize),
        ("processes", 10_000),
        ("namespaces", 65_536),
        ("active_namespaces", 65_536),
        ("namespace_counters", 65_536),
        ("namespace_names", 65_536),
        ("cgroup_paths", 10_000),
        ("process_names", 8192),
        ("host_names", 16_384),
        ("held_records", 4096),
        ("rendered_bytes", 4 << 20),
        ("failures", 4096),
        ("flows", 4096),
        ("finding_namespaces", 65_536),
        // Besides those of owners some under `other`.
        ("series", 1000 + 64),
    ]);
    let check = |session: &Session| {
        for (name, size) in session.sizes() {
            assert!(size <= bounds[name], "{name}: {size} of {}", bounds[name]);
        }
    };
    for part in 0..20 {
        churn(&mut session, &mut stream, part * PROCESSES / 20..(part + 1) * PROCESSES / 20);
        check(&session);
        session.evaluate(stream.now_ns);
        session.take_active();
        session.poll(&empty(stream.now_ns, true));
        if part % 5 == 4 {
            session.end_interval(stream.now_ns);
        }
        output(&mut session);
        check(&session);
    }
    // A gap, and the listing that makes up for it: nothing is there any more.
    stream.wait(Duration::from_secs(120));
    session.begin_listing();
    session.reconcile(&empty(stream.now_ns, false));
    session.poll(&empty(stream.now_ns + 2, true));
    session.evaluate(stream.now_ns + 3);
    output(&mut session);
    let sizes: BTreeMap<_, _> = session.sizes().into_iter().collect();
    let few =
        ["sockets", "roles", "departed", "half_open", "requested", "failures", "active_namespaces", "rendered_bytes"];
    for name in few {
        assert!(sizes[name] <= 64, "{name}: {}", sizes[name]);
    }
    assert!(sizes["room"] <= 2 * 16 * 64, "{} places", sizes["room"]);
    assert!(sizes["namespaces"] <= 200 && sizes["namespace_names"] <= 200, "{sizes:?}");
}
