//! `tcptrace config show`: every setting that is in force, and where its value comes from.

use std::{env, fmt::Write as _, path::Path};

use clap::{Arg, ArgAction, CommandFactory as _, Error, ValueEnum as _};
use serde_json::json;

use super::{check::daemon, value::Value};
use crate::{
    cli::{
        args::{Args, CONFIG_PATH, ConfigShowArgs, DaemonArgs},
        config::SECRETS,
        given::{Origin, Setting, key},
    },
    model::printable::printable,
};

/// A setting.
struct Row {
    key: String,
    value: Value,
    /// What gave it, the highest layer first; empty for a default.
    settings: Vec<Setting>,
}

impl Row {
    fn is_default(&self) -> bool {
        self.settings.is_empty()
    }

    /// Where it comes from, in words.
    fn sources(&self) -> String {
        if self.is_default() {
            return "default".to_owned();
        }
        self.settings.iter().map(|setting| source(&self.key, setting)).collect::<Vec<_>>().join(", ")
    }
}

fn source(key: &str, setting: &Setting) -> String {
    match &setting.origin {
        Origin::Flag => format!("--{key}"),
        Origin::Variable(name) => name.clone(),
        Origin::File(path, line) => format!("{}:{line}", printable(&path.to_string_lossy())),
    }
}

/// What the command prints.
///
/// # Errors
/// A usage error if a setting is wrong.
pub(crate) fn show(args: &ConfigShowArgs) -> Result<String, Error> {
    let (daemon, _) = daemon(args.config.clone(), &args.flags)?;
    let file = daemon.trace.findings.config.as_deref();
    let rows = rows(&daemon);
    let secrets: Vec<_> = SECRETS.into_iter().filter(|name| env::var_os(name).is_some()).collect();
    Ok(if args.json {
        to_json(file, &rows, &secrets)
    } else if args.toml {
        to_toml(file, &rows, &secrets)
    } else {
        to_text(file, &rows, &secrets)
    })
}

fn rows(daemon: &DaemonArgs) -> Vec<Row> {
    let command = Args::command();
    let arguments = command.find_subcommand("daemon").into_iter().flat_map(clap::Command::get_arguments);
    let arguments = arguments.filter(|argument| argument.get_long().is_some());
    let arguments = arguments.filter(|argument| !["config", "help", "version"].contains(&argument.get_id().as_str()));
    let mut rows: Vec<_> = arguments.map(|argument| row(daemon, argument)).collect();
    // A file has the tables of outputs behind all other keys.
    rows.sort_by_key(|row| matches!(row.value, Value::Outputs(_)));
    rows
}

fn row(daemon: &DaemonArgs, argument: &Arg) -> Row {
    let id = argument.get_id().as_str();
    let settings = daemon.trace.given.settings(id).to_vec();
    let words = match (settings.is_empty(), id) {
        // What counts in the kernel has no findings.
        (true, "findings_mode") => {
            let mode = daemon.trace.findings_mode.to_possible_value();
            mode.into_iter().map(|mode| mode.get_name().to_owned()).collect()
        }
        (true, _) => defaults(argument),
        (false, "output") => settings.iter().flat_map(|setting| setting.words.clone()).collect(),
        // The lowest layer first, because the last value of a name counts.
        (false, _) => settings.iter().rev().flat_map(|setting| words(argument, setting)).collect(),
    };
    Row { key: key(id), value: Value::new(argument, &words), settings }
}

fn defaults(argument: &Arg) -> Vec<String> {
    let words = argument.get_default_values().iter().map(|word| word.to_string_lossy().into_owned());
    match argument.get_action() {
        ArgAction::SetTrue => vec!["false".to_owned()],
        _ => words.collect(),
    }
}

/// The words of a setting; a flag that needs no value is on.
fn words(argument: &Arg, setting: &Setting) -> Vec<String> {
    if setting.words.is_empty() && argument.get_num_args().is_none_or(|count| count.min_values() == 0) {
        return vec!["true".to_owned()];
    }
    setting.words.clone()
}

fn file_line(file: Option<&Path>) -> String {
    let path = file.map(|path| printable(&path.to_string_lossy()));
    path.map_or_else(|| format!("no config file: there is no {CONFIG_PATH}"), |path| format!("config file: {path}"))
}

fn to_text(file: Option<&Path>, rows: &[Row], secrets: &[&str]) -> String {
    /// Widest column of values; longer ones move their source to the right.
    const WIDEST: usize = 36;
    let lines: Vec<_> = rows.iter().map(|row| row.value.lines()).collect();
    let key_width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let width = lines.iter().flatten().map(|line| line.chars().count()).max().unwrap_or(0).min(WIDEST);
    let mut to = format!("{}\n", file_line(file));
    let mut add = |key: &str, value: &str, source: &str| {
        let _ = writeln!(to, "{key:key_width$}  {:width$}  {source}", printable(value));
    };
    add("KEY", "VALUE", "SOURCE");
    for (row, lines) in rows.iter().zip(&lines) {
        for (index, line) in lines.iter().enumerate() {
            // Outputs of a file have a line each.
            let of_line = row.settings.get(index).filter(|_| row.settings.len() == lines.len() && lines.len() > 1);
            let source = of_line.map_or_else(|| row.sources(), |setting| source(&row.key, setting));
            add(if index == 0 { &row.key } else { "" }, line, &source);
        }
    }
    for name in secrets {
        let _ = writeln!(to, "{name} is set; its value is a secret and not shown");
    }
    to
}

fn to_json(file: Option<&Path>, rows: &[Row], secrets: &[&str]) -> String {
    let from = |row: &Row| -> serde_json::Value {
        if row.is_default() {
            return json!([{ "kind": "default" }]);
        }
        let of = |setting: &Setting| match &setting.origin {
            Origin::Flag => json!({ "kind": "flag", "name": format!("--{}", row.key) }),
            Origin::Variable(name) => json!({ "kind": "variable", "name": name }),
            Origin::File(path, line) => json!({ "kind": "file", "file": path.to_string_lossy(), "line": line }),
        };
        row.settings.iter().map(of).collect()
    };
    let settings = rows.iter().map(|row| (row.key.clone(), json!({ "value": row.value.to_json(), "from": from(row) })));
    let settings: serde_json::Map<_, _> = settings.collect();
    format!("{}\n", json!({ "config_file": file.map(Path::to_string_lossy), "settings": settings, "secrets": secrets }))
}

/// A config file with the same effect. Defaults are comments, as in the example of the service.
fn to_toml(file: Option<&Path>, rows: &[Row], secrets: &[&str]) -> String {
    let mut to = format!("# {}\n", file_line(file));
    for name in secrets {
        let _ = writeln!(to, "# {name} is set; a secret belongs into a variable.");
    }
    for row in rows {
        let off = if row.is_default() { "#" } else { "" };
        if let Some(value) = row.value.to_toml() {
            let _ = writeln!(to, "{off}{} = {value} # {}", row.key, row.sources());
        }
        for (index, table) in row.value.output_tables().iter().enumerate() {
            let source = row.settings.get(index).map_or_else(|| row.sources(), |setting| source(&row.key, setting));
            let _ = writeln!(to, "\n{off}[[output]] # {source}");
            table.iter().for_each(|line| _ = writeln!(to, "{off}{line}"));
        }
    }
    to
}
