//! `tcptrace sockets`: lists the sockets once, and writes them as text, JSON or CSV.

pub mod csv;
pub mod fields;
pub mod form;
pub mod json;
pub mod listing;
pub mod rows;
pub mod text;

use std::io::{self, Write};

use bytes::BytesMut;
use thiserror::Error;

use crate::{
    cli::{
        args::{SocketsArgs, values::Format},
        terminal::is_colored,
    },
    commands::sockets::{
        csv::Csv,
        form::Form,
        json::Json,
        listing::Listing,
        rows::{Cgroups, Row, count, rows, sort, totals},
        text::{Text, TextOptions},
    },
    listing::skipped,
    model::{keyed::Addresses, snapshot::Snapshot, socket_filter::SocketFilter, time::WallOffset},
    outputs::messages::warn,
    sys::{cgroup, clock::wall_offset, files},
};

/// Why the sockets could not be listed or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error<E> {
    #[error("{0}")]
    List(E),
    #[error("cannot write to {target}: {source}")]
    Output { target: String, source: io::Error },
}

/// Lists sockets with `list`, and writes those that match `selection` to stdout or a file. A reader that stops early (`| head`)
/// is no error.
///
/// # Errors
/// If the listing fails, or the output cannot be written.
pub fn run<E>(
    args: &SocketsArgs,
    selection: &SocketFilter,
    list: impl FnOnce() -> Result<Snapshot, E>,
) -> Result<(), Error<E>> {
    let snapshot = list().map_err(Error::List)?;
    let machine = Machine { wall: wall_offset(), cgroup_of: Box::new(cgroup::of_process) };
    print(args, selection, snapshot, machine)
}

/// What a listing needs from the machine that it was made on.
pub(crate) struct Machine {
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// Returns the path of a process's cgroup.
    pub cgroup_of: Box<dyn Fn(u32) -> Option<String> + Send + Sync>,
}

/// Writes the sockets of a listing, as [`run`] does.
///
/// # Errors
/// If the output cannot be written.
pub(crate) fn print<E>(
    args: &SocketsArgs,
    selection: &SocketFilter,
    mut snapshot: Snapshot,
    machine: Machine,
) -> Result<(), Error<E>> {
    let addresses = Addresses::new(args.kernel_addresses);
    snapshot.sockets.iter_mut().for_each(|socket| socket.sk = socket.sk.map(|sk| addresses.printed(sk)));
    sort(&mut snapshot.sockets);
    let target = args.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let failed = |source| Error::Output { target: target.clone(), source };
    let output: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(files::replace(path).map_err(failed)?),
        None => Box::new(io::stdout()),
    };
    match write(args, selection, &snapshot, machine, output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
        _ => {}
    }
    skipped::warnings(&snapshot.skipped).into_iter().for_each(warn);
    Ok(())
}

fn write(
    args: &SocketsArgs,
    selection: &SocketFilter,
    snapshot: &Snapshot,
    Machine { wall, cgroup_of }: Machine,
    mut output: impl Write,
) -> io::Result<()> {
    let cgroups = Cgroups::new(cgroup_of);
    let rows = rows(snapshot, selection, &cgroups);
    let listing = Listing { snapshot, wall, totals: totals(&rows), by: args.by };
    let form = match args.format {
        Format::Text => Form::Text(Text::new(&listing, text_options(args, snapshot, &rows))),
        Format::Json => Form::Json(Json::new(listing)),
        Format::Csv => Form::Csv(Csv::new(listing)),
    };
    let hand_over = |piece: BytesMut| output.write_all(&piece).and_then(|()| output.flush());
    match args.by {
        Some(by) => form.groups(&count(&rows, by, &cgroups), hand_over),
        None => form.rows(&rows, &cgroups, hand_over),
    }
}

fn text_options(args: &SocketsArgs, snapshot: &Snapshot, rows: &[Row<'_>]) -> TextOptions {
    TextOptions {
        color: is_colored(args.color, args.output.is_none()),
        more: args.filter.pid.is_some(),
        netns: snapshot.namespaces.len() > 1 || args.filter.netns.is_some(),
        owner_source: rows.iter().any(|row| row.socket.owner.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::args::{Args, Command},
        commands::settings,
        model::{
            skipped::Skipped,
            socket::{Kind, ListedSocket},
            state::State,
        },
    };

    fn sockets_args(line: &str) -> SocketsArgs {
        let words = ["tcptrace", "sockets"].into_iter().chain(line.split_whitespace());
        match Args::try_parse_from(words).unwrap().command {
            Some(Command::Sockets(args)) => args,
            _ => panic!("another command"),
        }
    }

    fn snapshot() -> Snapshot {
        let at = |port, state| {
            ListedSocket::new(Kind::Full, state, 1, ([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 9).into())
        };
        Snapshot {
            sockets: vec![at(80, State::Established), at(81, State::CloseWait), at(443, State::CloseWait)],
            skipped: Skipped { cut_short: 1, ..Skipped::default() },
            ..Snapshot::default()
        }
    }

    fn written(line: &str) -> String {
        let args = sockets_args(line);
        let selection = settings::selection(&args.filter, None).unwrap();
        let mut to = Vec::new();
        let machine = Machine { wall: WallOffset(0), cgroup_of: Box::new(|_| None) };
        write(&args, &selection, &snapshot(), machine, &mut to).unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn filters_choose_and_forms_differ() {
        let ports = |line: &str| {
            let rows = written(&format!("--format csv {line}"));
            rows.lines().skip(1).map(|row| row.split(',').nth(9).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ports(""), ["80", "81", "443"]);
        assert_eq!(ports("-s close-wait"), ["81", "443"]);
        assert_eq!(ports("-P 80-100"), ["80", "81"]);
        assert_eq!(ports("-L 443 -4"), ["443"]);
        assert_eq!(ports("-R 443"), [""; 0]);
        assert_eq!(ports("-6"), [""; 0]);
        assert_eq!(ports("--address 10.0.0.2 --local-address 10.0.0.0/31"), ["80", "81", "443"]);
        assert_eq!(ports("--remote-address 10.0.0.1"), [""; 0]);
        assert_eq!(ports("--pid=1"), [""; 0]);
        assert!(written("--by state").contains("\n      2 CLOSE_WAIT\n"));
        assert!(written("--pid").contains(" UID ") && !written("").contains(" UID "));
        assert!(written("--netns 1").contains(" NETNS ") && !written("").contains(" NETNS "));
        assert!(written("--color always").contains("\x1b[33mCLOSE_WAIT"));
        assert_eq!(written("--format json").lines().count(), 4);
    }

    #[test]
    fn output_goes_to_a_file_and_failures_name_it() {
        let path = std::env::temp_dir().join(format!("tcptrace-sockets-{}", std::process::id()));
        let to = |path: &str| sockets_args(&format!("--output {path}"));
        let list = || Ok::<_, &str>(snapshot());
        run(&to(&path.display().to_string()), &SocketFilter::default(), list).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.ends_with("\nTotal 3: 1 ESTABLISHED, 2 CLOSE_WAIT\n"), "{text}");

        let told = |result: Result<(), Error<&str>>| result.unwrap_err().to_string();
        assert!(told(run(&to("/dev/full"), &SocketFilter::default(), list)).starts_with("cannot write to /dev/full: "));
        assert!(told(run(&to("/no/such"), &SocketFilter::default(), list)).starts_with("cannot write to /no/such: "));
        assert_eq!(told(run(&to("/dev/null"), &SocketFilter::default(), || Err("not allowed"))), "not allowed");
    }
}
