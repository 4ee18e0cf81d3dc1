//! The settings of a run in layers: flags, over variables (`TCPTRACE_*`), over the config file (TOML), over defaults. A
//! variable and a key of the file have the long name of a flag, and mean the same.

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

/// More than any config file has, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// What the names of variables begin with.
const PREFIX: &str = "TCPTRACE_";

/// What was typed, with what the variables and the config file add to it.
///
/// # Errors
/// What these have wrong. What was typed wrong ends the process, as clap does it.
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

/// Sets what was not typed.
fn apply(layers: Vec<Layer>, args: &mut TraceArgs, is_typed: impl Fn(&str) -> bool) {
    for id in Keys::ids().filter(|id| is_typed(id)) {
        args.given.add(id, || long(id));
    }
    for Layer { keys, outputs, place } in layers {
        if !outputs.is_empty() && args.given.add("output", || place.name("output")) {
            args.output = outputs;
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

/// What one variable or the file says.
struct Layer {
    keys: Keys,
    outputs: Vec<OutputSpec>,
    place: Place,
}

/// Where a layer comes from.
enum Place {
    Variable(String),
    /// A file, and the lines of its keys.
    File(PathBuf, Vec<(usize, String)>),
}

impl Place {
    /// What a message calls a flag that this layer gives.
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

/// The layers below what was typed, the uppermost first.
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

/// The fields of all keys of a file.
fn fields() -> impl Iterator<Item = &'static str> {
    Keys::NAMES.iter().copied().chain(["output"])
}

/// The variable that one of this name, which there is not, was to be: with so few wrong letters it is no other program's.
fn mistyped(name: &str) -> Option<String> {
    let letters = name.len() - PREFIX.len();
    let wrong = |known: &String| strsim::osa_distance(&name.to_ascii_uppercase(), known);
    let known = fields()
        .chain(["config", "otlp_headers", "kafka_password"])
        .map(|field| PREFIX.to_owned() + &field.to_ascii_uppercase());
    known.min_by_key(wrong).filter(|known| known != name && wrong(known) <= (letters / 3).min(2))
}

/// What a variable says; `None` where it is none of ours.
fn variable(name: &str, value: &OsStr) -> Result<Option<Layer>, String> {
    let is_it = |field: &&str| name.strip_prefix(PREFIX) == Some(&field.to_ascii_uppercase());
    let Some(field) = fields().find(is_it) else {
        return mistyped(name).map_or(Ok(None), |known| Err(format!("is unknown: did you mean {known}?")));
    };
    let value = value.to_str().ok_or("is not valid UTF-8")?;
    // Kubernetes sets this one in each pod beside a service named `tcptrace`.
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

/// What a config file says.
///
/// # Errors
/// That begin with the line and the key, behind the file's name.
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
    // A value stands behind its key, and before the next one.
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
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(text)
}

/// Serde's message for a key that there is not, in our words.
fn unknown_key(message: &str) -> Option<String> {
    let (name, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<_> = fields().map(|field| field.replace('_', "-")).collect();
    Some(format!("there is no key `{name}`{}", nearest(name, known.iter().map(String::as_str))))
}

/// The tables `[[output]]`.
fn outputs(value: Spanned<DeValue<'_>>) -> Result<Vec<OutputSpec>, (usize, String)> {
    let at = value.span().start;
    let DeValue::Array(tables) = value.into_inner() else {
        return Err((at, "is a table for each output: [[output]]".into()));
    };
    tables.into_iter().map(output).collect()
}

fn output(table: Spanned<DeValue<'_>>) -> Result<OutputSpec, (usize, String)> {
    let at = table.span().start;
    let DeValue::Table(table) = table.into_inner() else {
        return Err((at, "is a table for each output: [[output]]".into()));
    };
    let mut keys = Vec::new();
    for (key, value) in table {
        let of_key = key.span().start;
        let words = value::words(ValueDeserializer::from(value));
        let words = words.map_err(|error| (of_key, format!("{}: {}", key.get_ref(), error.message())))?;
        keys.push((of_key, key.into_inner().into_owned(), words));
    }
    let to = keys.iter().position(|(_, key, _)| key == "to").ok_or((at, "lacks `to`: where it goes".to_owned()))?;
    let (at, _, to) = keys.swap_remove(to);
    let mut spec = match to.as_slice() {
        [to] => OutputSpec::new(to).map_err(|reason| (at, format!("to: {reason}")))?,
        _ => return Err((at, "to: takes one value: [[output]] once more is another output".into())),
    };
    for (at, key, words) in keys {
        spec.set(&key, &words).map_err(|reason| (at, reason))?;
    }
    Ok(spec)
}
