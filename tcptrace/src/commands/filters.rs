//! What the filter flags select, in the parts that the kernel and tcptrace decide.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Error, error::ErrorKind};
use tcptrace_common::filter::{
    Filter as Constants, MAX_CGROUPS, MAX_PIDS, MAX_PREFIXES, SET_ANY, SET_LOCAL, SET_REMOTE, part,
};

use crate::{
    bpf::probes::KernelFilter,
    cli::{
        args::{Args, FilterArgs},
        given::Given,
    },
    findings::Kind,
    model::{
        filter::{Expr, Filter, NetnsId, Number, Pattern, Test, Text},
        netns_choice::NetnsChoice,
        socket_filter::{Ends, SocketFilter},
    },
    render::screen::FilterError,
    sys::{
        cgroup::{self, Cgroup},
        users,
    },
};

fn usage(kind: ErrorKind, message: &str) -> Error {
    Args::command().error(kind, message)
}

/// What the BPF programs apply of a filter; `given` are the paths of its cgroups as the user wrote them.
pub(super) fn kernel_filter(filter: &SocketFilter, given: &[PathBuf]) -> Result<KernelFilter, Error> {
    let constants = Constants { states: filter.states.bits(), family: filter.family, ..Constants::default() };
    let mut kernel = KernelFilter { constants, ..KernelFilter::default() };
    let Ends { local, remote, any } = &filter.ports;
    let ports =
        [(local, SET_LOCAL, part::LOCAL_PORT), (remote, SET_REMOTE, part::REMOTE_PORT), (any, SET_ANY, part::ANY_PORT)];
    for (ranges, set, part) in ports.into_iter().filter(|(ranges, ..)| !ranges.is_empty()) {
        kernel.constants.parts |= part;
        kernel.ports.extend(ranges.iter().map(|&(first, last)| (set, first, last)));
    }
    let Ends { local, remote, any } = &filter.addresses;
    let addresses = [
        (local, SET_LOCAL, part::LOCAL_ADDRESS),
        (remote, SET_REMOTE, part::REMOTE_ADDRESS),
        (any, SET_ANY, part::ANY_ADDRESS),
    ];
    for (prefixes, set, part) in addresses.into_iter().filter(|(prefixes, ..)| !prefixes.is_empty()) {
        kernel.constants.parts |= part;
        kernel.prefixes.extend(prefixes.iter().map(|prefix| {
            let (address, bits) = prefix.parts();
            (set, address, bits)
        }));
    }
    at_most("addresses", kernel.prefixes.len(), MAX_PREFIXES)?;
    if !filter.pids.is_empty() {
        kernel.constants.parts |= part::PID;
        kernel.pids.clone_from(&filter.pids);
    }
    for (index, path) in filter.cgroups.iter().enumerate().take(MAX_CGROUPS) {
        let Cgroup { id, level, .. } = find_cgroup("cgroup", path, given)?;
        kernel.constants.parts |= part::CGROUP;
        kernel.constants.cgroups[index] = id;
        kernel.constants.cgroup_levels[index] = level;
    }
    Ok(kernel)
}

fn at_most(what: &str, count: usize, most: u32) -> Result<(), Error> {
    if count <= most as usize {
        return Ok(());
    }
    let message = format!("too many {what} in one filter: {count}; give at most {most}");
    Err(usage(ErrorKind::TooManyValues, &message))
}

/// The cgroup at this path, as an expression has it; `name` is the setting, for messages. Of a path in `given` that is not
/// UTF-8 an expression has only a readable form.
fn find_cgroup(name: &str, path: &str, given: &[PathBuf]) -> Result<Cgroup, Error> {
    let is_it = |given: &&PathBuf| {
        given.to_str().is_none()
            && (given.to_string_lossy() == path || cgroup::find(given).is_ok_and(|found| found.path == path))
    };
    let path = given.iter().find(is_it).map_or(Path::new(path), PathBuf::as_path);
    cgroup::find(path)
        .map_err(|error| usage(ErrorKind::ValueValidation, &format!("{name}: {}: {error}", path.display())))
}

/// What the flags and words of a command line select, and the network namespace that it is limited to. `given` says where
/// each was given, for messages.
///
/// # Errors
/// A usage error if a value is wrong, or a user or cgroup does not exist.
pub fn filter(args: &FilterArgs, given: &Given) -> Result<(Filter, Option<NetnsChoice>), Error> {
    let mut expr = args.expression(given)?;
    no_findings(&expr)?;
    let pids = args.pid.iter().flatten().map(|list| list.0.len()).sum();
    at_most("PIDs", pids, MAX_PIDS)?;
    at_most("cgroups", args.cgroup.len(), MAX_CGROUPS as u32)?;
    at_most("addresses", args.address.len() + args.local_address.len() + args.remote_address.len(), MAX_PREFIXES)?;
    let is_of_flag = |user: &str| args.user.iter().any(|term| term.value == user);
    let name = |user: &str| given.name(if is_of_flag(user) { "user" } else { "expression" });
    expr.change(&mut |test| resolve(test, &name, &given.name("cgroup"), &args.cgroup))?;
    Ok(split(&expr, args.netns.as_ref()))
}

/// The parts of an expression, and the network namespace that it and the flag select.
fn split(expr: &Expr, flag: Option<&NetnsChoice>) -> (Filter, Option<NetnsChoice>) {
    let mut filter = expr.lower();
    let netns = match (filter.netns.take(), flag) {
        (Some(NetnsId::Inode(inode)), None) => Some(NetnsChoice::Inode(inode)),
        (Some(NetnsId::Name(name)), None) => Some(NetnsChoice::Name(name)),
        (Some(id), Some(choice)) => {
            let both = filter.rest.take().into_iter().chain([Expr::Test(Test::Netns(vec![id]))]);
            filter.rest = Some(Expr::all(both));
            Some(choice.clone())
        }
        (None, choice) => choice.cloned(),
    };
    (filter, netns)
}

/// The filter that these flags are at the start of a screen, and its text.
///
/// # Errors
/// As [`filter`].
pub(super) fn initial(args: &FilterArgs, resolves: bool) -> Result<(Expr, String), Error> {
    let mut expr = args.expression(&Given::default())?;
    if expr.is_everything() {
        return Ok((expr, String::new()));
    }
    let text = expr.to_string();
    if resolves {
        expr.change(&mut |test| resolve(test, &|_| "--user".to_owned(), "--cgroup", &args.cgroup))?;
    }
    Ok((expr, text))
}

/// The filter of a screen; with `resolves`, names of users and cgroups are looked up on this machine.
///
/// # Errors
/// If the text is no filter, or a user or cgroup does not exist.
pub(super) fn watched(text: &str, resolves: bool) -> Result<Expr, FilterError> {
    if text.is_empty() {
        return Ok(Expr::everything());
    }
    let findings: Vec<_> = Kind::ALL.iter().map(|kind| kind.id()).collect();
    let mut expr = Expr::parse_words(text, &findings)
        .map_err(|error| FilterError { message: error.message().to_owned(), span: Some(error.span()) })?;
    if resolves {
        let failed = |error: Error| FilterError { message: plain(&error), span: None };
        expr.change(&mut |test| resolve(test, &|_| "user".to_owned(), "cgroup", &[])).map_err(failed)?;
    }
    Ok(expr)
}

/// The first line of a usage error, without its mark.
fn plain(error: &Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Refuses tests of findings where there are none to choose from.
fn no_findings(expr: &Expr) -> Result<(), Error> {
    if !expr.mentions(|test| matches!(test, Test::Finding(_) | Test::Severity(_))) {
        return Ok(());
    }
    let message = "finding and severity choose records of an output: write them in its `where=`, e.g. \
                   -o 'stdout,where=severity >= warning'";
    Err(usage(ErrorKind::ValueValidation, message))
}

/// An expression that chooses among records, with the names of users and cgroups replaced.
///
/// # Errors
/// A usage error if one does not exist.
pub(super) fn resolved(mut expr: Expr) -> Result<Expr, Error> {
    expr.change(&mut |test| resolve(test, &|_| "where".to_owned(), "cgroup", &[]))?;
    Ok(expr)
}

/// What a story's expression selects, and what of it limits the events that it needs: all of the connections of which one
/// event matches.
///
/// # Errors
/// A usage error if a value is wrong, or a user or cgroup does not exist.
pub(super) fn of_story(expr: Expr) -> Result<(Expr, Expr), Error> {
    no_findings(&expr)?;
    let expr = resolved(expr)?;
    let of_connection = expr.of_connection();
    Ok((expr, of_connection))
}

/// Replaces names by what the kernel knows: users by UIDs, paths of cgroups by those in the v2 hierarchy. For messages, `name`
/// gives the setting that names a user, and `cgroup` is the one for cgroups.
fn resolve(test: &mut Test, name: &dyn Fn(&str) -> String, cgroup: &str, given: &[PathBuf]) -> Result<(), Error> {
    match test {
        Test::Text(Text::User, Pattern::Is(names)) => {
            let uid = |user: &String| {
                let unknown = || {
                    let message =
                        format!("{}: there is no user `{user}` in /etc/passwd; --uid takes numbers", name(user));
                    usage(ErrorKind::ValueValidation, &message)
                };
                users::uid(user).map(|uid| (uid.into(), uid.into())).ok_or_else(unknown)
            };
            let uids = names.iter().map(uid).collect::<Result<_, Error>>()?;
            *test = Test::Number(Number::Uid, uids);
        }
        Test::Text(Text::Cgroup, Pattern::Below(paths)) => {
            for path in paths {
                *path = find_cgroup(cgroup, path, given)?.path;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Where filters are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the BPF programs, and the rest in tcptrace.
    Kernel,
    /// In tcptrace, since findings need all events.
    Findings,
    /// To a listing of sockets, of which the kernel selects by state.
    Listing,
    /// To a listing of all sockets, which `kill` chooses from.
    Kill,
}

/// Which part of the filters runs where, for `--explain-filter`.
///
/// # Errors
/// As [`filter`].
pub fn explain(args: &FilterArgs, given: &Given, place: Place) -> Result<String, Error> {
    let whole = args.expression(given)?;
    let (filter, netns) = filter(args, given)?;
    let everything = |expr: Expr| if expr.is_everything() { "nothing".to_owned() } else { expr.to_string() };
    let mut states = SocketFilter { states: filter.sockets.states, ..SocketFilter::default() };
    let (mut kernel, user) = match place {
        Place::Kernel => (everything(Expr::from(&filter.sockets)), filter.rest.clone().unwrap_or(Expr::everything())),
        Place::Findings => {
            states = SocketFilter::default();
            let rest = filter.rest.clone().into_iter();
            (everything(Expr::from(&states)), Expr::all([Expr::from(&filter.sockets)].into_iter().chain(rest)))
        }
        Place::Kill => ("nothing".to_owned(), whole.clone()),
        Place::Listing => {
            let sockets = SocketFilter { states: Default::default(), ..filter.sockets.clone() };
            let rest = filter.rest.clone().into_iter();
            (everything(Expr::from(&states)), Expr::all([Expr::from(&sockets)].into_iter().chain(rest)))
        }
    };
    if place == Place::Kernel && filter.excludes_networks() {
        kernel += ", and the excluded networks as a table of all others";
    }
    if let Some(netns) = netns {
        kernel =
            format!("{}the network namespace {netns}", if kernel == "nothing" { String::new() } else { kernel + ", " });
    }
    let note = match place {
        Place::Findings => {
            "Findings need all events, so tcptrace filters what it prints; --findings off filters in the kernel.\n"
        }
        Place::Kill => "Cookies, --finding, --older-than and --listeners choose as well.\n",
        _ => "",
    };
    Ok(format!("filter:      {whole}\nin kernel:   {kernel}\nin tcptrace: {}\n{note}", everything(user)))
}
