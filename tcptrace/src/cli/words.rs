//! The words of the command line before clap reads them.
//!
//! Flags may stand before or after the command, an optional value is taken only where it can be nothing else, and the
//! habits of `ss`, bcc's tools and `tcpdump` are taken where they mean one thing here. Where they do not, the message
//! names tcptrace's own spelling.

use std::{
    ffi::{OsStr, OsString},
    iter::Peekable,
};

use clap::{Arg, Command, Error, error::ErrorKind};

use super::habits::{self, Habit};

/// Flags of `ss` that `tcptrace sockets` accepts together with `t`, as in `-tlnp`.
const SS_LETTERS: &str = "tanlpeo46";

/// Puts the command first and its flags after it, and rewrites what only looks different: `-p N` and `--pid N` to
/// `--pid=N`, the bundles of `ss` to flags.
///
/// # Errors
/// For a flag of another tool, with tcptrace's spelling of it.
pub fn arrange(words: Vec<OsString>, root: &Command) -> Result<Vec<OsString>, Error> {
    // A flag before the command may belong to any command, so its name alone decides whether it takes the next word.
    let any = Line { commands: std::iter::once(root).chain(root.get_subcommands()).collect(), words: Vec::new() };
    let place = any.command_place(root, &words);
    let command = place.and_then(|place| root.find_subcommand(words.get(place)?));
    let mut line = Line { commands: vec![command.unwrap_or(root)], words: Vec::new() };
    let mut rest = words.into_iter().enumerate().filter(|(at, _)| Some(*at) != place).map(|(_, word)| word);
    let program = rest.next();
    let mut rest = rest.peekable();
    let mut has_word = command.is_some();
    while let Some(word) = rest.next() {
        // What is not UTF-8 is a value, or wrong, and clap says so.
        let text = word.to_str().map(str::to_owned).unwrap_or_default();
        if text == "--" {
            line.words.push(word);
            line.words.extend(rest);
            break;
        } else if let Some(long) = text.strip_prefix("--") {
            let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            match line.long(name) {
                Some(arg) if !has_value && is_optional(arg) => match rest.next_if(|word| is_value_of(arg, word)) {
                    Some(value) => line.words.push(joined(&text, &value)),
                    None => line.words.push(word),
                },
                Some(arg) if !has_value && takes_value(arg) => {
                    let value = rest.next();
                    line.with_value(arg, word, value)?;
                }
                Some(_) => line.words.push(word),
                None if let Some(habit) = habits::long(name, line.command()) => match habit {
                    Habit::Way(way_out) => return Err(refused(&format!("there is no --{name} here: {way_out}"))),
                    Habit::Is(flag) => {
                        // kubectl's columns are paths in JSON.
                        let value = long.get(name.len()..).unwrap_or_default().replacen("=.", "=", 1);
                        line.words.extend(flag.map(|flag| format!("{flag}{value}").into()));
                    }
                },
                None if command.is_some_and(|command| any.long(name).is_some() && !command.has_subcommands()) => {
                    let name_of = command.map_or("", Command::get_name);
                    return Err(refused(&format!("`tcptrace {name_of}` has no flag --{name}")));
                }
                None => line.words.push(word),
            }
        } else if text.len() > 1 && text.starts_with('-') {
            line.short(&text, &mut rest)?;
        } else if text.starts_with("cookie:") && line.command() == "kill" {
            line.words.push(joined("--cookie", &word));
        } else if let Some(way_out) = habits::command(&text).filter(|_| !std::mem::replace(&mut has_word, true)) {
            return Err(refused(&format!("`{text}` is no command here: {way_out}")));
        } else {
            has_word = true;
            line.words.push(word);
        }
    }
    let command = command.map(|command| command.get_name().into());
    Ok(program.into_iter().chain(command).chain(line.words).collect())
}

/// The words so far, and the commands whose flags they may be.
struct Line<'a> {
    commands: Vec<&'a Command>,
    words: Vec<OsString>,
}

impl<'a> Line<'a> {
    /// The name of the command; empty for tracing.
    fn command(&self) -> &str {
        self.commands.first().filter(|command| !command.has_subcommands()).map_or("", |command| command.get_name())
    }

    /// A flag and its value. What is a format elsewhere is one here.
    fn with_value(&mut self, arg: &Arg, flag: OsString, value: Option<OsString>) -> Result<(), Error> {
        let output = value.as_ref().and_then(|value| value.to_str()).filter(|_| arg.get_long() == Some("output"));
        match output.and_then(|value| Some((value, habits::output(value)?))) {
            Some((_, Habit::Is(flag))) if self.long("format").is_some() => self.words.extend(flag.map(Into::into)),
            Some((value, Habit::Way(way_out))) => {
                return Err(refused(&format!("there is no output `{value}` here: {way_out}")));
            }
            _ => self.words.extend([flag].into_iter().chain(value)),
        }
        Ok(())
    }

    /// Where the command stands: the first word that is neither a flag nor a value, if it is a command.
    fn command_place(&self, root: &Command, words: &[OsString]) -> Option<usize> {
        let mut at = 1;
        loop {
            let word = words.get(at)?;
            let text = word.to_str().unwrap_or_default();
            let takes_next = if let Some(long) = text.strip_prefix("--").filter(|long| !long.is_empty()) {
                let arg = self.long(long);
                arg.is_some_and(|arg| {
                    takes_value(arg) && (!is_optional(arg) || Self::is_followed(arg, words.get(at + 1)))
                })
            } else if text.len() > 1 && text.starts_with('-') {
                let mut letters = text.chars().skip(1);
                let takes = letters.find(|letter| self.of_letter(*letter).is_some_and(takes_value)).is_some();
                takes && letters.next().is_none()
            } else {
                return root.find_subcommand(word).map(|_| at);
            };
            at += if takes_next { 2 } else { 1 };
        }
    }

    fn is_followed(arg: &Arg, word: Option<&OsString>) -> bool {
        word.is_some_and(|word| is_value_of(arg, word))
    }

    fn find(&self, is_it: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        self.commands.iter().flat_map(|command| command.get_arguments()).find(|arg| is_it(arg))
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let is_it = |arg: &Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        self.find(is_it)
    }

    fn of_letter(&self, letter: char) -> Option<&'a Arg> {
        let is_it = |arg: &Arg| {
            arg.get_short() == Some(letter) || arg.get_all_short_aliases().is_some_and(|all| all.contains(&letter))
        };
        self.find(is_it)
    }

    /// A word like `-q`, `-qp12` or `-tlnp`.
    fn short(&mut self, text: &str, words: &mut Peekable<impl Iterator<Item = OsString>>) -> Result<(), Error> {
        let letters = text.trim_start_matches('-');
        // Elsewhere `-t` alone is the time of bcc's tools.
        if is_of_ss(letters) && (letters != "t" || self.command() == "sockets") {
            return self.of_ss(text, letters);
        }
        let mut kept = String::from("-");
        for (at, letter) in letters.char_indices() {
            let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
            match self.of_letter(letter) {
                Some(arg) if is_optional(arg) => {
                    let Some(long) = arg.get_long() else { break };
                    let value = match rest.strip_prefix('=').unwrap_or(rest) {
                        "" => words.next().ok_or_else(|| without_value(letter, long))?,
                        value => value.into(),
                    };
                    if value.to_string_lossy().starts_with('-') {
                        return Err(without_value(letter, long));
                    }
                    if kept.len() > 1 {
                        self.words.push(kept.into());
                    }
                    self.words.push(joined(&format!("--{long}"), &value));
                    return Ok(());
                }
                Some(arg) if takes_value(arg) => {
                    let is_last =
                        rest.is_empty() && words.peek().is_none_or(|next| next.to_string_lossy().starts_with('-'));
                    match habits::without_value(letter, self.command()).filter(|_| is_last) {
                        Some(habit) => self.words.extend(taken(letter, habit)?),
                        None if rest.is_empty() => {
                            let value = words.next();
                            self.with_value(arg, (kept + letters.get(at..).unwrap_or_default()).into(), value)?;
                            return Ok(());
                        }
                        None => {
                            if kept.len() > 1 {
                                self.words.push(std::mem::replace(&mut kept, "-".to_owned()).into());
                            }
                            self.with_value(arg, format!("-{letter}").into(), Some(rest.into()))?;
                            return Ok(());
                        }
                    }
                }
                Some(_) => kept.push(letter),
                None if ['h', 'V'].contains(&letter) => kept.push(letter),
                None => match habits::letter(letter, self.command()) {
                    Some(habit) => self.words.extend(taken(letter, habit)?),
                    None => kept.push(letter), // clap says what is wrong with it
                },
            }
        }
        if kept.len() > 1 {
            self.words.push(kept.into());
        }
        Ok(())
    }

    /// The letters of `ss`: `-tanp` are all sockets with their processes, `-tlnp` the listeners.
    fn of_ss(&mut self, text: &str, letters: &str) -> Result<(), Error> {
        if self.command() != "sockets" {
            let message = format!(
                "{text} are letters of `ss`: `tcptrace sockets {text}` lists sockets; tracing has no such flags"
            );
            return Err(refused(&message));
        }
        let has = |letter| letters.contains(letter);
        if !has('a') {
            // Without -a, ss leaves listeners out.
            self.words.push(if has('l') { "--state=LISTEN" } else { "--state=!LISTEN" }.into());
        }
        if has('p') || has('e') {
            self.words.push("--pid".into());
        }
        for (letter, flag) in [('4', "-4"), ('6', "-6")] {
            if has(letter) {
                self.words.push(flag.into());
            }
        }
        Ok(())
    }
}

fn is_of_ss(letters: &str) -> bool {
    letters.contains('t') && letters.chars().all(|letter| SS_LETTERS.contains(letter))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// True if the flag may stand alone or have a value.
fn is_optional(arg: &Arg) -> bool {
    takes_value(arg) && arg.get_num_args().is_some_and(|range| range.min_values() == 0 && range.max_values() == 1)
}

/// Whether the word after a flag with an optional value can only be its value: a PID, or one of a fixed set.
fn is_value_of(arg: &Arg, word: &OsStr) -> bool {
    let Some(word) = word.to_str() else { return false };
    let possible = arg.get_possible_values();
    if possible.is_empty() {
        return !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || ",!".contains(c));
    }
    possible.iter().any(|value| value.matches(word, false))
}

fn joined(flag: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(flag);
    word.push("=");
    word.push(value);
    word
}

fn without_value(letter: char, long: &str) -> Error {
    let more = if long == "pid" { "; --pid alone shows everything known about owners; ports are -P" } else { "" };
    refused(&format!("a value is required for -{letter} (--{long}=VALUE){more}"))
}

/// The flag that a letter of another tool stands for, if any.
fn taken(letter: char, habit: Habit) -> Result<Option<OsString>, Error> {
    match habit {
        Habit::Is(flag) => Ok(flag.map(Into::into)),
        Habit::Way(way_out) => Err(refused(&format!("there is no -{letter} here: {way_out}"))),
    }
}

fn refused(message: &str) -> Error {
    Error::raw(ErrorKind::UnknownArgument, format!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Args;

    fn arranged(line: &str) -> Result<String, String> {
        let words = std::iter::once("tcptrace").chain(line.split_whitespace()).map(OsString::from).collect();
        let words = arrange(words, &Args::command()).map_err(|error| error.to_string())?;
        Ok(words.iter().skip(1).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn flags_may_stand_before_the_command() {
        for (line, want) in [
            ("-P 7801 stuck --once", "stuck -P 7801 --once"),
            ("--state CLOSE_WAIT sockets -f json", "sockets --state CLOSE_WAIT -f json"),
            ("--once stuck", "stuck --once"),
            ("-s sockets", "-s sockets"),
            ("-o sockets stuck", "stuck -o sockets"),
            ("--config /x config check", "config --config /x check"),
            ("--help", "--help"),
            ("help stuck", "help stuck"),
            ("--netns self doctor --json", "doctor --netns self --json"),
            ("doctor -v", "doctor -v"),
            ("sport = :80 sockets", "sport = :80 sockets"),
            ("", ""),
        ] {
            assert_eq!(arranged(line).as_deref(), Ok(want), "{line}");
        }
        let told = arranged("--summary sockets").unwrap_err();
        assert!(told.contains("`tcptrace sockets` has no flag --summary"), "{told}");
    }

    #[test]
    fn an_optional_value_is_never_taken_by_accident() {
        for (line, want) in [
            ("--state CLOSE_WAIT --pid", "--state CLOSE_WAIT --pid"),
            ("--pid 80 --port 7801", "--pid=80 --port 7801"),
            ("--pid !80,81", "--pid=!80,81"),
            ("--pid state close-wait", "--pid state close-wait"),
            ("--pid sockets", "sockets --pid"),
            ("-p 12", "--pid=12"),
            ("-p12 -q", "--pid=12 -q"),
            ("-qp 12,13", "-q --pid=12,13"),
            ("--aggregate port", "--aggregate=port"),
            ("--aggregate=port", "--aggregate=port"),
            ("--aggregate --interval 1s", "--aggregate --interval 1s"),
        ] {
            assert_eq!(arranged(line).as_deref(), Ok(want), "{line}");
        }
        for line in ["-p", "-p --port 80", "-qp"] {
            let told = arranged(line).unwrap_err();
            assert!(told.contains("--pid alone shows") && told.contains("-P"), "{line}: {told}");
        }
        assert!(arranged("--aggregate sockets").unwrap_err().contains("--aggregate"), "not the key to count by");
    }

    #[test]
    fn habits_of_other_tools_work_or_are_named() {
        for (line, want) in [
            ("sockets -tanp", "sockets --pid"),
            ("sockets -tlnp", "sockets --state=LISTEN --pid"),
            ("sockets -tn4", "sockets --state=!LISTEN -4"),
            ("-n -P 80", "-P 80"),
            ("-nq", "-q"),
            ("-D 443", "-D 443"),
            ("-T -D 443", "-D 443"),
            ("-tU", "--pid"),
            ("sockets -t", "sockets --state=!LISTEN"),
            ("sockets -to", "sockets --state=!LISTEN"),
            ("sockets --sort-by=.age", "sockets --sort=age"),
            ("sockets -n", "sockets"),
            ("sockets -l", "sockets --state=LISTEN"),
            ("sockets -w", "sockets --watch"),
            ("sockets -a", "sockets"),
            ("sockets -a 10.0.0.1", "sockets -a 10.0.0.1"),
            ("sockets -s", "sockets --by=state"),
            ("sockets -s LISTEN", "sockets -s LISTEN"),
            ("sockets -N blue", "sockets --netns blue"),
            ("sockets -o json", "sockets --format=json"),
            ("sockets --output csv", "sockets --format=csv"),
            ("sockets -ojson -q", "sockets --format=json -q"),
            ("sockets -qP80", "sockets -q -P 80"),
            ("sockets --sort-by=age --all-namespaces", "sockets --sort=age"),
            ("kill cookie:4711 dst 10.0.0.1", "kill --cookie=cookie:4711 dst 10.0.0.1"),
            ("kill --dry-run --state CLOSE_WAIT", "kill --state CLOSE_WAIT"),
            ("-x", "-x"),
        ] {
            assert_eq!(arranged(line).as_deref(), Ok(want), "{line}");
        }
        for (line, words) in [
            ("-tanp", "`tcptrace sockets -tanp`"),
            ("-w out.pcap", "--output FILE"),
            ("-v", "--pid"),
            ("stuck -U 0", "--uid"),
            ("-s", "--format csv"),
            ("retrans -c", "event == retransmit"),
            ("get sockets -o wide", "`tcptrace sockets`"),
            ("-l", "--state LISTEN"),
            ("-K", "`tcptrace kill`"),
            ("-f", "until Ctrl-C"),
            ("sockets -i", "--columns"),
            ("sockets -o wide", "--columns"),
            ("--since 10m", "`tcptrace replay FILE --from TIME`"),
            ("sockets --namespace default", "--pod NAMESPACE/POD"),
        ] {
            let told = arranged(line).unwrap_err();
            assert!(told.contains(words), "{line}: {told}");
        }
    }
}
