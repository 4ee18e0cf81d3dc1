//! The pure core, as `cargo bench --bench figures` of the package tcptrace measures it in one process.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xtask::programs;

use crate::{figure::Figure, report::Table};

/// The name of the bench target and its executable.
pub(crate) const NAME: &str = "figures";

/// The figures that are single numbers: the name in JSON, and a description.
const FIGURES: [(&str, &str); 7] = [
    ("decode_table_events_per_s", "decode and table, events a second"),
    ("json_lines_per_s", "JSON, lines a second"),
    ("text_lines_per_s", "text, lines a second"),
    ("csv_lines_per_s", "CSV, lines a second"),
    ("summary_events_per_s", "summary, events a second"),
    ("findings_tick_ms_1m", "one look for findings over 1,000,000 connections, ms"),
    ("screen_refresh_ms_50k", "one refresh of the screen of `tcptrace top` with 50,000 sockets, ms"),
];

/// Runs the executable a few times; each run has several rounds.
pub(crate) fn measure(figures: &Path) -> Result<Vec<Table>> {
    const RUNS: usize = 3;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        // As `cargo bench` starts it.
        let mut command = Command::new(figures);
        let text = programs::stdout_of(command.arg("--bench"))?;
        let run = text.lines().find(|line| line.starts_with('{')).and_then(|line| serde_json::from_str(line).ok());
        runs.push(run.with_context(|| format!("`{}` printed no line of JSON", programs::line(&command)))?);
    }
    let tables = tables(&runs);
    tables.iter().for_each(|table| println!("{table}"));
    Ok(tables)
}

fn tables(runs: &[Value]) -> Vec<Table> {
    let of = |read: &dyn Fn(&Value) -> Option<f64>| Figure::of(runs.iter().map(|run| read(run).unwrap_or(f64::NAN)));
    let title = format!("The pure core on one CPU; medians and quartiles of {} runs", runs.len());
    let mut core = Table::new("core", title, &["figure"]);
    for (name, what) in FIGURES {
        core.row(what, [of(&|run| run[name].as_f64())]);
    }
    let rows = |list: &str| runs.first().and_then(|run| run[list].as_array()).map_or(0, Vec::len);
    let size = |list: &str, row: usize| runs[0][list][row]["connections"].as_u64().unwrap_or_default();
    let mut growth = Table::new("core_growth", "Decode and table, by connections in the table", &["events_per_s"]);
    for row in 0..rows("decode_table") {
        let figure = of(&|run| run["decode_table"][row]["events_per_s"].as_f64());
        growth.row(format!("{} connections", size("decode_table", row)), [figure]);
    }
    let mut live =
        Table::new("live", "Memory of live connections in the table", &["bytes_per_connection", "peak_rss_mb"]);
    for row in 0..rows("live") {
        let of = |name: &str| of(&|run| run["live"][row][name].as_f64());
        live.row(format!("{} connections", size("live", row)), [of("bytes_per_connection"), of("peak_rss_mb")]);
    }
    vec![core, growth, live]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_become_tables() {
        let run = |json_lines: u64| {
            json!({"decode_table_events_per_s": 2e6, "json_lines_per_s": json_lines,
                "decode_table": [{"connections": 1000, "events_per_s": 7}], "live": [
                {"connections": 10_000, "bytes_per_connection": 150.5, "peak_rss_mb": 20},
            ]})
        };
        let [core, growth, live] = <[Table; 3]>::try_from(tables(&[run(10), run(20), run(30)])).unwrap();
        assert_eq!(core.rows[0].figures, [Figure::of([2e6; 3])]);
        assert_eq!(core.rows[1].figures, [Figure::of([10.0, 20.0, 30.0])]);
        assert_eq!(core.rows[2].figures, [None], "what is not there is not known");
        assert_eq!(growth.rows[0].what, "1000 connections");
        assert_eq!(growth.rows[0].figures, [Figure::of([7.0; 3])]);
        assert_eq!(live.rows[0].what, "10000 connections");
        assert_eq!(live.rows[0].figures, [Figure::of([150.5; 3]), Figure::of([20.0; 3])]);
    }
}
