//! The layers of settings: flags win over variables (`TCPTRACE_*`), these over the config file (TOML), these over defaults.
//! Variables and keys of the file have the long names of the flags: `--local-port 80`, `TCPTRACE_LOCAL_PORT=80` and
//! `local-port = 80` mean the same.

mod keys;
mod value;

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, Error, FromArgMatches as _, error::ErrorKind, parser::ValueSource};
use serde::{Deserialize as _, de::value::MapDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, ValueDeserializer},
};

use self::keys::Keys;
use super::{
    args::{Args, Command, TraceArgs},
    findings::FindingsMode,
    given::{Given, long},
    nearest,
    outputs::OutputSpec,
    terminal::exit,
};

/// Largest config file that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Prefix of all variables.
const PREFIX: &str = "TCPTRACE_";

/// Parses the command line, and adds the settings of the variables and the config file.
///
/// # Errors
/// If a variable or the config file is wrong. A wrong command line ends the process, as is usual with clap.
pub fn parse(words: Vec<OsString>) -> Result<Args, Error> {
    let matches = Args::command().try_get_matches_from(words).unwrap_or_else(|error| exit(error));
    let mut args = Args::from_arg_matches(&matches).unwrap_or_else(|error| exit(error));
    let typed = matches.subcommand().map_or(&matches, |(_, of_command)| of_command);
    let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
    let layers = |config: &mut Option<PathBuf>| layers(config, is_typed("config")).map_err(usage);
    match &mut args.command {
        None => apply(layers(&mut args.trace.findings.config)?, &mut args.trace, is_typed),
        Some(Command::Daemon(daemon)) => {
            let layers = layers(&mut daemon.trace.findings.config)?;
            let level = layers.iter().find_map(|layer| layer.keys.log_level).filter(|_| !is_typed("log_level"));
            daemon.log_level = level.unwrap_or(daemon.log_level);
            apply(layers, &mut daemon.trace, is_typed);
        }
        Some(Command::Stuck(stuck)) => {
            for layer in layers(&mut stuck.findings.config)? {
                layer.keys.add_findings(&mut stuck.findings, &mut Given::default(), str::to_owned);
            }
        }
        Some(_) => {}
    }
    Ok(args)
}

fn usage(message: String) -> Error {
    Error::raw(ErrorKind::ValueValidation, message + "\n")
}

/// Sets what the command line left open.
fn apply(layers: Vec<Layer>, args: &mut TraceArgs, is_typed: impl Fn(&str) -> bool) {
    for id in Keys::ids().filter(|id| is_typed(id)) {
        args.given.add(id, || long(id));
    }
    for Layer { keys, outputs, place } in layers {
        if !outputs.is_empty() && args.given.add("output", || place.name("output")) {
            args.output.to = outputs;
        }
        keys.apply(args, |id| place.name(id));
    }
    for (id, is_on) in [
        ("ipv4", args.filter.ipv4),
        ("ipv6", args.filter.ipv6),
        ("no_iter", args.listing.no_iter),
        ("shared_ring", args.shared_ring),
        ("summary", args.summary),
        ("aggregate", args.aggregate.is_some()),
    ] {
        if !is_on {
            args.given.remove(id);
        }
    }
    if args.aggregate.is_some() && args.given.get("findings_mode").is_none() {
        args.findings_mode = FindingsMode::Off;
    }
}

/// The settings of one variable, or of the config file.
struct Layer {
    keys: Keys,
    outputs: Vec<OutputSpec>,
    place: Place,
}

/// Where a layer comes from, for messages.
enum Place {
    Variable(String),
    /// A file, with the line and name of each key.
    File(PathBuf, Vec<(usize, String)>),
}

impl Place {
    /// The name of a flag in messages, if this layer gave it: `TCPTRACE_PORT`, or `port (FILE, line 3)`.
    fn name(&self, id: &str) -> String {
        match self {
            Self::Variable(name) => name.clone(),
            Self::File(path, lines) => {
                let key = id.replace('_', "-");
                let line = lines.iter().find(|(_, known)| *known == key).map_or(0, |(line, _)| *line);
                format!("{key} ({}, line {line})", path.display())
            }
        }
    }
}

/// The layers below the command line, the highest first.
fn layers(config: &mut Option<PathBuf>, is_typed: bool) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if name != "TCPTRACE_CONFIG" {
            layers.extend(variable(name, &value).map_err(|reason| format!("variable {name}: {reason}"))?);
        } else if !is_typed {
            *config = Some(value.into());
        }
    }
    if let Some(path) = config {
        layers.push(file(path).map_err(|reason| format!("config file {}{reason}", path.display()))?);
    }
    Ok(layers)
}

/// The names of all keys of a config file, with underscores.
fn fields() -> impl Iterator<Item = &'static str> {
    Keys::NAMES.iter().copied().chain(["output"])
}

/// The variable that an unknown name was probably meant to be: at most two letters differ. More distant names may belong to
/// other programs.
fn mistyped(name: &str) -> Option<String> {
    let letters = name.len() - PREFIX.len();
    let wrong = |known: &String| strsim::osa_distance(&name.to_ascii_uppercase(), known);
    let known = fields()
        .chain(["config", "otlp_headers", "kafka_password"])
        .map(|field| PREFIX.to_owned() + &field.to_ascii_uppercase());
    known.min_by_key(wrong).filter(|known| known != name && wrong(known) <= (letters / 3).min(2))
}

/// The settings of a variable; `None` if it is not one of ours.
fn variable(name: &str, value: &OsStr) -> Result<Option<Layer>, String> {
    let is_it = |field: &&str| name.strip_prefix(PREFIX) == Some(&field.to_ascii_uppercase());
    let Some(field) = fields().find(is_it) else {
        return mistyped(name).map_or(Ok(None), |known| Err(format!("unknown: did you mean {known}?")));
    };
    let value = value.to_str().ok_or("not valid UTF-8")?;
    // Kubernetes sets `TCPTRACE_PORT=tcp://…` in each pod of a namespace that has a service named `tcptrace`.
    if field == "port" && value.starts_with("tcp://") {
        return Ok(None);
    }
    let place = Place::Variable(name.to_owned());
    if field == "output" {
        let outputs = value.lines().filter(|line| !line.trim().is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        return Ok(Some(Layer { keys: Keys::default(), outputs, place }));
    }
    let pair = MapDeserializer::<_, serde::de::value::Error>::new([(field.replace('_', "-"), value)].into_iter());
    let keys = Keys::deserialize(pair).map_err(|error| error.to_string())?;
    Ok(Some(Layer { keys, outputs: Vec::new(), place }))
}

/// The settings of a config file.
///
/// # Errors
/// If it cannot be read or is wrong. The message begins with line and key; the caller puts the path before it.
fn file(path: &Path) -> Result<Layer, String> {
    let text = read(path).map_err(|error| format!(": cannot read it: {error}"))?;
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let syntax = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        format!(", line {}: {}", line(at), error.message().replace('\n', ": "))
    };
    let mut table = DeTable::parse(&text).map_err(syntax)?;
    let mut keys: Vec<_> =
        table.get_ref().keys().map(|key| (line(key.span().start), key.get_ref().to_string())).collect();
    keys.sort();
    // A value stands after its key and before the next one.
    let wrong = |at: usize, reason: &str| {
        let line = line(at);
        let key = keys.iter().rev().find(|(of_key, _)| *of_key <= line).map_or("", |(_, key)| key);
        format!(", line {line}: {}", unknown_key(reason).unwrap_or_else(|| format!("{key}: {reason}")))
    };
    let outputs = table.get_mut().remove("output").map(outputs).transpose();
    let outputs = outputs.map_err(|(at, reason)| wrong(at, &reason))?.unwrap_or_default();
    let read = Keys::deserialize(Deserializer::from(table));
    let read = read.map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
    Ok(Layer { keys: read, outputs, place: Place::File(path.to_owned(), keys) })
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let len = io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, MAX_CONFIG + 1), &mut text)?;
    if len as u64 > MAX_CONFIG {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// Our own message for an unknown key, made from serde's.
fn unknown_key(message: &str) -> Option<String> {
    let (name, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<_> = fields().map(|field| field.replace('_', "-")).collect();
    Some(format!("unknown key `{name}`{}", nearest(name, known.iter().map(String::as_str))))
}

/// The tables `[[output]]`.
fn outputs(value: Spanned<DeValue<'_>>) -> Result<Vec<OutputSpec>, (usize, String)> {
    let at = value.span().start;
    let DeValue::Array(tables) = value.into_inner() else {
        return Err((at, "write a table [[output]] for each output".into()));
    };
    tables.into_iter().map(output).collect()
}

fn output(table: Spanned<DeValue<'_>>) -> Result<OutputSpec, (usize, String)> {
    let at = table.span().start;
    let DeValue::Table(table) = table.into_inner() else {
        return Err((at, "write a table [[output]] for each output".into()));
    };
    let mut keys = Vec::new();
    for (key, value) in table {
        let of_key = key.span().start;
        let words = value::words(ValueDeserializer::from(value));
        let words = words.map_err(|error| (of_key, format!("{}: {}", key.get_ref(), error.message())))?;
        keys.push((of_key, key.into_inner().into_owned(), words));
    }
    let to = keys.iter().position(|(_, key, _)| key == "to");
    let to = to.ok_or_else(|| (at, "the key `to` is missing, e.g. to = \"journald\"".to_owned()))?;
    let (at, _, to) = keys.swap_remove(to);
    let mut spec = match to.as_slice() {
        [to] => OutputSpec::new(to).map_err(|reason| (at, format!("to: {reason}")))?,
        _ => return Err((at, "to: takes one value; write another [[output]] for another output".into())),
    };
    for (at, key, words) in keys {
        spec.set(&key, &words).map_err(|reason| (at, reason))?;
    }
    Ok(spec)
}
