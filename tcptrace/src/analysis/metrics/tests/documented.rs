//! The documentation, the alert rules and the dashboard name what there is.

use super::*;
use crate::render::metrics::otlp;

#[test]
fn names_follow_the_conventions() {
    for family in families::ALL {
        let name = family.name;
        assert!(name.starts_with("tcptrace_") || name.starts_with("process_"), "{name}");
        assert!(!name.ends_with("_total") && family.help.ends_with(['.', 's']), "{name}: {}", family.help);
        let of_unit = match family.unit {
            "s" => name.ends_with("_seconds"),
            "By" => name.ends_with("_bytes"),
            _ => !name.ends_with("_seconds") && !name.ends_with("_bytes"),
        };
        assert!(of_unit, "{name} in {}", family.unit);
    }
}

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

fn doc(name: &str) -> String {
    std::fs::read_to_string(format!("{DOCS}/{name}")).unwrap()
}

#[test]
fn the_documentation_has_all_metrics_and_labels() {
    let text = doc("metrics.md");
    let described: Vec<_> =
        text.lines().filter(|line| line.starts_with("| `tcptrace_") || line.starts_with("| `process_")).collect();
    let row = |family: &&families::Descriptor| {
        let mut labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        labels.extend(family.by_owner.then(|| "owner".to_owned()));
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {} | {labels} | {} | `{}` |", family.sample(), family.kind, family.help, family.otlp)
    };
    assert_eq!(described, families::ALL.iter().map(row).collect::<Vec<_>>());
    let (_, of_labels) = text.split_once("\n## Labels\n").unwrap();
    let labels = families::ALL.iter().flat_map(|family| family.labels).chain(&families::OWNER_LABELS);
    for label in labels.filter(|label| **label != "version") {
        let row = of_labels.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{label}`")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{}`", otlp::key(label)))), "{label}: {row:?}");
    }
}

/// The metrics that a file names.
fn named(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tcptrace_") || word.starts_with("process_")).collect()
}

#[test]
fn rules_and_the_dashboard_ask_for_what_is_exported() {
    let samples: Vec<_> = families::ALL.iter().map(|family| family.sample()).collect();
    let is_exported = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        samples.iter().any(|sample| sample == of_histogram.unwrap_or(name))
    };
    let dashboard: serde_json::Value = serde_json::from_str(&doc("pipelines/grafana/tcptrace.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: String = targets.map(|target| target["expr"].as_str().unwrap().to_owned() + "\n").collect();
    let rules = doc("pipelines/prometheus/tcptrace.rules.yml");
    for (text, least) in [(&queries, 15), (&rules, 25)] {
        let names = named(text);
        assert!(names.len() >= least, "{names:?}");
        names.iter().for_each(|name| assert!(is_exported(name), "{name}"));
    }
    for kind in Kind::ALL {
        let expression = format!("expr: tcptrace_findings_open{{finding=\"{}\"}} > 0\n", kind.id());
        assert!(rules.contains(&expression) && rules.contains(kind.docs()), "no alert of {}", kind.id());
    }
}
