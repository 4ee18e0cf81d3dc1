//! Turns the filter flags into an expression: flags are shorthands for the language of docs/filters.md.

use clap::{Error, error::ErrorKind};
use tcptrace_common::record::{AF_INET, AF_INET6};

use super::{
    args::FilterArgs,
    given::Given,
    nearest,
    parse::{Where, findings},
};
use crate::model::{
    filter::{
        End, Expr, Number, Pattern, Pid, Place, PortRange, Term, Test, Text, places, ports, states, terms, text_value,
    },
    state::State,
};

/// The commands that a mistyped word may have meant.
const COMMANDS: [&str; 13] = [
    "sockets", "stuck", "top", "rates", "story", "doctor", "daemon", "config", "help", "explain", "kill", "record",
    "replay",
];

impl FilterArgs {
    /// What the flags and words together select.
    ///
    /// # Errors
    /// A usage error if a word or a value is wrong; it names the flag as it was given.
    pub fn expression(&self, given: &Given) -> Result<Expr, Error> {
        let flags = [
            states(&self.state),
            ports(End::Either, &self.port),
            ports(End::Local, &self.local_port),
            ports(End::Remote, &self.remote_port),
            places(End::Either, &self.address),
            places(End::Local, &self.local_address),
            places(End::Remote, &self.remote_address),
            family(self),
            pids(self),
            terms(&self.uid, |uids| {
                Expr::Test(Test::Number(
                    Number::Uid,
                    uids.iter().map(|uid| (u64::from(uid.0), u64::from(uid.0))).collect(),
                ))
            }),
        ];
        let texts = [
            (Text::Comm, &self.comm),
            (Text::Exe, &self.exe),
            (Text::User, &self.user),
            (Text::Unit, &self.unit),
            (Text::Container, &self.container),
            (Text::Pod, &self.pod),
        ];
        let mut parts = Vec::from(flags);
        for (text, values) in texts {
            let name = || given.name(text.name());
            let read =
                |value: &String| text_value(text, value).map_err(|reason| usage(format!("{}: {reason}", name())));
            let values: Result<Vec<_>, Error> =
                values.iter().map(|term| Ok(Term { is_negated: term.is_negated, value: read(&term.value)? })).collect();
            parts.push(terms(&values?, |values| {
                Expr::Test(Test::Text(text, Pattern::Is(values.iter().map(|value| (*value).clone()).collect())))
            }));
        }
        parts.push(self.cgroups());
        parts.extend(self.expression.iter().map(|Where(expr)| expr.clone()));
        if !self.words.is_empty() {
            parts.push(words(&self.words)?);
        }
        Ok(Expr::all(parts))
    }

    fn cgroups(&self) -> Expr {
        let path = |path: &std::path::PathBuf| {
            let text = path.display().to_string();
            match text.strip_prefix('!') {
                Some(rest) => Term { is_negated: true, value: rest.to_owned() },
                None => Term { is_negated: false, value: text },
            }
        };
        let paths: Vec<_> = self.cgroup.iter().map(path).collect();
        terms(&paths, |paths| {
            Expr::Test(Test::Text(Text::Cgroup, Pattern::Below(paths.iter().map(|path| (*path).clone()).collect())))
        })
    }
}

fn family(args: &FilterArgs) -> Expr {
    match (args.ipv4, args.ipv6) {
        (true, _) => Expr::Test(Test::Family(AF_INET)),
        (_, true) => Expr::Test(Test::Family(AF_INET6)),
        _ => Expr::everything(),
    }
}

fn pids(args: &FilterArgs) -> Expr {
    let pids = args.pid.iter().flatten().flat_map(|list| list.0.iter().cloned()).collect::<Vec<_>>();
    terms(&pids, |pids| {
        Expr::Test(Test::Number(Number::Pid, pids.iter().map(|Pid(pid)| (u64::from(*pid), u64::from(*pid))).collect()))
    })
}

/// The words that are neither flags nor a command.
fn words(words: &[String]) -> Result<Expr, Error> {
    let text = words.join(" ");
    Expr::parse_words(&text, &findings()).map_err(|error| {
        let first = words.first().map(String::as_str).unwrap_or_default();
        let is_alone = words.len() == 1 && first.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let near = nearest(first, COMMANDS.into_iter());
        let message = if first.parse::<State>().is_ok() {
            format!("`{first}` is a state: write --state {first}, or `state {first}`")
        } else if first.parse::<Place>().is_ok() {
            format!(
                "`{first}` is an address: write --address {first}, or `host {first}`; `src` and `dst` choose an end"
            )
        } else if first.trim_start_matches(':').parse::<PortRange>().is_ok() {
            let port = first.trim_start_matches(':');
            format!("`{first}` is a number: a port is --port {port}, a PID --pid={port}")
        } else if is_alone && COMMANDS.contains(&first) {
            format!("`{first}` is a command, which cannot stand here; see `tcptrace {first} --help`")
        } else if is_alone {
            format!("`{first}` is neither a command nor a filter{near}; `tcptrace --help` lists both")
        } else {
            format!("the words after the flags are not a filter: {error}")
        };
        usage(message)
    })
}

fn usage(message: String) -> Error {
    Error::raw(ErrorKind::ValueValidation, message + "\n")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::cli::{args::Args, given::Given, words::arrange};

    fn expression(line: &[&str]) -> Result<String, String> {
        let words = std::iter::once("tcptrace").chain(line.iter().copied()).map(Into::into).collect();
        let args =
            arrange(words, &Args::command()).and_then(Args::try_parse_from).map_err(|error| error.to_string())?;
        args.trace.filter.expression(&Given::default()).map(|expr| expr.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_shorthands() {
        for (line, want) in [
            (&[][..], "everything"),
            (&["-s", "close-wait,LAST_ACK"], "state in {CLOSE_WAIT, LAST_ACK}"),
            (&["-s", "!LISTEN"], "!(state == LISTEN)"),
            (&["-P", "8000-8099,!8050"], "port == 8000-8099 && !(port == 8050)"),
            (&["-L", "22", "-D", "443,80"], "lport == 22 && rport in {443, 80}"),
            (&["-a", "!10.0.0.0/8,!::1"], "!(addr in {10.0.0.0/8, ::1})"),
            (&["-a", "[::1]:7801,10.0.0.1:80"], "addr in {[::1]:7801, 10.0.0.1:80}"),
            (&["-a", "10.0.0.1:80,10.0.0.0/8"], "addr == 10.0.0.1:80 || addr == 10.0.0.0/8"),
            (&["-6", "-p", "12,!13"], "family == ipv6 && pid == 12 && !(pid == 13)"),
            (&["--comm", "nginx,!java", "--uid", "0"], "uid == 0 && comm == \"nginx\" && !(comm == \"java\")"),
            (&["--unit", "nginx", "--pod", "a"], "unit == \"nginx.service\" && pod == \"a\""),
            (&["--cgroup", "/a", "--cgroup", "!/a/b"], "cgroup in {\"/a\"} && !(cgroup in {\"/a/b\"})"),
            (&["--where", "age > 1m", "state", "listen"], "age > 1m && state == LISTEN"),
            (&["-s", "LISTEN", "sport", "=", ":80"], "state == LISTEN && lport == 80"),
        ] {
            assert_eq!(expression(line).as_deref(), Ok(want), "{line:?}");
        }
    }

    #[test]
    fn words_that_are_no_filter_are_explained() {
        for (line, words) in [
            (&["socket"][..], "did you mean `sockets`"),
            (&["eth0"], "neither a command nor a filter"),
            (&["CLOSE_WAIT"], "--state CLOSE_WAIT"),
            (&["10.0.0.1"], "--address 10.0.0.1"),
            (&["80"], "--port 80"),
            (&["sport", "=", ":http"], "invalid port"),
            (&["state", "closing-wait"], "not a TCP state"),
            (&["--where", "stat == LISTEN"], "did you mean `state`"),
            (&["--comm", "a-name-that-is-too-long"], "exe"),
        ] {
            let told = expression(line).unwrap_err();
            assert!(told.contains(words), "{line:?}: {told}");
        }
    }
}
