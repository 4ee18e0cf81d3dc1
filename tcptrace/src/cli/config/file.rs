//! The config file: TOML, read into typed values. Messages name line, column and key.

use std::{fs, io, path::Path};

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, ValueDeserializer},
};

use super::{
    keys::Keys,
    layer::{Key, Layer, Place, fields},
    value,
};
use crate::cli::{
    nearest,
    outputs::{OutputSpec, escaped},
};

/// Largest config file that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// The settings of a config file.
///
/// # Errors
/// If it cannot be read or is wrong. The message begins with line, column and key; the caller puts the path before it.
pub(super) fn read(path: &Path) -> Result<Layer, String> {
    let text = text(path).map_err(|error| format!(": cannot read it: {error}"))?;
    parse(path, &text)
}

/// The settings in the text of a config file.
///
/// # Errors
/// See [`read`].
pub(super) fn parse(path: &Path, text: &str) -> Result<Layer, String> {
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let place = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {}, column {column}", line(at))
    };
    let syntax = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        format!(", {}: {}", place(at), error.message().replace('\n', ": "))
    };
    let mut table = DeTable::parse(text).map_err(syntax)?;
    let mut keys: Vec<_> = table.get_ref().iter().flat_map(|(key, value)| as_text(key, value, line)).collect();
    keys.sort_by_key(|key| key.line);
    // A value stands after its key and before the next one.
    let wrong = |at: usize, reason: &str| {
        let key = keys.iter().rev().find(|key| key.line <= line(at)).map_or("", |key| &key.name);
        let reason = unknown_key(reason).unwrap_or_else(|| format!("{key}: {reason}"));
        format!(", {}: {reason}", place(at))
    };
    let outputs = table.get_mut().remove("output").map(outputs).transpose();
    let outputs = outputs.map_err(|(at, reason)| wrong(at, &reason))?.unwrap_or_default();
    let read = Keys::deserialize(Deserializer::from(table));
    let read = read.map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
    Ok(Layer { keys: read, outputs, place: Place::File(path.to_owned(), keys) })
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let len = io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, MAX_CONFIG + 1), &mut text)?;
    if len as u64 > MAX_CONFIG {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// A key with its value as text; a table `[[output]]` as on the command line.
fn as_text(key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>, line: impl Fn(usize) -> usize) -> Vec<Key> {
    let of = |at: usize, words| Key { line: line(at), name: key.get_ref().as_ref().to_owned(), words };
    match value.get_ref() {
        DeValue::Array(tables) if key.get_ref().as_ref() == "output" && !tables.is_empty() => tables
            .iter()
            .map(|table| of(table.span().start, vec![table.get_ref().as_table().map(output_words).unwrap_or_default()]))
            .collect(),
        value => vec![of(key.span().start, words(value))],
    }
}

fn output_words(table: &DeTable<'_>) -> String {
    let to = table.get("to").map(|to| words(to.get_ref()).join(",")).unwrap_or_default();
    let pairs = table.iter().filter(|(key, _)| key.get_ref() != "to").map(|(key, value)| {
        let values: Vec<_> = words(value.get_ref()).iter().map(|word| escaped(word)).collect();
        format!(",{}={}", key.get_ref(), values.join("+"))
    });
    escaped(&to) + &pairs.collect::<String>()
}

/// The values of a list, the pairs `NAME=VALUE` of a table, or a single value.
fn words(value: &DeValue<'_>) -> Vec<String> {
    match value {
        DeValue::String(text) => vec![text.to_string()],
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            vec![decimal.map_or_else(|_| number.to_string(), |number| number.to_string())]
        }
        DeValue::Float(number) => vec![number.to_string()],
        DeValue::Boolean(flag) => vec![flag.to_string()],
        DeValue::Datetime(time) => vec![time.to_string()],
        DeValue::Array(values) => values.iter().flat_map(|value| words(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(key, value)| (key.get_ref(), words(value.get_ref()).join(",")));
            pairs.map(|(key, value)| format!("{key}={value}")).collect()
        }
    }
}

/// Our own message for an unknown key, made from serde's.
fn unknown_key(message: &str) -> Option<String> {
    let (name, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    if name == "kill" {
        let way_out = "run `tcptrace kill`, or let an output `exec:` do that with the cookies of a finding";
        return Some(format!("unknown key `kill`: the service never ends connections; {way_out}"));
    }
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
