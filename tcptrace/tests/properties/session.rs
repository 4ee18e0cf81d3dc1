//! A session counts all that comes in, keeps its bounds, and goes on after what it cannot read.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;
use tcptrace::{
    analysis::summary::Summary,
    model::{
        decode::decode,
        event::EventKind,
        losses::Losses,
        state::{State, StateSet},
    },
    pipeline::settings::SessionSettings,
    table::Table,
};

use crate::{
    any_record::any_record,
    support::{
        replay::{csv, json, ladder, output, plain, session, settings, text},
        rfc4180,
    },
};

/// Records, some of them damaged.
fn any_input() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let damaged = any_record().prop_map(|mut record| {
        record.pop();
        record
    });
    vec(prop_oneof![4 => any_record(), 1 => damaged, 1 => vec(any::<u8>(), 0..200)], 0..60)
}

fn records_of(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_received_is_printed_or_counted(input in any_input()) {
        let decoded = input.iter().filter(|record| decode(record).is_ok()).count();
        let mut as_json = session(settings(), json());
        let mut as_csv = session(settings(), csv());
        for record in &input {
            as_json.ingest(record);
            as_csv.ingest(record);
        }
        let losses = &as_json.losses;
        prop_assert_eq!(losses.received, input.len() as u64);
        prop_assert_eq!(losses.undecodable, (input.len() - decoded) as u64);
        let printed = output(&mut as_json);
        prop_assert_eq!(printed.lines().count(), decoded);
        let rows = rfc4180::rows(&output(&mut as_csv)).unwrap();
        prop_assert_eq!(rows.len(), if decoded == 0 { 0 } else { decoded + 1 });
        as_json.finish(u64::MAX);
        as_json.end(u64::MAX, "duration", &[]);
        let end = records_of(&output(&mut as_json)).pop().unwrap();
        prop_assert_eq!(&end["received"], input.len());
        prop_assert_eq!(&end["losses"]["undecodable"], input.len() - decoded);
    }

    #[test]
    fn stories_are_told_of_anything(input in any_input(), now_ns: u64, port in 1u16..) {
        let mut session = session(settings(), ladder(port, false));
        for record in &input {
            session.ingest(record);
            session.tick(now_ns);
        }
        session.finish(now_ns);
    session.end(now_ns, "duration", &[]);
        prop_assert!(output(&mut session).lines().all(|line| !line.contains(char::is_control)));
    }

    #[test]
    fn text_is_printed_of_anything(input in any_input(), now_ns: u64) {
        let mut session = session(settings(), text(plain()));
        for record in &input {
            session.ingest(record);
        }
        session.end_interval(now_ns);
        session.finish(now_ns);
    session.end(now_ns, "duration", &[]);
        let printed = output(&mut session);
        prop_assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
        prop_assert!(printed.ends_with('\n') && printed.contains("Summary of"));
    }

    #[test]
    fn output_does_not_depend_on_when_it_is_taken(input in any_input(), size in 1usize..20) {
        let mut at_once = session(settings(), json());
        let mut in_pieces = session(settings(), json());
        let mut pieces = String::new();
        for records in input.chunks(size) {
            for record in records {
                at_once.ingest(record);
                in_pieces.ingest(record);
            }
            pieces += &output(&mut in_pieces);
        }
        prop_assert_eq!(output(&mut at_once), pieces);
        prop_assert_eq!(at_once.rendered(), 0);
    }

    #[test]
    fn the_table_keeps_its_bound_and_the_report_counts_it(
        input in vec(any_record(), 0..80), max in 1usize..5, now_ns: u64,
    ) {
        let mut table = Table::new(max, StateSet::default(), true);
        let mut unbounded = Table::new(1000, StateSet::default(), true);
        for event in input.iter().map(|record| decode(record).unwrap()) {
            table.ingest(&mut event.clone());
            unbounded.ingest(&mut event.clone());
            prop_assert!(table.len() <= max);
            prop_assert!(table.len() <= unbounded.len());
            prop_assert_eq!(table.is_empty(), table.connections().next().is_none());
        }
        prop_assert_eq!(unbounded.evicted(), 0);
        prop_assert!(table.evicted() > 0 || table.len() == unbounded.len());
        for table in [&table, &unbounded] {
            let report = Summary::new(false).report(table, now_ns, 0, true, Losses::default());
            prop_assert_eq!(report.sockets.iter().flatten().map(|row| row.count).sum::<u64>(), table.len() as u64);
        }
    }

    #[test]
    fn with_the_last_event_that_is_asked_for_all_counting_ends(
        input in vec(any_record(), 0..60), count in 1u64..20, bits in any::<u16>(),
    ) {
        let states: StateSet = State::ALL.into_iter().filter(|state| bits & (1 << *state as u8) != 0).collect();
        let is_concerned = |record: &Vec<u8>| {
            let event = decode(record).unwrap();
            match event.what {
                EventKind::Transition(t) => states.is_empty() || states.contains(t.old) || states.contains(t.new),
                _ => states.is_empty() || states.contains(event.socket.state),
            }
        };
        let mut concerned = 0;
        let taken = input.iter().take_while(|record| {
            let goes_on = concerned < count;
            concerned += u64::from(goes_on && is_concerned(record));
            goes_on
        });
        let taken = taken.count() as u64;
        let mut session = session(SessionSettings { states, count: Some(count), ..settings() }, json());
        for record in &input {
            session.ingest(record);
        }
        prop_assert_eq!(session.losses.received, taken);
        prop_assert_eq!(session.losses.not_shown, taken - concerned);
        prop_assert_eq!(output(&mut session).lines().count() as u64, concerned);
        prop_assert_eq!(session.written(), concerned);
        prop_assert_eq!(session.is_complete(), concerned == count);
    }
}
