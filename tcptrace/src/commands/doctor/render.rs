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
        text::columns::{Style, styled},
    },
};

/// Longest value or title in text; longer ones are cut.
const MAX_WIDTH: usize = 34;
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
            Self::Text { color, verbose } => text(to, check_up, *color, *verbose),
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

fn text(to: &mut BytesMut, check_up: &CheckUp, color: bool, verbose: bool) {
    let shown = |text: &str| shorten(&Printable(text).to_string());
    let width = |of: fn(&Check) -> &str| {
        let widths = check_up.checks.iter().map(|check| shown(of(check)).chars().count());
        widths.max().unwrap_or(0)
    };
    let (titles, values) = (width(|check| &check.title), width(value));
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
        let (title, value) = (shown(&check.title), shown(value(check)));
        let _ = writeln!(to, " {title:<titles$} {value:<values$} {}", Printable(&check.consequence));
        let indent = STATUS_WIDTH + 1;
        if let Some(remedy) = &check.remedy {
            let _ = write!(to, "{:indent$}", "");
            styled(to, &format!("-> {}", Printable(remedy)), style, color);
            let _ = writeln!(to);
        }
        if verbose {
            let _ = writeln!(to, "{:indent$}{} ({})", "", check.meaning, check.source);
        }
    }
    let [ok, warnings, failed, unknown] =
        [Status::Ok, Status::Warning, Status::Failed, Status::Unknown].map(|status| check_up.count(status));
    let _ = writeln!(to, "\n{ok} ok, {warnings} warnings, {failed} failed, {unknown} unknown");
}

fn value(check: &Check) -> &str {
    check.value.as_deref().unwrap_or("-")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_WIDTH) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_WIDTH - 1).chain(['…']).collect(),
    }
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
