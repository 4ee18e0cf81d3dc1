//! `tcptrace sockets`: what is printed of a listing.

use clap::ValueEnum as _;
use serde_json::Value;
use tcptrace::{
    cli::args::GroupBy,
    commands::sockets::{
        columns::SocketColumn,
        fields::SocketField,
        form::Form,
        text::{Text, TextOptions},
    },
    model::{filter::Filter, snapshot::Snapshot, socket_filter::SocketFilter, state::State},
};

use unicode_width::UnicodeWidthStr as _;

use crate::{
    compare::compare,
    support::{
        listing::{HOSTILE, MakeForm, csv, json, plain, printed, snapshot, text},
        rfc4180,
    },
};

/// Files of listings begin so.
pub(crate) const LISTING: &str = "sockets_";

const FORMS: [(&str, MakeForm); 3] = [("txt", text), ("json", json), ("csv", csv)];

fn all() -> Filter {
    Filter::default()
}

fn in_style(options: TextOptions) -> String {
    printed(&snapshot(), &all(), &[], |listing| Form::Text(Text::new(&listing, options)))
}

fn chosen() -> Vec<SocketColumn> {
    ["remote", "state", "age_ns", "cookie", "holders"].map(|name| SocketColumn::named(name).unwrap()).to_vec()
}

#[test]
fn lines_are_no_wider_than_the_terminal() {
    for columns in [60, 80, 120] {
        for more in [false, true] {
            let printed = in_style(TextOptions { width: Some(columns), more, ..plain() });
            let widest = printed.lines().map(|line| line.width()).max();
            assert!(widest <= Some(columns), "{widest:?} of {columns}: {printed}");
            assert_eq!(printed.matches("columns: ").count(), 1, "it is said once: {printed}");
        }
    }
}

#[test]
fn lists_and_counts_in_each_form() {
    let mut files = Vec::new();
    let nothing = Snapshot { ended_ns: 1, ..Snapshot::default() };
    let sockets = SocketFilter { states: [State::CloseWait].into_iter().collect(), ..SocketFilter::default() };
    let waiting = Filter { sockets, ..all() };
    for (extension, form) in FORMS {
        files.push((format!("{LISTING}all.{extension}"), printed(&snapshot(), &all(), &[], form)));
        files.push((format!("{LISTING}close_wait.{extension}"), printed(&snapshot(), &waiting, &[], form)));
        files.push((format!("{LISTING}none.{extension}"), printed(&nothing, &all(), &[], form)));
        for by in GroupBy::value_variants() {
            let name = format!("{LISTING}by_{}.{extension}", by.name());
            files.push((name, printed(&snapshot(), &all(), &[*by], form)));
        }
        let by = [GroupBy::Comm, GroupBy::State];
        files.push((format!("{LISTING}by_comm_and_state.{extension}"), printed(&snapshot(), &all(), &by, form)));
    }
    let styles = [
        ("more", TextOptions { more: true, ..plain() }),
        ("color", TextOptions { color: true, ..plain() }),
        ("narrow", TextOptions { netns: false, owner_source: false, ..plain() }),
        ("60_columns", TextOptions { width: Some(60), ..plain() }),
        ("80_columns", TextOptions { width: Some(80), ..plain() }),
        ("120_columns", TextOptions { width: Some(120), ..plain() }),
        ("chosen_columns", TextOptions { columns: chosen(), width: Some(60), ..plain() }),
    ];
    files.extend(styles.map(|(name, options)| (format!("{LISTING}{name}.txt"), in_style(options))));
    compare(&files, |name| name.starts_with(LISTING));
}

#[test]
fn no_name_steers_a_terminal() {
    let mut lines = in_style(TextOptions { more: true, ..plain() });
    for by in GroupBy::value_variants() {
        lines += &printed(&snapshot(), &all(), &[*by], text);
        lines += &printed(&snapshot(), &all(), &[*by], json);
    }
    lines += &printed(&snapshot(), &all(), &[], json);
    assert!(lines.contains("?[2J???,end/6000") && lines.contains("/evil?[2J?\",.service"));
    for line in lines.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn csv_has_the_values_of_json() {
    let records: Vec<Value> =
        printed(&snapshot(), &all(), &[], json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = rfc4180::rows(&printed(&snapshot(), &all(), &[], csv)).unwrap();
    assert_eq!(rows[0], SocketField::ALL.iter().map(|field| field.name()).collect::<Vec<_>>());
    assert_eq!((rows.len(), records.len()), (1 + snapshot().sockets.len(), snapshot().sockets.len() + 1));
    for (row, record) in rows[1..].iter().zip(&records) {
        for (name, cell) in rows[0].iter().zip(row) {
            let read = match (&record[name], cell.as_str()) {
                (Value::Null, "") => Value::Null,
                (Value::String(known), text) if text == rfc4180::cell(known) => record[name].clone(),
                (_, text) => serde_json::from_str(text).unwrap(),
            };
            assert_eq!(read, record[name], "{name}");
        }
        assert_eq!(record.as_object().unwrap().keys().skip(1).collect::<Vec<_>>(), rows[0].iter().collect::<Vec<_>>());
    }
}

#[test]
fn counts_by_csv_are_those_of_json() {
    for by in GroupBy::value_variants() {
        let records = printed(&snapshot(), &all(), &[*by], json);
        let rows = rfc4180::rows(&printed(&snapshot(), &all(), &[*by], csv)).unwrap();
        assert_eq!(rows.len(), records.lines().count(), "names of columns and groups; groups and the end");
        for (row, record) in rows[1..].iter().zip(records.lines()) {
            let record: Value = serde_json::from_str(record).unwrap();
            for (name, cell) in rows[0].iter().zip(row) {
                let value = record.get(name).unwrap_or_else(|| &record["states"][name]);
                let text = value.as_str().map_or_else(|| value.to_string().replace("null", ""), rfc4180::cell);
                assert_eq!(*cell, text, "{name} by {}", by.name());
            }
            let in_states = State::ALL.iter().map(|state| record["states"][state.name()].as_u64().unwrap());
            assert_eq!(in_states.sum::<u64>(), record["sockets"].as_u64().unwrap());
        }
    }
}

#[test]
fn hostile_names_come_through_machine_readable_outputs() {
    let records: Vec<Value> =
        printed(&snapshot(), &all(), &[], json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let commands: Vec<_> = records.iter().filter_map(|record| record["holders"][0]["command"].as_str()).collect();
    for command in HOSTILE {
        assert!(commands.contains(&&*String::from_utf8_lossy(command)), "{command:?}");
    }
}
