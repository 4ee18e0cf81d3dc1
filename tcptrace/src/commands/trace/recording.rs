//! The recording of a run: what stands at its beginning, and the names that the session looks up.

use std::{cell::RefCell, collections::HashMap, fs};

use tcptrace_common::record::WIRE_VERSION;

use crate::{
    commands::{settings::Settings, trace::error::Error},
    model::{
        decode::NetnsAlias,
        names::{Names, PlaceNames},
    },
    outputs::recorder::Recorder,
    pipeline::recording::{
        encoder::{Name, NameLog},
        header::Header,
    },
    render::context::Context,
    sys::{
        cgroup,
        places::{self, Places},
        processes,
    },
};

/// Names that are looked up on this machine, and logged for the recording.
pub(super) fn names(reset_reasons: HashMap<u32, String>, log: Option<&NameLog>) -> Names {
    let mut cgroup = cgroup::lookup();
    let Some(log) = log.cloned() else { return Names::new(reset_reasons, Box::new(cgroup)) };
    let find_cgroup = move |id| {
        let path = cgroup(id);
        log.borrow_mut().push(Name::Cgroup(id, path.clone()));
        path
    };
    Names::new(reset_reasons, Box::new(find_cgroup))
}

/// Look-ups of executables and places for filters, logged too.
pub(super) fn add_lookups(names: &mut Names, log: Option<&NameLog>) {
    let of_executables = log.cloned();
    names.find_executable = Some(Box::new(move |id, command| {
        let (names, ()) = processes::read(id, false, |_| ())?;
        let path = names.executable(command).map(str::to_owned);
        if let Some(log) = &of_executables {
            log.borrow_mut().push(Name::Executable(id.0, id.1, command, path.clone()));
        }
        path
    }));
    let (places, of_places) = (RefCell::new(Places::new(&places::host_root(None))), log.cloned());
    names.find_places = Some(Box::new(move |path| {
        let found = PlaceNames::from(places.borrow_mut().of_cgroup(path, None).as_ref());
        if let Some(log) = &of_places {
            log.borrow_mut().push(Name::Places(path.to_owned(), found.clone()));
        }
        found
    }));
}

/// Starts the recording, if one is wanted.
pub(super) fn start(
    settings: &Settings,
    context: &Context,
    netns_alias: Option<NetnsAlias>,
    start_ns: u64,
    log: NameLog,
) -> Result<Option<Recorder>, Error> {
    let Some(recording) = settings.recording.clone() else { return Ok(None) };
    let names = &context.names;
    let header = Header {
        tcptrace: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        wire: WIRE_VERSION,
        run_ns: start_ns,
        start_ns,
        wall: context.wall,
        segment: 0,
        own_netns: names.own_netns,
        reset_reasons: names.reset_reasons().map(|(code, name)| (code, name.to_owned())).collect(),
        owner_unchecked: settings.session.owner_unchecked,
        netns_alias: netns_alias.map(|alias| (alias.name, alias.inode)),
        polls: settings.session.polls,
        max_sockets: settings.session.max_sockets as u64,
        findings: settings.session.findings.is_some(),
        interval_ns: settings.interval.and_then(|interval| u64::try_from(interval.as_nanos()).ok()),
    };
    let path = recording.path.clone();
    let started = Recorder::start(recording, header, names.addresses.clone(), log);
    started.map(Some).map_err(|source| Error::Recording { path, source })
}
