//! Summaries of intervals add up to the summary of the whole.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;
use tcptrace::{
    analysis::{
        report::{Activity, Report},
        summary::Summary,
    },
    model::{
        decode::decode,
        event::{Event, EventKind},
        losses::Losses,
        state::StateSet,
    },
    pipeline::settings::SessionSettings,
    table::Table,
};

use crate::{
    any_record::any_record,
    support::{
        records::{Life, Stream, process},
        replay::{json, output, session, settings},
    },
};

fn summary_of(events: &[Event], by_process: bool) -> Summary {
    let mut summary = Summary::new(by_process);
    for event in events {
        summary.ingest(event);
    }
    summary
}

fn report(summary: &Summary) -> Report {
    summary.report(&Table::new(1, StateSet::default(), true), 0, 0, true, Losses::default())
}

/// All that is in a report, processes in an order of their own.
fn content(report: Report) -> String {
    let mut processes: Vec<_> = report.processes.iter().flatten().map(|row| format!("{row:?}")).collect();
    processes.sort();
    format!("{:?}", (processes, Report { processes: None, ..report }))
}

/// Events of a few processes, so that all are in a report.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any_record(), 0u32..8).prop_map(|(record, pid)| {
        let mut event = decode(&record).unwrap();
        if let Some(owner) = &mut event.owner {
            owner.pid = pid;
            owner.command = tcptrace::model::event::Command::new([0; 16]);
        }
        event
    });
    vec(event, 0..80)
}

proptest! {
    #[test]
    fn parts_that_are_put_together_are_the_whole(events in events(), size in 1usize..30, by_process: bool) {
        let mut merged = Summary::new(by_process);
        for part in events.chunks(size) {
            merged.merge(summary_of(part, by_process));
        }
        prop_assert_eq!(content(report(&merged)), content(report(&summary_of(&events, by_process))));
    }

    #[test]
    fn all_events_are_counted_once(events in events()) {
        let report = report(&summary_of(&events, true));
        let count = |wanted: fn(&EventKind) -> bool| events.iter().filter(|event| wanted(&event.what)).count() as u64;
        let transitions = count(|what| matches!(what, EventKind::Transition(_)));
        let retransmits = count(|what| match what {
            EventKind::Retransmit(retransmit) => retransmit.failed.is_none(), // else nothing was sent
            _ => matches!(what, EventKind::SynAckRetransmit { .. }),
        });
        let sent = count(|what| matches!(what, EventKind::ResetSent { .. }));
        let received = count(|what| matches!(what, EventKind::ResetReceived(_)));
        let activity = report.activity;
        prop_assert_eq!(
            (activity.transitions, activity.retransmits, activity.resets_sent, activity.resets_received),
            (transitions, retransmits, sent, received)
        );
        prop_assert_eq!(report.transitions.iter().map(|row| row.count).sum::<u64>(), transitions);
        let of_processes = |field: fn(&Activity) -> u64| -> u64 {
            report.processes.iter().flatten().map(|row| field(&row.activity)).sum()
        };
        prop_assert_eq!(of_processes(|activity| activity.transitions), transitions);
        prop_assert_eq!(of_processes(|activity| activity.retransmits), retransmits);
        prop_assert_eq!(of_processes(|activity| activity.resets_sent), sent);
        prop_assert_eq!(of_processes(|activity| activity.resets_received), received);
        for row in report.processes.iter().flatten() {
            let own: u64 = row.transitions.iter().map(|row| row.count).sum();
            prop_assert_eq!(own, row.activity.transitions);
        }
        for row in &report.transitions {
            prop_assert!(row.timed <= row.count);
            prop_assert_eq!(row.times.is_some(), row.timed > 0);
            let ordered = row.times.is_none_or(|times| {
                times.p50_ns <= times.p90_ns && times.p90_ns <= times.p99_ns && times.p99_ns <= times.max_ns
            });
            prop_assert!(ordered, "{row:?}");
        }
        let endings = events.iter().filter(|event| match event.what {
            EventKind::Transition(transition) => transition.ending.is_some(),
            _ => false,
        });
        prop_assert_eq!(report.endings.iter().map(|(_, count)| count).sum::<u64>(), endings.count() as u64);
    }
}

/// More processes than a summary tells apart.
#[test]
fn events_of_too_many_processes_are_lost_to_none_but_the_list_of_processes() {
    const PROCESSES: u32 = 10_050;
    let mut stream = Stream::new();
    for pid in 1..=PROCESSES {
        let mut life = Life::in_state(7, "192.0.2.10:1", "192.0.2.11:2").owned_by(process(pid, b"many", 1));
        life.enters(&mut stream, 2);
    }
    let mut session = session(SessionSettings { events: false, ..settings() }, json());
    for record in tcptrace::model::decode::split(&stream.bytes) {
        session.ingest(record.unwrap());
    }
    session.end_interval(stream.now_ns);
    session.finish(stream.now_ns);
    session.end(stream.now_ns, "duration", &[]);
    for line in output(&mut session).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["losses"]["unnamed_process_events"], 50, "{line}");
        if record["event"] == "summary" {
            assert_eq!(record["events"]["transitions"], PROCESSES);
            assert_eq!(record["processes"].as_array().unwrap().len(), 10);
        }
    }
}
