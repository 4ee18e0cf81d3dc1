//! `tcptrace explain`: prints sections of the documentation, which are part of the program.

mod markdown;
mod pages;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write as _, io};

use clap::{CommandFactory as _, Error, error::ErrorKind};
use serde_json::json;

use self::pages::{Kind, Topic, topics};
use crate::{
    cli::{
        args::{Args, ExplainArgs},
        nearest,
        terminal::{columns, is_colored},
    },
    model::{errno, printable::printable, state::State},
};

/// Longest line of text, in columns: longer ones are hard to read.
const WIDEST: usize = 100;

/// What the command prints.
///
/// # Errors
/// A usage error if nothing has that name.
pub(crate) fn explain(args: &ExplainArgs) -> Result<String, Error> {
    let topics = topics();
    if args.topic.is_empty() {
        return Ok(if args.json { list_json(&topics) } else { list(&topics) });
    }
    let name = args.topic.join(" ");
    let found = find(&topics, &name).ok_or_else(|| unknown(&topics, &name))?;
    if args.json {
        return Ok(found.iter().map(|topic| to_json(topic, true)).collect());
    }
    let width = columns().unwrap_or(WIDEST).min(WIDEST);
    Ok(whole(&found, width, is_colored(args.color, true)))
}

/// The text about a name without colour, in lines of at most `width` columns.
pub(crate) fn text(name: &str, width: usize) -> Option<String> {
    Some(whole(&find(&topics(), name)?, width.min(WIDEST), false))
}

fn whole(found: &[Topic], width: usize, is_colored: bool) -> String {
    let texts = found.iter().map(|topic| {
        let of = if topic.of.is_empty() { String::new() } else { format!(" of {}", topic.of.join(", ")) };
        let title = format!("**`{}`** ({}{of}; {})\n\n{}", topic.name, topic.kind.name(), topic.page, topic.text);
        markdown::render(&title, width, is_colored)
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// All topics with this name. States may be spelt as anywhere else, and errnos given as numbers.
fn find(topics: &[Topic], name: &str) -> Option<Vec<Topic>> {
    let state = name.parse::<State>().ok().map(State::name);
    let errno = errno::named(name);
    let wanted = plain(state.or(errno.map(|(known, _)| known)).unwrap_or(name));
    let mut found: Vec<_> = topics.iter().filter(|topic| plain(&topic.name) == wanted).cloned().collect();
    let has = |kind: fn(Kind) -> bool| found.iter().any(|topic| kind(topic.kind));
    // A finding has its thresholds in its text. Fields that count a state or a cause say nothing more.
    let (is_finding, is_main) = (has(|kind| kind == Kind::Finding), has(|kind| kind < Kind::Threshold));
    found.retain(|topic| match topic.kind {
        Kind::Threshold => !is_finding,
        Kind::Field => !is_main,
        _ => true,
    });
    if found.is_empty() {
        let (name, number) = errno?;
        found.push(undocumented(name, number));
    }
    Some(found)
}

/// An errno that TCP has no use for.
fn undocumented(name: &str, number: i32) -> Topic {
    let text = format!(
        "`{name}` is errno {number}: {}. TCP's own code returns it from neither connect(), read() nor write(): look at \
         the file, the device or the library that the call was for.",
        io::Error::from_raw_os_error(number)
    );
    Topic { name: name.to_owned(), kind: Kind::Errno, of: Vec::new(), page: "errno(3)", text }
}

/// A name as it is compared: letters and digits, without the article of a heading.
fn plain(name: &str) -> String {
    let name = name.strip_prefix("The ").or(name.strip_prefix("the ")).unwrap_or(name);
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn unknown(topics: &[Topic], name: &str) -> Error {
    let lower = name.to_lowercase();
    let names: BTreeMap<_, _> = topics.iter().map(|topic| (topic.name.to_lowercase(), topic.name.as_str())).collect();
    // The names of states and errnos are in capitals, and a typo may be in small letters.
    let hint = nearest(&lower, names.keys().map(String::as_str));
    let hint = names.iter().fold(hint, |hint, (lower, name)| hint.replace(&format!("`{lower}`"), &format!("`{name}`")));
    let message = format!("nothing is known of `{}`{hint}; `tcptrace explain` lists what is", printable(name));
    Args::command().error(ErrorKind::InvalidValue, message)
}

fn to_json(topic: &Topic, is_whole: bool) -> String {
    let mut object = json!({ "topic": topic.name, "kind": topic.kind.name(), "of": topic.of, "page": topic.page });
    if is_whole {
        object["text"] = topic.text.as_str().into();
    } else {
        object["summary"] = topic.summary().into();
    }
    format!("{object}\n")
}

fn list_json(topics: &[Topic]) -> String {
    topics.iter().map(|topic| to_json(topic, false)).collect()
}

/// The topics that people ask for, each with its summary, and the names of all others.
fn list(topics: &[Topic]) -> String {
    let mut to = String::new();
    let of = |kind: Kind| topics.iter().filter(move |topic| topic.kind == kind);
    let width = columns().unwrap_or(WIDEST).min(WIDEST);
    for (kind, title) in [(Kind::Finding, "Findings"), (Kind::State, "States"), (Kind::Errno, "Errors (errno)")] {
        let _ = writeln!(to, "{title}:");
        let names = of(kind).map(|topic| topic.name.len()).max().unwrap_or(0);
        for topic in of(kind) {
            let summary = shortened(&topic.summary(), width.saturating_sub(names + 4));
            let _ = writeln!(to, "  {:names$}  {summary}", topic.name);
        }
        to.push('\n');
    }
    for (kind, title) in [
        (Kind::Ending, "Endings"),
        (Kind::Cause, "Causes of findings"),
        (Kind::Threshold, "Thresholds"),
        (Kind::Time, "Sources of times"),
        (Kind::Record, "Records of JSON"),
        (Kind::Metric, "Metrics"),
    ] {
        let names = of(kind).map(|topic| topic.name.as_str()).collect::<Vec<_>>().join(", ");
        to += &markdown::render(&format!("{title}: {names}"), width, false);
        to.push('\n');
    }
    let hint = "Also each field of JSON. `tcptrace explain NAME` prints what it means, for example `tcptrace explain \
                close-wait-leak`, `tcptrace explain CLOSE_WAIT` or `tcptrace explain 110`.";
    to + &markdown::render(hint, width, false)
}

/// As many words as fit into this many columns.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    let whole = cut.rsplit_once(' ').map_or("", |(words, _)| words);
    format!("{}…", whole.trim_end_matches([',', ':', ';', '(']))
}
