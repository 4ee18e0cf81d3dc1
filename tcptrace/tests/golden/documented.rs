//! docs/json.md says what the schema says, and its examples are what the program writes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::schema;

const FILE: &str = "json.md";

/// A row of a table of fields.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    kind: String,
    unit: String,
}

/// The tables of fields, by the heading above them.
fn tables(text: &str) -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let (mut heading, mut in_table) = (String::new(), false);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            heading = title.trim_matches('`').to_owned();
        }
        in_table = line.starts_with('|') && (in_table || line.starts_with("| field | type | unit |"));
        if let (true, Some(row)) = (in_table, line.strip_prefix("| `")) {
            let cells: Vec<_> = row.split(" | ").collect();
            let name = cells[0].trim_end_matches('`').to_owned();
            tables.entry(heading.clone()).or_default().push(Row {
                name,
                kind: cells[1].to_owned(),
                unit: cells[2].to_owned(),
            });
        }
    }
    tables
}

/// The words of the type column for a schema.
fn kind(field: &Value) -> String {
    let word = |name: &Value| name.as_str().unwrap().to_owned();
    match &field["type"] {
        Value::Array(names) => names.iter().map(word).collect::<Vec<_>>().join(" or "),
        Value::Null => panic!("no type: {field}"),
        name => word(name),
    }
}

/// The unit that a field's name has in it.
fn unit(name: &str) -> Option<&'static str> {
    [("_ns", "ns"), ("_us", "µs"), ("bytes_", "bytes"), ("_bytes", "bytes")]
        .into_iter()
        .find_map(|(part, unit)| (name.ends_with(part) || name.starts_with(part)).then_some(unit))
}

#[test]
fn tables_have_the_fields_and_types_of_the_schema() {
    let (document, text) = (schema::document(), schema::docs_file(FILE));
    let tables = tables(&text);
    let kinds = document["oneOf"].as_array().unwrap().iter().map(|kind| kind["$ref"].as_str().unwrap());
    for event in kinds.map(|reference| reference.rsplit('/').next().unwrap()) {
        let parts: &[&str] = match event {
            "gap" | "time_wait_overflow" | "finding" | "looked" | "summary" | "end" | "rates" | "socket"
            | "socket_count" | "sockets_end" | "story" | "silent" | "kill" | "kill_end" | "check" | "checks_end" => {
                &["All records", event]
            }
            _ => &["All records", "All events", event, "Owner"],
        };
        let described: Vec<_> = parts.iter().flat_map(|part| tables.get(*part).into_iter().flatten()).collect();
        let fields = schema::fields(&document, event);
        let names = |row: &&Row| row.name.clone();
        assert_eq!(
            described.iter().map(names).collect::<Vec<_>>(),
            fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
            "fields of {event}"
        );
        for (row, (name, field)) in described.iter().zip(&fields) {
            assert_eq!(row.kind, kind(field), "type of {event}.{name}");
            assert!(unit(name).is_none_or(|unit| row.unit == unit), "unit of {event}.{name}: {row:?}");
        }
    }
}

#[test]
fn tables_of_the_parts_of_records_have_the_fields_of_the_schema() {
    let (document, text) = (schema::document(), schema::docs_file(FILE));
    let tables = tables(&text);
    let of_reports = [
        "activity",
        "losses",
        "transition_row",
        "ending_row",
        "key_row",
        "process_row",
        "socket_row",
        "socket_owner",
        "process",
    ];
    let of_findings = ["finding_owner", "evidence", "finding_example", "finding_holder", "waiting"];
    let of_listings = ["half_open_row", "holder", "state_counts", "skipped", "namespace", "kill_holder"];
    for part in of_reports.into_iter().chain(of_findings).chain(of_listings) {
        let rows = tables.get(part).unwrap_or_else(|| panic!("no table of {part}"));
        let fields = schema::fields(&document, part);
        assert_eq!(rows.len(), fields.len(), "fields of {part}");
        for (row, (name, field)) in rows.iter().zip(&fields) {
            assert_eq!((&row.name, &row.kind), (name, &kind(field)), "fields of {part}");
            assert!(unit(name).is_none_or(|unit| row.unit == unit), "unit of {part}.{name}: {row:?}");
        }
    }
}

#[test]
fn every_field_is_described_with_its_unit() {
    let document = schema::document();
    let mut fields = 0;
    for (record, definition) in document["$defs"].as_object().unwrap() {
        for (name, field) in definition["properties"].as_object().into_iter().flatten() {
            let described = [field, schema::resolve(&document, field)];
            let text = described.iter().find_map(|field| field["description"].as_str()).unwrap_or_default();
            assert!(!text.is_empty(), "{record}.{name} is not described");
            let unit = unit(name).unwrap_or_default();
            assert!(text.contains(unit), "{record}.{name} has no unit in {text:?}");
            fields += 1;
        }
    }
    assert!(fields > 50, "{fields}");
}

#[test]
fn examples_follow_the_schema_and_are_of_every_kind() {
    let (document, validator, text) = (schema::document(), schema::validator(), schema::docs_file(FILE));
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let mut examples: Vec<_> =
        lines.map(|line| schema::valid_record(&validator, line)["event"].as_str().unwrap().to_owned()).collect();
    examples.sort_unstable();
    examples.dedup();
    assert_eq!(examples.len(), document["oneOf"].as_array().unwrap().len(), "{examples:?}");
}

#[test]
fn values_that_the_schema_lists_are_explained() {
    let (document, text) = (schema::document(), schema::docs_file(FILE));
    let text = text + &schema::docs_file("findings.md");
    for definition in document["$defs"].as_object().unwrap().values() {
        for value in definition["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(text.contains(&format!("`{value}`")), "{value} is not explained");
        }
    }
}
