//! The config file (TOML): each key is the long name of a flag of tracing, and means the same. Flags go before it.

use std::{ffi::OsString, fs, io, path::Path};

use clap::{
    Arg, ArgMatches, Command, CommandFactory as _, Error, FromArgMatches as _, error::ErrorKind, parser::ValueSource,
};
use toml::{Table, Value};

use super::{
    args::Args,
    nearest,
    outputs::{OutputSpec, escaped},
    terminal::exit,
};

/// More than any config file has, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// Flags that make no sense in a file.
const NOT_IN_A_FILE: [&str; 3] = ["config", "help", "version"];
/// Flags that add to what the file says; all others take its place.
const ADDING: [&str; 4] = ["stuck-after", "threshold", "ignore", "expect-listener"];
/// Keys that `tcptrace stuck` takes from a file that was made for tracing.
const OF_STUCK: [&str; 4] = ADDING;

/// What was typed, with what the config file adds to it.
///
/// # Errors
/// What the file has wrong. What was typed wrong ends the process, as clap does it.
pub fn parse(words: Vec<OsString>) -> Result<Args, Error> {
    let typed = Args::command().try_get_matches_from(&words).unwrap_or_else(|error| exit(error));
    let args = Args::from_arg_matches(&typed).unwrap_or_else(|error| exit(error));
    let (matches, within) = match typed.subcommand() {
        None => (&typed, 1),
        Some((_, matches)) => (matches, 2), // a subcommand is the first word
    };
    let Some(path) = args.config().map(Path::to_owned) else { return Ok(args) };
    let only: Option<&[&str]> = (typed.subcommand_name() == Some("stuck")).then_some(&OF_STUCK);
    let wrong = |reason: String| {
        let message = format!("config file {}: {reason}", path.display());
        Args::command().error(ErrorKind::ValueValidation, message)
    };
    let text = read(&path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    let mut all = words;
    let from_file = arguments(&text, only, matches).map_err(wrong)?;
    all.splice(within..within, from_file.into_iter().map(OsString::from));
    Args::command()
        .try_get_matches_from(all)
        .and_then(|matches| Args::from_arg_matches(&matches))
        .map_err(|error| wrong(in_short(&error)))
}

/// The message alone, without how the program is used.
fn in_short(error: &Error) -> String {
    let text = error.render().to_string();
    let end = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more")).unwrap_or(text.len());
    text[..end].trim_start_matches("error: ").trim_end().to_owned()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let len = io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, MAX_CONFIG + 1), &mut text)?;
    if len as u64 > MAX_CONFIG {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(text)
}

/// The file's keys as flags, but those that were typed.
fn arguments(text: &str, only: Option<&[&str]>, typed: &ArgMatches) -> Result<Vec<String>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let command = Args::command();
    // It has all flags of tracing, and its own, which pass others by.
    let service = command.find_subcommand("daemon").unwrap_or(&command);
    let mut words = Vec::new();
    for (key, value) in &table {
        let flag = flag(service, key)?;
        let id = flag.get_id().as_str();
        if let Value::Boolean(value) = value
            && takes_value(flag)
        {
            return Err(format!("{key}: takes a value, not {value}"));
        }
        let is_known = typed.try_contains_id(id).is_ok();
        let is_typed =
            !ADDING.contains(&key.as_str()) && is_known && typed.value_source(id) == Some(ValueSource::CommandLine);
        if is_known && !is_typed && only.is_none_or(|only| only.contains(&key.as_str())) {
            add(&mut words, key, value).map_err(|reason| format!("{key}: {reason}"))?;
        }
    }
    Ok(words)
}

/// The flag with this name.
fn flag<'a>(command: &'a Command, key: &str) -> Result<&'a Arg, String> {
    let name = |arg: &&'a Arg| arg.get_long().filter(|name| !NOT_IN_A_FILE.contains(name));
    let arg = command.get_arguments().find(|arg| name(arg) == Some(key));
    let known = || command.get_arguments().filter_map(|arg| name(&arg));
    arg.ok_or_else(|| format!("there is no key `{key}`{}", nearest(key, known())))
}

/// Does it mean nothing without one?
fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values() && flag.get_num_args().is_none_or(|count| count.min_values() > 0)
}

/// Adds what a key says as words of a command line.
fn add(words: &mut Vec<String>, key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Boolean(true) => words.push(format!("--{key}")),
        Value::Boolean(false) => {}
        Value::Array(values) if values.is_empty() => return Err("no value: leave it out".into()),
        Value::Array(values) if values.iter().any(Value::is_array) => return Err("takes no array in an array".into()),
        Value::Array(values) => values.iter().try_for_each(|value| add(words, key, value))?,
        // An output.
        Value::Table(table) if key == "output" => words.push(format!("--{key}={}", output(table)?)),
        // Names with values.
        Value::Table(table) => {
            for (name, value) in table {
                words.push(format!("--{key}={name}={}", plain(value).map_err(|reason| format!("{name}: {reason}"))?));
            }
        }
        _ => words.push(format!("--{key}={}", plain(value)?)),
    }
    Ok(())
}

/// A table `[[output]]` as the flag has it.
fn output(table: &Table) -> Result<String, String> {
    let mut to = None;
    let mut pairs = Vec::new();
    for (key, value) in table {
        let values = match value {
            Value::Array(values) if values.is_empty() => Err("no value: leave it out".into()),
            Value::Array(values) => values.iter().map(plain).collect::<Result<Vec<_>, _>>(),
            _ => plain(value).map(|value| vec![value]),
        };
        let values = values.map_err(|reason| format!("{key}: {reason}"))?;
        match key.as_str() {
            "to" => to = Some(plain(value).map_err(|reason| format!("to: {reason}"))?),
            _ => pairs.push((key.clone(), values)),
        }
    }
    let to = to.ok_or("lacks `to`: where it goes")?;
    OutputSpec::new(&to, &pairs)?; // its errors are clearer than those of the flag that it becomes
    let joined = |values: &[String]| values.iter().map(|value| escaped(value)).collect::<Vec<_>>().join("+");
    let pairs: String = pairs.iter().map(|(key, values)| format!(",{key}={}", joined(values))).collect();
    Ok(escaped(&to) + &pairs)
}

fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        other => Err(format!("takes no {}", other.type_str())),
    }
}
