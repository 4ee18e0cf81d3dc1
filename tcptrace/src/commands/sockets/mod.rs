//! `tcptrace sockets`: lists the sockets, once or again and again, and writes them as text, JSON or CSV.

pub mod columns;
pub mod csv;
pub mod fields;
pub mod form;
pub mod json;
pub mod listing;
pub mod rows;
pub mod text;

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use clap::ValueEnum as _;
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::{
    cli::{
        args::{GroupBy, SocketsArgs, values::Format},
        conflicts::conflict,
        outputs::OutputSpec,
        parse::direction,
        terminal::{is_colored, understands_codes},
    },
    commands::{
        delivery::{self, Writer},
        sockets::{
            columns::{SocketColumn, SortKey, fields_of, sort_rows},
            csv::Csv,
            fields::SocketField,
            form::Form,
            json::Json,
            listing::Listing,
            rows::{
                Cgroups, GroupKey, HolderNames, ReadHolder, Row, add_peers, count, keep_older, rows, sort, sort_groups,
                totals,
            },
            text::{Text, TextOptions},
        },
    },
    listing::skipped,
    model::{
        filter::Filter,
        keyed::Addresses,
        snapshot::Snapshot,
        time::{WallFormat, WallOffset},
    },
    outputs::messages::warn,
    render::text::frame,
    sys::{
        cgroup,
        clock::wall_offset,
        places::{self, Places},
        processes,
        signals::{Stop, every},
        terminal::{Keys, screen},
        users::UserFile,
    },
};

/// Why the sockets could not be listed or written.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error<E> {
    #[error("{0}")]
    List(E),
    #[error(transparent)]
    Output(#[from] delivery::Error),
    #[error("cannot set up signal handling: {0}")]
    Signals(io::Error),
}

/// What of the flags does not go without saying: columns, keys to sort by, and groups.
pub struct View {
    columns: Vec<SocketColumn>,
    fields: Vec<SocketField>,
    sort: Vec<SortKey>,
    sort_groups: Vec<(GroupKey, bool)>,
}

impl View {
    /// Checks the flags.
    ///
    /// # Errors
    /// A usage error that names the flag and the known columns.
    pub fn new(args: &SocketsArgs) -> Result<Self, clap::Error> {
        let wrong = |flag: &str, reason: String| conflict(&format!("{flag}: {reason}"));
        let column = |name: &String| SocketColumn::named(name).map_err(|reason| wrong("--columns", reason));
        let columns: Vec<_> = args.columns.iter().map(column).collect::<Result<_, _>>()?;
        if args.by.len() > 2 {
            return Err(wrong("--by", format!("takes one or two, not {}", args.by.len())));
        }
        let (mut sort, mut sort_groups) = (Vec::new(), Vec::new());
        for text in &args.sort {
            let (name, descending) = direction(text).map_err(|reason| wrong("--sort", reason))?;
            if args.by.is_empty() {
                let column = SocketColumn::named(name).map_err(|reason| wrong("--sort", reason))?;
                sort.push(SortKey { column, descending: descending.unwrap_or(false) });
            } else {
                let of_by =
                    || GroupBy::from_str(name, false).ok().and_then(|by| args.by.iter().position(|known| *known == by));
                let key = if name == "sockets" { Some(GroupKey::Sockets) } else { of_by().map(GroupKey::Common) };
                let known = || args.by.iter().map(|by| by.name()).collect::<Vec<_>>().join(", ");
                let unknown =
                    || wrong("--sort", format!("unknown column `{name}`. Known with --by are sockets, {}", known()));
                sort_groups.push((key.ok_or_else(unknown)?, descending.unwrap_or(key == Some(GroupKey::Sockets))));
            }
        }
        Ok(Self { fields: fields_of(&columns), columns, sort, sort_groups })
    }
}

impl View {
    /// True if an output shows the process at the other end. Its socket may be in any state.
    #[must_use]
    pub fn needs_peers(&self, args: &SocketsArgs) -> bool {
        let is_wanted = |format: Format| match format {
            _ if self.fields.contains(&SocketField::PeerHolders) => true,
            Format::Json | Format::Csv => self.fields.is_empty(),
            Format::Text | Format::Nagios => self.columns.is_empty() && args.filter.pid.is_some(),
        };
        let formats = || args.output.to.iter().map(|spec| args.output.format_of(spec));
        args.by.is_empty() && formats().any(is_wanted)
    }
}

/// Lists sockets with `list`, and writes those that match `filter`. A reader that stops early (`| head`) is no error.
///
/// # Errors
/// If the listing fails, or the output cannot be written.
pub fn run<E>(
    args: &SocketsArgs,
    view: &View,
    filter: &Filter,
    list: impl FnOnce() -> Result<Snapshot, E>,
) -> Result<(), Error<E>> {
    print(args, view, filter, list().map_err(Error::List)?, &Machine::default())
}

/// What a listing needs from the machine that it was made on.
pub(crate) struct Machine {
    /// Converts CLOCK_MONOTONIC to the wall clock.
    pub wall: WallOffset,
    /// Returns the path of a process's cgroup.
    pub cgroup_of: Arc<dyn Fn(u32) -> Option<String> + Send + Sync>,
    /// True if it is this one, whose processes can be read.
    pub is_here: bool,
}

impl Default for Machine {
    /// This one.
    fn default() -> Self {
        Self { wall: wall_offset(), cgroup_of: Arc::new(cgroup::of_process), is_here: true }
    }
}

/// Writes the sockets of a listing, as [`run`] does.
///
/// # Errors
/// If an output cannot be written.
pub(crate) fn print<E>(
    args: &SocketsArgs,
    view: &View,
    filter: &Filter,
    snapshot: Snapshot,
    machine: &Machine,
) -> Result<(), Error<E>> {
    let snapshot = sorted(args, || Ok(snapshot))?;
    for spec in &args.output.to {
        let mut output = Writer::open(spec)?;
        write(args, view, spec, filter, &snapshot, machine, |piece| output.write(&piece))?;
        output.end()?;
    }
    skipped::warnings(&snapshot.skipped).into_iter().for_each(warn);
    Ok(())
}

fn sorted<E>(args: &SocketsArgs, list: impl FnOnce() -> Result<Snapshot, E>) -> Result<Snapshot, Error<E>> {
    let mut snapshot = list().map_err(Error::List)?;
    let addresses = Addresses::new(args.kernel_addresses);
    snapshot.sockets.iter_mut().for_each(|socket| socket.sk = socket.sk.map(|sk| addresses.printed(sk)));
    sort(&mut snapshot.sockets);
    Ok(snapshot)
}

/// Like [`run`], again and again, until a signal or `q` ends it or nobody reads any more. A terminal shows the last listing;
/// other outputs get one after another, text with a line that says when.
///
/// # Errors
/// If a listing fails, or an output cannot be written.
pub async fn watch<E>(
    args: &SocketsArgs,
    view: &View,
    filter: &Filter,
    interval: Duration,
    mut list: impl FnMut() -> Result<Snapshot, E>,
) -> Result<(), Error<E>> {
    let mut stop = Stop::new(false).map_err(Error::Signals)?;
    let mut outputs =
        args.output.to.iter().map(|spec| Ok((spec, Writer::open(spec)?))).collect::<Result<Vec<_>, Error<E>>>()?;
    let redraws = |spec: &OutputSpec| spec.target.is_stdout() && understands_codes();
    if args.output.to.iter().any(redraws) {
        stop.keys = Keys::listen();
    }
    let mut ticks = every(interval);
    let mut date = WallFormat::with_zone(TimeZone::system());
    for round in 0.. {
        let snapshot = sorted(args, &mut list)?;
        for (spec, output) in &mut outputs {
            let is_text = args.output.format_of(spec) == Format::Text;
            let screen = screen().filter(|_| is_text && redraws(spec));
            let mut text = BytesMut::new();
            if is_text {
                date.write(&mut text, wall_offset().wall_ns(snapshot.ended_ns), 0);
                text.extend_from_slice(b"\n");
            }
            let take = |piece: BytesMut| {
                text.extend_from_slice(&piece);
                Ok::<_, Infallible>(())
            };
            let Ok(()) = write(args, view, spec, filter, &snapshot, &Machine::default(), take);
            if is_text && screen.is_none() {
                text.extend_from_slice(b"\n");
            }
            if round > 0 && args.output.format_of(spec) == Format::Csv {
                let names = text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let _ = text.split_to(names); // they stand at the beginning
            }
            if let Some(screen) = screen {
                let all = std::mem::take(&mut text);
                let more = |lines| format!("… {lines} more lines: --sort and filters choose what is first");
                frame::draw(&mut text, &String::from_utf8_lossy(&all), screen, more);
            }
            output.write(&text)?;
        }
        if outputs.iter().all(|(_, output)| output.is_closed()) {
            break;
        }
        tokio::select! {
            biased;
            _ = stop.wait() => break,
            _ = ticks.tick() => {}
        }
    }
    outputs.into_iter().try_for_each(|(_, output)| output.end())?;
    Ok(())
}

fn write<E>(
    args: &SocketsArgs,
    view: &View,
    spec: &OutputSpec,
    filter: &Filter,
    snapshot: &Snapshot,
    machine: &Machine,
    hand_over: impl FnMut(BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    let cgroup_of = Arc::clone(&machine.cgroup_of);
    let mut cgroups = Cgroups::new(Box::new(move |pid| cgroup_of(pid)));
    if machine.is_here {
        cgroups = cgroups.reading(read_holder(!args.no_args));
    }
    let mut rows = rows(snapshot, filter, &cgroups);
    if view.needs_peers(args) {
        add_peers(&mut rows, snapshot);
    }
    let age_unknown = args.older_than.map(|least| keep_older(&mut rows, least.as_nanos() as u64));
    let listing = Listing { snapshot, wall: machine.wall, totals: totals(&rows), by: &args.by, age_unknown };
    if !view.sort.is_empty() {
        sort_rows(&mut rows, &view.sort, &listing, &cgroups);
    }
    let form = match args.output.format_of(spec) {
        Format::Text | Format::Nagios => {
            Form::Text(Text::new(&listing, text_options(args, view, spec, snapshot, &rows)))
        }
        Format::Json => Form::Json(Json::new(listing).only(&view.fields)),
        Format::Csv => Form::Csv(Csv::new(listing).only(&view.fields)),
    };
    if args.by.is_empty() {
        return form.rows(&rows, &cgroups, hand_over);
    }
    let mut groups = count(&rows, &args.by, &cgroups);
    sort_groups(&mut groups, &view.sort_groups);
    form.groups(&groups, hand_over)
}

/// Reads the names of processes, and of the containers and pods that they run in.
fn read_holder(with_args: bool) -> ReadHolder {
    let users = UserFile::default().changed().unwrap_or_default();
    let places = Mutex::new(Places::new(&places::host_root(None)));
    Box::new(move |holder| {
        let place = |pid| places.lock().unwrap_or_else(PoisonError::into_inner).of_process(pid);
        let (process, place) = processes::read(holder.id(), with_args, place).unzip();
        HolderNames { user: users.get(&holder.uid).cloned(), process, place: place.flatten() }
    })
}

fn text_options(
    args: &SocketsArgs,
    view: &View,
    spec: &OutputSpec,
    snapshot: &Snapshot,
    rows: &[Row<'_>],
) -> TextOptions {
    TextOptions {
        color: is_colored(args.output.color, spec.target.is_stdout()),
        more: args.filter.pid.is_some(),
        netns: snapshot.namespaces.len() > 1 || args.filter.netns.is_some(),
        owner_source: rows.iter().any(|row| row.socket.owner.is_some()),
        columns: view.columns.clone(),
        width: screen().filter(|_| spec.target.is_stdout()).map(|screen| screen.columns),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{
            args::{Args, Command},
            given::Given,
        },
        commands::filters,
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
        let (filter, _) = filters::filter(&args.filter, &Given::default()).unwrap();
        let mut to = Vec::new();
        let take = |piece: BytesMut| {
            to.extend_from_slice(&piece);
            Ok::<_, ()>(())
        };
        write(&args, &View::new(&args).unwrap(), &args.output.to[0], &filter, &snapshot(), &Machine::default(), take)
            .unwrap();
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

    fn run_all<E>(
        args: &SocketsArgs,
        filter: &Filter,
        list: impl FnOnce() -> Result<Snapshot, E>,
    ) -> Result<(), Error<E>> {
        run(args, &View::new(args).unwrap(), filter, list)
    }

    #[test]
    fn output_goes_to_a_file_and_failures_name_it() {
        let path = std::env::temp_dir().join(format!("tcptrace-sockets-{}", std::process::id()));
        let to = |path: &str| sockets_args(&format!("--output {path}"));
        let list = || Ok::<_, &str>(snapshot());
        run_all(&to(&path.display().to_string()), &Filter::default(), list).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.ends_with("\nTotal 3: 1 ESTABLISHED, 2 CLOSE_WAIT\n"), "{text}");

        let told = |result: Result<(), Error<&str>>| result.unwrap_err().to_string();
        assert!(told(run_all(&to("/dev/full"), &Filter::default(), list)).starts_with("cannot write to /dev/full: "));
        assert!(told(run_all(&to("/no/such"), &Filter::default(), list)).starts_with("cannot write to /no/such: "));
        assert_eq!(told(run_all(&to("/dev/null"), &Filter::default(), || Err("not allowed"))), "not allowed");
    }
}
