//! What is safe and wanted on a terminal: whether to use colour, and usage errors whose quotes of the command line cannot
//! steer the terminal.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write as _},
    process,
};

use clap::{CommandFactory as _, Error};

use super::args::Args;
use crate::{cli::args::values::Color, model::printable::printable, sys::terminal::screen};

/// Whether output to stdout (if `to_stdout`) or to a file is coloured. `auto` means on a terminal, but obeys `NO_COLOR`
/// (no-color.org), `CLICOLOR` and `CLICOLOR_FORCE` (bixense.com/clicolors) and `TERM=dumb`.
#[must_use]
pub fn is_colored(choice: Color, to_stdout: bool) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => to_stdout && allows_color(&io::stdout()),
    }
}

/// Whether the environment allows colour on this stream.
fn allows_color(stream: &impl IsTerminal) -> bool {
    let is_on = |name| set(name).map(|value| value != "0");
    set("NO_COLOR").is_none()
        && (is_on("CLICOLOR_FORCE") == Some(true)
            || is_on("CLICOLOR") != Some(false) && stream.is_terminal() && knows_codes())
}

fn knows_codes() -> bool {
    set("TERM").is_some_and(|name| name != "dumb")
}

/// Whether stdout is a terminal that understands escape codes for colour and for clearing the screen.
#[must_use]
pub fn understands_codes() -> bool {
    io::stdout().is_terminal() && knows_codes()
}

/// The width of stdout in columns, if it is a terminal that has one.
#[must_use]
pub fn columns() -> Option<usize> {
    screen().map(|screen| screen.columns)
}

/// The variable's value if it is set and not empty.
fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Prints a usage error (or help) and ends the process. Control characters that the message quotes are replaced.
pub fn exit(error: Error) -> ! {
    if !error.use_stderr() {
        // Help and version, which quote nothing. A reader that stops early (`| head`) is no error.
        let failed = error.print().err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
        let Some(reason) = failed else { process::exit(0) };
        let _ = io::stderr().write_all(format!("tcptrace: cannot write to stdout: {reason}\n").as_bytes());
        process::exit(1);
    }
    print(&error);
    process::exit(error.exit_code())
}

/// Prints a usage error; returns it without colour.
pub fn print(error: &Error) -> String {
    let plain = words(error, env::args_os().skip(1));
    let mut words = plain.clone();
    // If nothing was replaced, clap's coloured rendering is safe too.
    if words == error.render().to_string() && allows_color(&io::stderr()) {
        words = error.render().ansi().to_string();
    }
    // One write, so that output of other programs does not tear it; a closed stderr is no reason to fail.
    let _ = io::stderr().write_all(words.as_bytes());
    plain
}

/// The message without colour, and with every unprintable character of the command line replaced.
fn words(error: &Error, typed: impl Iterator<Item = OsString>) -> String {
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
    // The longest first, because a short code may be the beginning of a longer one.
    codes.sort_by_key(|code| std::cmp::Reverse(code.len()));
    let colored = error.render().ansi().to_string();
    let mut plain = codes.iter().fold(colored, |text, code| text.replace(code.as_str(), ""));
    // The message itself has line breaks; those that come from the command line are replaced.
    for word in typed {
        let word = word.to_string_lossy();
        let begun = word.split(['=', ',']).filter_map(|part| part.trim_end_matches('\n').split_once('\n'));
        for (_, lines) in begun {
            plain = plain.replace(&format!("\n{lines}"), &printable(&format!("\n{lines}")));
        }
    }
    plain.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(flag: &str) -> String {
        let error = Args::command().try_get_matches_from(["tcptrace", flag]).unwrap_err();
        words(&error, std::iter::once(flag.into()))
    }

    #[test]
    fn messages_quote_flags_without_what_steers_a_terminal() {
        for (flag, shown) in [
            ("--port=\u{1b}]0;title\u{7}x", "'?]0;title?x'"),
            ("--port=\u{9b}2J\u{202e}", "'?2J?'"),
            ("--no-such\u{200b}", "'--no-such?'"),
            ("--port=a\u{1b}[8mb", "'a?[8mb'"),
            ("--port=a\n\nerror: b\n", "'a??error: b\n'"),
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
            assert_eq!(words(&error, std::iter::empty()), error.render().to_string(), "{flag}");
        }
    }
}
