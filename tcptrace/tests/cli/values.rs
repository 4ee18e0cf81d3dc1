//! What is said of a value that does not fit, for every flag of every command and every key: in our own words.

use clap::{Command, CommandFactory as _};
use tcptrace::cli::args::Args;

use super::{ConfigFile, run};

/// Values that hardly any flag takes.
const ODD: [&str; 9] = ["", "0", "-1", "1.5x", "99999999999999999999999", "a=b=c", "[::1", "!", "0x1"];

/// Texts of Rust's parsers and of clap's ranges, which say nothing to a user.
const RAW: [&str; 11] = [
    " is not in ",
    "..=",
    "18446744073709551615",
    "invalid digit",
    "too large to fit",
    "cannot parse",
    "float literal",
    "invalid IP address syntax",
    "invalid socket address",
    "provided string was not",
    "ParseIntError",
];

fn assert_plain(what: &str, message: &str) {
    for raw in RAW {
        assert!(!message.contains(raw), "{what}: {message}");
    }
}

/// All commands with the words that lead to them.
fn commands() -> Vec<(Vec<String>, Command)> {
    let mut all = vec![(vec!["tcptrace".to_owned()], Args::command())];
    let mut at = 0;
    while let Some((words, command)) = all.get(at).cloned() {
        all.extend(
            command
                .get_subcommands()
                .map(|below| ([&words[..], &[below.get_name().to_owned()]].concat(), below.clone())),
        );
        at += 1;
    }
    all
}

#[test]
fn flags_say_what_is_wrong_in_plain_words() {
    let mut refused = 0;
    for (words, command) in commands() {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            for value in ODD {
                let word = argument.get_long().map_or_else(|| value.to_owned(), |long| format!("--{long}={value}"));
                let line: Vec<_> = words.iter().cloned().chain([word]).collect();
                let Err(error) = Args::command().try_get_matches_from(&line) else { continue };
                let message = error.to_string();
                assert_plain(&line.join(" "), &message);
                // The reason stands behind the value, or the values that are possible do.
                let is_explained =
                    message.contains("': ") || message.contains("values:") || message.contains("required");
                let is_unexpected = argument.get_long().is_none() && message.contains("unexpected argument");
                assert!(is_explained || is_unexpected, "{line:?}: {message}");
                refused += 1;
            }
        }
    }
    assert!(refused > 300, "only {refused}");
}

#[test]
fn keys_say_what_is_wrong_in_plain_words() {
    let command = Args::command();
    let mut refused = 0;
    for argument in command.find_subcommand("daemon").unwrap().get_arguments() {
        let Some(key) = argument.get_long() else { continue };
        if ["config", "help", "version", "output"].contains(&key) {
            continue;
        }
        for value in ["\"!\"", "-1", "99999999999999999999999", "1979-05-27", "{ a = 1 }", "[[1]]"] {
            let file = ConfigFile::new("odd", format!("\n{key} = {value}\n").as_bytes());
            let told = run(&["config", "check", file.path()]);
            if told.code == Some(0) {
                continue;
            }
            assert_eq!(told.code, Some(2), "{key} = {value}: {}", told.stderr);
            assert_plain(&format!("{key} = {value}"), &told.stderr);
            let place = format!("config file {}, line 2, column ", file.path());
            let is_placed = told.stderr.contains(&place) && told.stderr.contains(key);
            // What is looked up when the file has been read is named by its line.
            let is_named = told.stderr.contains(&format!("{key} ({}, line 2)", file.path()));
            // Names and texts are checked when all filters are known.
            let late = [format!("--{key}: the text is empty"), "there is no user `".to_owned()];
            let is_text = late.iter().any(|words| told.stderr.contains(words));
            assert!(is_placed || is_named || is_text, "{key} = {value}: {}", told.stderr);
            refused += 1;
        }
    }
    assert!(refused > 150, "only {refused}");
}
