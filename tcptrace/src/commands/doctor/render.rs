//! The checks as text, JSON and CSV.

use std::fmt::Write as _;

use bytes::BytesMut;
use serde_json::json;

use crate::{
    cli::args::Area,
    commands::doctor::check::{Check, CheckUp, Status},
    model::{
        printable::Printable,
        time::{WallFormat, WallOffset},
    },
    render::{
        FieldValue::{self, Null, Number, Text, Time},
        SCHEMA_VERSION,
        csv::Csv,
        json::{Json, line, text_time},
        text::{
            style::{Style, styled},
            wrap::{cut, width, wrapped},
        },
    },
};

/// Longest value or title in text; longer ones are cut.
const MAX_WIDTH: usize = 34;
/// Narrowest room for a sentence beside a value.
const MIN_SENTENCE: usize = 30;
/// Width of `warning`.
const STATUS_WIDTH: usize = 7;

/// Writes the checks in one of the formats.
pub enum DoctorRenderer {
    /// For people.
    Text {
        /// Whether to use colour.
        color: bool,
        /// Whether to explain each check and name its source.
        verbose: bool,
        /// Width of the terminal, if it goes to one.
        width: Option<usize>,
    },
    /// One object per line.
    Json(Json),
    /// A row for each check.
    Csv(Csv),
}

impl DoctorRenderer {
    /// Writes all checks.
    pub fn check_up(&mut self, to: &mut BytesMut, check_up: &CheckUp, wall: WallOffset) {
        match self {
            Self::Text { color, verbose, width } => text(to, check_up, *color, *verbose, *width),
            Self::Json(json) => {
                check_up.checks.iter().for_each(|check| json.object(to, fields(check, check_up, wall).into_iter()));
                end(to, check_up, wall);
            }
            Self::Csv(csv) => {
                check_up.checks.iter().for_each(|check| csv.row(to, fields(check, check_up, wall).into_iter()));
            }
        }
    }
}

/// The fields in JSON and CSV.
fn fields<'a>(check: &'a Check, check_up: &CheckUp, wall: WallOffset) -> [(&'static str, FieldValue<'a>); 12] {
    let or_null = |text: &'a Option<String>| text.as_deref().map_or(Null, Text);
    [
        ("event", Text("check")),
        ("time", Time(wall.wall_ns(check_up.mono_ns))),
        ("mono_ns", Number(check_up.mono_ns)),
        ("id", Text(check.id)),
        ("area", Text(check.area.name())),
        ("status", Text(check.status.name())),
        ("title", Text(&check.title)),
        ("value", or_null(&check.value)),
        ("meaning", Text(check.meaning)),
        ("consequence", Text(&check.consequence)),
        ("remedy", or_null(&check.remedy)),
        ("source", Text(check.source)),
    ]
}

fn end(to: &mut BytesMut, check_up: &CheckUp, wall: WallOffset) {
    let time = text_time(&mut WallFormat::rfc3339(), wall, check_up.mono_ns);
    let count = |status| check_up.count(status);
    line(
        to,
        &json!({
            "schema": SCHEMA_VERSION, "event": "checks_end", "time": time, "mono_ns": check_up.mono_ns,
            "kernel": check_up.release, "netns": check_up.netns.as_ref().map(|(inode, _)| inode),
            "netns_name": check_up.netns.as_ref().and_then(|(_, name)| name.as_ref()),
            "ok": count(Status::Ok), "warnings": count(Status::Warning), "failed": count(Status::Failed),
            "unknown": count(Status::Unknown),
        }),
    );
}

// Writing to memory cannot fail, so the results of `write!` are ignored below.

fn text(to: &mut BytesMut, check_up: &CheckUp, color: bool, verbose: bool, columns: Option<usize>) {
    let shown = |text: &str| cut(&Printable(text).to_string(), MAX_WIDTH).into_owned();
    let widest =
        |of: fn(&Check) -> &str| check_up.checks.iter().map(|check| width(&shown(of(check)))).max().unwrap_or(0);
    let (titles, values) = (widest(|check| &check.title), widest(value));
    let indent = STATUS_WIDTH + 1;
    let start = indent + titles + 1 + values + 1;
    let mut area = None;
    for check in &check_up.checks {
        if area.replace(check.area) != Some(check.area) {
            let gap = if to.is_empty() { "" } else { "\n" };
            let _ = write!(to, "{gap}");
            styled(to, &heading(check.area, check_up), Style::Heading, color);
            let _ = writeln!(to);
        }
        let style = match check.status {
            Status::Ok => Style::Plain,
            Status::Warning | Status::Unknown => Style::Attention,
            Status::Failed => Style::Trouble,
        };
        styled(to, &format!("{:<STATUS_WIDTH$}", check.status.name()), style, color);
        let padded = |text: String, to: usize| format!("{text}{:1$}", "", to.saturating_sub(width(&text)));
        let (title, value) = (padded(shown(&check.title), titles), padded(shown(value(check)), values));
        let consequence = Printable(&check.consequence).to_string();
        let fits = |width: usize| columns.is_none_or(|columns| width <= columns);
        match columns {
            // The rest of the line is too narrow for sentences.
            Some(columns) if columns < start + MIN_SENTENCE && !fits(start + width(&consequence)) => {
                let first = if fits(start) { format!(" {title} {value}") } else { format!(" {title}") };
                let _ = writeln!(to, "{}", first.trim_end());
                if !fits(start) {
                    sentence(to, value.trim_end(), indent, Some(columns));
                }
                sentence(to, &consequence, indent, Some(columns));
            }
            _ => {
                let _ = write!(to, " {title} {value} ");
                let room = columns.map(|columns| columns.saturating_sub(start));
                let _ = writeln!(to, "{}", wrapped(&consequence, 0, room).replace('\n', &format!("\n{:start$}", "")));
            }
        }
        if let Some(remedy) = &check.remedy {
            let mut text = BytesMut::new();
            sentence(&mut text, &format!("-> {}", Printable(remedy)), indent, columns);
            let text = String::from_utf8_lossy(&text);
            let _ = write!(to, "{:indent$}", "");
            styled(to, text.trim(), style, color);
            let _ = writeln!(to);
        }
        if verbose {
            sentence(to, &format!("{} ({})", check.meaning, check.source), indent, columns);
        }
    }
    let [ok, warnings, failed, unknown] =
        [Status::Ok, Status::Warning, Status::Failed, Status::Unknown].map(|status| check_up.count(status));
    let _ = writeln!(to, "\n{ok} ok, {warnings} warnings, {failed} failed, {unknown} unknown");
}

/// Writes indented lines.
fn sentence(to: &mut BytesMut, text: &str, indent: usize, columns: Option<usize>) {
    let _ = writeln!(to, "{}", wrapped(&format!("{:indent$}{text}", ""), indent, columns));
}

fn value(check: &Check) -> &str {
    check.value.as_deref().unwrap_or("-")
}

fn heading(area: Area, check_up: &CheckUp) -> String {
    match (area, &check_up.netns) {
        (Area::Machine, _) => "Machine".to_owned(),
        (Area::Hooks, _) => "Hooks".to_owned(),
        (Area::Settings, Some((inode, None))) => format!("Settings of network namespace {inode}"),
        (Area::Settings, Some((inode, Some(name)))) => {
            format!("Settings of network namespace {inode} ({})", Printable(name))
        }
        (Area::Settings, None) => "Settings".to_owned(),
        (Area::Pressure, _) => "Pressure".to_owned(),
        (Area::Files, _) => "Files that set TCP settings at boot".to_owned(),
    }
}
