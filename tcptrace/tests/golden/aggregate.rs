//! What `tcptrace --aggregate` prints of some counts, in each form.

use bytes::BytesMut;
use tcptrace::{
    analysis::report::Report,
    model::{
        kernel_counts::{By, Counts},
        losses::Losses,
        state::{State, StateSet},
    },
    render::{csv::Csv, json::Json, text::Text},
};
use tcptrace_common::{
    aggregate::{CountKey, KIND_CLOSED, OTHER, OctaveTimes, UNKNOWN, bucket_of},
    record::socket_flag::{ATTACHED, OWNED},
    record::{KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_TRANSITION},
};

use crate::{
    compare::compare,
    support::{
        replay::{context, plain},
        schema,
    },
};

/// Files that these tests make begin so.
pub(crate) const COUNTED: &str = "counted";

/// A service and a client, as two CPUs counted them: `per_key` connections of each key.
fn counts(keys: &[u64], per_key: u64) -> Counts {
    let mut counts = Counts::default();
    for &key in keys {
        let of = |kind, old: State, new: Option<State>| CountKey {
            group: key,
            kind,
            old: old as u8,
            new: new.map_or(0, |new| new as u8),
            ..CountKey::default()
        };
        let changed = |old, new| of(KIND_TRANSITION, old, Some(new));
        let mut timed = |old, new, ns: u64| {
            let (octave, slot) = bucket_of(ns);
            let mut times = OctaveTimes { max_ns: ns, ..OctaveTimes::NONE };
            times.counts[slot] = per_key / 2;
            counts.add_times(CountKey { octave, ..changed(old, new) }, [times, times].into_iter());
        };
        timed(State::SynRecv, State::Established, 81_000);
        timed(State::Established, State::CloseWait, 41_000_000);
        timed(State::Established, State::CloseWait, 7_200_000_000_000);
        timed(State::FinWait2, State::TimeWait, 300);
        let mut add = |key, count| counts.add_count(key, [count, 1].into_iter());
        add(changed(State::Listen, State::SynRecv), per_key);
        add(changed(State::Established, State::CloseWait), 2);
        add(CountKey { new: 0, ..of(KIND_RETRANSMIT, State::Close, None) }, 3);
        add(of(KIND_RESET_SENT, State::Close, None), 1);
        add(of(KIND_RESET_RECEIVED, State::Close, None), 0);
        let aborted = of(KIND_CLOSED, State::Established, None);
        add(CountKey { flags: OWNED | ATTACHED, ..aborted }, 4);
        add(CountKey { err: libc::ECONNRESET as u16, flags: ATTACHED, ..aborted }, per_key);
    }
    counts
}

fn report(counts: &Counts, by: By, is_final: bool) -> Report {
    let path = |id| (id == 4711).then(|| "/system.slice/web.service".to_owned());
    let mut losses = Losses { ring_by_cpu: vec![0, 0], other_keys: 9, ..Losses::default() };
    (losses.received, losses.undecodable) = counts.totals();
    counts.report(by, path, (is_final, 61_000_000_000, 60_000_000_000), losses)
}

#[test]
fn counts_in_each_form() {
    let reports = [
        ("alone", report(&counts(&[UNKNOWN], 10), By::Transition, true)),
        ("by_port", report(&counts(&[443, 80, UNKNOWN, OTHER], 4), By::Port, false)),
        ("by_cgroup", report(&counts(&[4711, 4712, UNKNOWN], 2), By::Cgroup, true)),
        ("nothing", report(&Counts::default(), By::Port, true)),
    ];
    let (mut files, wall, validator) = (Vec::new(), context().wall, schema::validator());
    for (name, report) in &reports {
        let mut to: [BytesMut; 3] = Default::default();
        Text::new(plain()).report(&mut to[0], report, StateSet::default(), &context());
        Json::default().report(&mut to[1], report, wall);
        Csv::default().report(&mut to[2], report, wall);
        let line = String::from_utf8(to[1].to_vec()).unwrap();
        schema::valid_record(&validator, line.trim_end());
        for (extension, text) in ["txt", "json", "csv"].into_iter().zip(to) {
            files.push((format!("{COUNTED}_{name}.{extension}"), String::from_utf8(text.to_vec()).unwrap()));
        }
    }
    compare(&files, |name| name.starts_with(COUNTED));
}
