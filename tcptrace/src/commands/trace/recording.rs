//! The recording of a run: what stands at its beginning, and the names that the session looks up.

use std::{collections::HashMap, fs};

use tcptrace_common::record::WIRE_VERSION;

use crate::{
    commands::{settings::Settings, trace::error::Error},
    model::{decode::NetnsAlias, names::Names},
    outputs::recorder::Recorder,
    pipeline::recording::{
        encoder::{Name, NameLog},
        header::Header,
    },
    render::context::Context,
    sys::cgroup,
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
