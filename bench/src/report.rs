//! The report: tables of figures, as text and as JSON, and their place in the documentation.

use std::{
    fmt::{self, Write as _},
    fs, io,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    figure::Figure,
    goals::{GOALS, Goal, Verdict},
};

/// Where the generated part of `docs/performance.md` begins, and where it ends.
const MARKERS: [&str; 2] = ["<!-- figures: begin -->", "<!-- figures: end -->"];

/// A table. The unit of a column is part of its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// A word, its name in JSON.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) title: String,
    /// Names of the columns after the first.
    pub(crate) columns: Vec<String>,
    /// One for each thing that was measured.
    pub(crate) rows: Vec<Row>,
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Its first column.
    pub(crate) what: String,
    /// A figure for each column, if there is one.
    pub(crate) figures: Vec<Option<Figure>>,
}

impl Table {
    pub(crate) fn new(name: &str, title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Self { name: name.to_owned(), title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, what: impl Into<String>, figures: impl Into<Vec<Option<Figure>>>) {
        self.rows.push(Row { what: what.into(), figures: figures.into() });
    }

    fn figure(&self, row: &str, column: &str) -> Option<Figure> {
        let column = self.columns.iter().position(|name| name == column)?;
        *self.rows.iter().find(|found| found.what == row)?.figures.get(column)?
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [String::new()].into_iter().chain(self.columns.clone()).collect();
        let rows = self.rows.iter().map(|row| {
            let figures = row.figures.iter().map(|figure| figure.map_or("–".to_owned(), |figure| figure.to_string()));
            [row.what.clone()].into_iter().chain(figures).collect()
        });
        write!(to, "{}:\n\n{}", self.title, markdown(head, rows.collect()))
    }
}

/// A Markdown table, aligned so that the source is readable too.
fn markdown(head: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = [&head].into_iter().chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<_> = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }.to_owned()).collect();
    let mut text = line(&head);
    let _ = writeln!(text, "| {} |", rule.join(" | "));
    text.extend(rows.iter().map(|row| line(row)));
    text
}

/// The figures of all parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of this format.
    pub(crate) schema: u32,
    /// Kernel and CPUs: figures mean nothing without them.
    pub(crate) machine: String,
    /// The figures of one part come from one run.
    parts: Vec<Measured>,
}

/// The figures of one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) part: String,
    /// The commit that was measured, as `git describe` names it.
    pub(crate) commit: String,
    pub(crate) tables: Vec<Table>,
}

impl Report {
    /// The report in `file`, or a new one if there is none or it comes from another machine.
    pub(crate) fn read(file: &Path, machine: &str) -> Result<Self> {
        let new = Self { schema: 1, machine: machine.to_owned(), parts: Vec::new() };
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new),
            text => text.with_context(|| file.display().to_string())?,
        };
        let old: Self = serde_json::from_str(&text).with_context(|| format!("{}: is not a report", file.display()))?;
        Ok(if old.machine == machine && old.schema == new.schema { old } else { new })
    }

    /// Writes it to `json`, and its tables between the markers of `page`.
    pub(crate) fn write(&self, json: &Path, page: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report cannot be written as JSON")?;
        let old = fs::read_to_string(page).with_context(|| page.display().to_string())?;
        let new = between_markers(&old, &self.page())
            .with_context(|| format!("{}: has no line {} before {}", page.display(), MARKERS[0], MARKERS[1]))?;
        for (file, text) in [(json, text + "\n"), (page, new)] {
            fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))?;
        }
        Ok(())
    }

    /// Adds the figures of a part, or replaces its older ones.
    pub(crate) fn put(&mut self, new: Measured) {
        match self.parts.iter_mut().find(|old| old.part == new.part) {
            Some(old) => *old = new,
            None => self.parts.push(new),
        }
    }

    fn figure(&self, table: &str, row: &str, column: &str) -> Option<Figure> {
        let mut tables = self.parts.iter().flat_map(|part| &part.tables);
        tables.find(|found| found.name == table)?.figure(row, column)
    }

    /// The generated part of the page.
    fn page(&self) -> String {
        let mut page = format!("{}.\n\n## Goals\n\n{}", self.machine, self.goals());
        for part in &self.parts {
            let _ = write!(page, "\n## Figures: {}\n\nMeasured at {}.\n", part.part, part.commit);
            for table in &part.tables {
                let _ = write!(page, "\n{table}");
            }
        }
        page
    }

    /// A table of the goals and what was reached.
    pub(crate) fn goals(&self) -> String {
        let head = ["", "goal", "reached", "met"].map(str::to_owned).into();
        let row = |goal: &Goal| {
            let figure = self.figure(goal.table, goal.row, goal.column);
            let reached = figure.map_or("–".to_owned(), |figure| figure.to_string());
            let verdict = match goal.verdict(figure) {
                Verdict::Met => "yes",
                Verdict::Missed => "**no**",
                Verdict::Unknown => "not measured",
            };
            vec![goal.what.to_owned(), goal.bound.to_string(), reached, verdict.to_owned()]
        };
        markdown(head, GOALS.iter().map(row).collect())
    }
}

/// `page` with `text` between its markers; `None` if they are missing.
fn between_markers(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(MARKERS[0])?;
    let (_, after) = rest.split_once(MARKERS[1])?;
    Some(format!("{before}{}\n{text}\n{}{after}", MARKERS[0], MARKERS[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("load", "Load", &["per_s", "ratio"]);
        table.row("untraced", [Figure::of([27000.0]), None]);
        table.row("tcptrace", [Figure::of([26000.0]), Figure::of([0.9, 1.0])]);
        table
    }

    #[test]
    fn a_table_is_aligned() {
        let text = "Load:\n\n\
            |          |  per_s |                 ratio |\n\
            | --- | ---: | ---: |\n\
            | untraced | 27,000 |                     – |\n\
            | tcptrace | 26,000 | 0.950 (0.925 – 0.975) |\n";
        assert_eq!(table().to_string(), text);
    }

    fn report(machine: &str) -> Report {
        let mut report = Report { schema: 1, machine: machine.to_owned(), parts: Vec::new() };
        report.put(Measured { part: "load".to_owned(), commit: "abc".to_owned(), tables: vec![table()] });
        report
    }

    #[test]
    fn figures_are_found_by_name_and_come_back_from_json() {
        let report = report("Linux");
        assert_eq!(report.figure("load", "untraced", "per_s"), Figure::of([27000.0]));
        assert_eq!(report.figure("load", "untraced", "ratio"), None);
        assert_eq!(report.figure("load", "untraced", "else"), None);
        assert_eq!(report.figure("else", "untraced", "per_s"), None);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_part_is_measured_again() {
        let mut report = report("Linux");
        report.put(Measured { part: "loss".to_owned(), commit: "abc".to_owned(), tables: Vec::new() });
        report.put(Measured { part: "load".to_owned(), commit: "def".to_owned(), tables: Vec::new() });
        let parts: Vec<_> = report.parts.iter().map(|part| (&*part.part, &*part.commit)).collect();
        assert_eq!(parts, [("load", "def"), ("loss", "abc")]);
    }

    #[test]
    fn a_report_of_another_machine_is_not_added_to() {
        let file = std::env::temp_dir().join(format!("tcptrace-report-{}.json", std::process::id()));
        fs::write(&file, serde_json::to_string(&report("A")).unwrap()).unwrap();
        assert_eq!(Report::read(&file, "A").unwrap(), report("A"));
        assert!(Report::read(&file, "B").unwrap().parts.is_empty());
        fs::write(&file, "{").unwrap();
        assert!(Report::read(&file, "A").is_err());
        fs::remove_file(&file).unwrap();
        assert!(Report::read(&file, "A").unwrap().parts.is_empty());
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("by hand\n{}\nold\n{}\nby hand too\n", MARKERS[0], MARKERS[1]);
        let new = between_markers(&page, "new").unwrap();
        assert_eq!(new, page.replace("old", "new"));
        assert_eq!(between_markers("by hand", "new"), None);
        assert_eq!(between_markers(&format!("{}{}", MARKERS[1], MARKERS[0]), "new"), None);
    }
}
