//! What a terminal is sent: colour where it and the environment want it, and no foreign text as it is.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    process,
};

use anstream::{AutoStream, ColorChoice};
use clap::{CommandFactory as _, Error};

use super::args::{Args, Color};
use crate::printable::printable;

/// Is output in colour? `auto` is for a terminal, but heeds `NO_COLOR` (no-color.org), `CLICOLOR` and `CLICOLOR_FORCE`
/// (bixense.com/clicolors) and `TERM=dumb`.
#[must_use]
pub fn is_colored(choice: Color, to_stdout: bool) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => to_stdout && AutoStream::choice(&io::stdout()) != ColorChoice::Never,
    }
}

/// Is stdout a terminal that can be cleared?
#[must_use]
pub fn can_clear() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|name| name != "dumb")
}

/// Says what was typed wrong, and ends the process. What the message quotes is not printed as it is.
pub fn exit(error: Error) -> ! {
    let words = words(&error);
    // The same without colour: nothing in it is foreign, or clap knows how to show it (help).
    if words == error.render().to_string() {
        error.exit()
    }
    let _ = io::stderr().write_all(words.as_bytes()); // whether somebody reads it or not
    process::exit(error.exit_code())
}

/// A message without colours, and with no character that may not be printed.
fn words(error: &Error) -> String {
    let command = Args::command();
    let styles = command.get_styles();
    let mut codes: Vec<_> = [
        styles.get_header(),
        styles.get_error(),
        styles.get_usage(),
        styles.get_literal(),
        styles.get_placeholder(),
        styles.get_valid(),
        styles.get_invalid(),
        styles.get_context(),
        styles.get_context_value(),
    ]
    .into_iter()
    .flat_map(|style| [style.render().to_string(), style.render_reset().to_string()])
    .filter(|code| !code.is_empty())
    .collect();
    // A short one may be the beginning of another.
    codes.sort_by_key(|code| std::cmp::Reverse(code.len()));
    let colored = error.render().ansi().to_string();
    let plain = codes.iter().fold(colored, |text, code| text.replace(code.as_str(), ""));
    plain.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(flag: &str) -> String {
        words(&Args::command().try_get_matches_from(["tcptrace", flag]).unwrap_err())
    }

    #[test]
    fn messages_quote_flags_without_what_steers_a_terminal() {
        for (flag, shown) in [
            ("--port=\u{1b}]0;title\u{7}x", "'?]0;title?x'"),
            ("--port=\u{9b}2J\u{202e}", "'?2J?'"),
            ("--no-such\u{200b}", "'--no-such?'"),
            ("--port=a\u{1b}[8mb", "'a?[8mb'"),
        ] {
            let text = told(flag);
            assert!(text.starts_with("error: ") && text.contains(shown), "{text:?}");
            assert!(text.lines().all(|line| printable(line) == line), "{text:?}");
        }
    }

    #[test]
    fn messages_and_help_are_as_clap_has_them_else() {
        for flag in ["--port=x", "--no-such", "--help", "--version"] {
            let error = Args::command().try_get_matches_from(["tcptrace", flag]).unwrap_err();
            assert_eq!(words(&error), error.render().to_string(), "{flag}");
        }
    }
}
