//! The columns of findings: those of CSV, which `--columns` and `--sort` of `tcptrace stuck` choose from.

use std::{cmp::Reverse, str::FromStr};

use serde_json::Value;

use crate::{
    findings::Severity,
    model::{nearest::nearest, printable::printable, time::human},
};

/// A column: its name, and where its value is in a finding's JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindingColumn {
    name: &'static str,
    place: &'static str,
}

const fn column(name: &'static str, place: &'static str) -> FindingColumn {
    FindingColumn { name, place }
}

impl FindingColumn {
    /// All columns, in the order of CSV.
    pub const ALL: [Self; 33] = [
        column("event", "/event"),
        column("time", "/time"),
        column("mono_ns", "/mono_ns"),
        column("phase", "/phase"),
        column("into", "/into"),
        column("finding", "/finding"),
        column("number", "/number"),
        column("severity", "/severity"),
        column("netns", "/netns"),
        column("netns_name", "/netns_name"),
        column("local_address", "/local_address"),
        column("local_port", "/local_port"),
        column("remote_address", "/remote_address"),
        column("remote_port", "/remote_port"),
        column("pid", "/owner/pid"),
        column("command", "/owner/command"),
        column("uid", "/owner/uid"),
        column("cgroup", "/owner/cgroup"),
        column("executable", "/owner/executable"),
        column("owner_source", "/owner/source"),
        column("process_count", "/process_count"),
        column("processes", "/processes"),
        column("count", "/count"),
        column("count_now", "/count_now"),
        column("age_ns", "/age_ns"),
        column("age_source", "/age_source"),
        column("open_for_ns", "/open_for_ns"),
        column("cause", "/cause"),
        column("explanation", "/explanation"),
        column("remedy", "/remedy"),
        column("docs", "/docs"),
        column("evidence", "/evidence"),
        column("examples", "/examples"),
    ];

    /// Its name in CSV.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its value in the JSON of a finding; null if it has none.
    #[must_use]
    pub fn of(self, finding: &Value) -> &Value {
        finding.pointer(self.place).unwrap_or(&Value::Null)
    }

    /// Its value for people.
    pub(crate) fn text(self, finding: &Value) -> String {
        match self.of(finding) {
            Value::Null => "-".to_owned(),
            Value::Number(ns) if self.name.ends_with("_ns") && self.name != "mono_ns" => {
                ns.as_u64().map_or_else(|| ns.to_string(), human)
            }
            Value::String(text) => printable(text).to_string(),
            other => printable(&other.to_string()).to_string(),
        }
    }

    /// The value to sort by; `None` if it is unknown.
    fn key(self, finding: &Value) -> Option<Key> {
        match self.of(finding) {
            Value::Null => None,
            Value::Number(number) => Some(Key::Number(number.as_u64().unwrap_or_default())),
            Value::String(text) if self.name == "severity" => {
                let all = [Severity::Info, Severity::Warning, Severity::Critical];
                let rank = all.iter().position(|severity| severity.name() == text);
                rank.map(|rank| Key::Number(rank as u64))
            }
            Value::String(text) => Some(Key::Text(text.clone())),
            other => Some(Key::Text(other.to_string())),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(u64),
    Text(String),
}

impl FromStr for FindingColumn {
    type Err = String;

    /// By its name, with dashes or underscores; the unit of a time may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.replace('-', "_");
        let is_it = |column: &Self| column.name == name || column.name.strip_suffix("_ns") == Some(&name);
        Self::ALL.into_iter().find(is_it).ok_or_else(|| {
            let names = || Self::ALL.iter().map(|column| column.name);
            let nearest = nearest(&name, names());
            let nearest = if nearest.is_empty() { "." } else { &nearest };
            format!("unknown column `{text}`{nearest} Known are {}", names().collect::<Vec<_>>().join(", "))
        })
    }
}

/// What findings are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindingOrder {
    /// The column.
    pub column: FindingColumn,
    /// The largest first.
    pub descending: bool,
}

/// Sorts findings, given as JSON with whatever goes with each. What is not known comes last in both directions; equal ones
/// stay as they were.
pub(crate) fn sort<T>(findings: &mut [(Value, T)], by: &[FindingOrder]) {
    findings.sort_by_cached_key(|(finding, _)| {
        let key = |order: &FindingOrder| {
            let key = order.column.key(finding);
            let is_unknown = key.is_none();
            if order.descending { (is_unknown, None, Some(Reverse(key))) } else { (is_unknown, Some(key), None) }
        };
        by.iter().map(key).collect::<Vec<_>>()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        for column in FindingColumn::ALL {
            assert_eq!(column.name.parse(), Ok(column));
        }
        assert_eq!("open-for".parse::<FindingColumn>().unwrap().name, "open_for_ns");
        assert_eq!("age".parse::<FindingColumn>().unwrap().name, "age_ns");
        let error = "sevrity".parse::<FindingColumn>().unwrap_err();
        assert!(error.starts_with("unknown column `sevrity`: did you mean `severity`? Known are event, "), "{error}");
    }

    #[test]
    fn the_unknown_comes_last_and_severities_have_an_order() {
        let findings = || {
            [("warning", Some(2)), ("critical", None), ("info", Some(9)), ("warning", Some(10))]
                .map(|(severity, age)| (json!({ "severity": severity, "age_ns": age }), ()))
        };
        let sorted = |by: &[(&str, bool)]| {
            let by: Vec<_> = by
                .iter()
                .map(|(name, descending)| FindingOrder { column: name.parse().unwrap(), descending: *descending })
                .collect();
            let mut findings = findings();
            sort(&mut findings, &by);
            findings.map(|(finding, ())| format!("{} {}", finding["severity"].as_str().unwrap(), finding["age_ns"]))
        };
        assert_eq!(sorted(&[("age", false)]), ["warning 2", "info 9", "warning 10", "critical null"]);
        assert_eq!(sorted(&[("age", true)]), ["warning 10", "info 9", "warning 2", "critical null"]);
        assert_eq!(
            sorted(&[("severity", true), ("age", true)]),
            ["critical null", "warning 10", "warning 2", "info 9"]
        );
    }
}
