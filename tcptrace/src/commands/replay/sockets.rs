//! The sockets that existed at a moment of a recording: the table of the session, with what listings have shown.

use std::{collections::HashMap, sync::Arc};

use anyhow::anyhow;

use super::player::Player;
use crate::{
    cli::args::SocketsArgs,
    commands::sockets::{self, Machine, View},
    model::{
        age::AgeSource,
        filter::Filter,
        holders::Holder,
        namespace::Namespace,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket},
        state::State,
    },
    outputs::messages::info,
    table::Connection,
};

/// Prints the sockets at the end of the window.
pub(super) fn show(args: &SocketsArgs, view: &View, filter: &Filter, mut player: Player) -> anyhow::Result<()> {
    player.read()?;
    let (table, now_ns) = (player.session.table(), player.now_ns);
    let mut unlisted = 0;
    let mut sockets = Vec::new();
    for known in table.all() {
        let listed = known.cookie().and_then(|cookie| player.listed.get(&cookie));
        let socket = socket(known, listed);
        unlisted += u64::from(socket.is_unlisted);
        sockets.push(socket);
    }
    let holders = table.holders().cloned();
    let holders_of = |holders: &[Holder]| -> HashMap<u32, String> {
        let path = |holder: &Holder| Some((holder.pid, player.known.borrow().cgroup(holder.cgroup?)?));
        holders.iter().filter_map(path).collect()
    };
    let cgroups = holders.as_ref().map(|holders| holders_of(holders.all())).unwrap_or_default();
    let named = player.session.context.names.netns.iter();
    let namespaces = named
        .map(|(inode, name)| Namespace { inode: *inode, name: Some(name.clone()), ..Namespace::default() })
        .collect();
    let snapshot =
        Snapshot { started_ns: now_ns, ended_ns: now_ns, sockets, holders, namespaces, ..Snapshot::default() };
    let machine = Machine {
        wall: player.session.context.wall,
        cgroup_of: Arc::new(move |pid| cgroups.get(&pid).cloned()),
        is_here: false,
    };
    // The recorder has hidden kernel addresses.
    let args = SocketsArgs { kernel_addresses: true, ..args.clone() };
    sockets::print::<anyhow::Error>(&args, view, filter, snapshot, &machine).map_err(|error| anyhow!("{error}"))?;
    info("states are those of that moment; queues, timers and holders are those of the last listing before it");
    if unlisted > 0 {
        info(format_args!("{unlisted} sockets were in no listing: their queues, timers and holders are unknown"));
    }
    Ok(())
}

/// A socket as the table knows it.
fn socket(known: &Connection, listed: Option<&ListedSocket>) -> ListedSocket {
    let kind = match known.state {
        _ if known.is_timewait() => Kind::TimeWait,
        State::SynRecv => Kind::Request,
        _ => Kind::Full,
    };
    let netns = known.netns().unwrap_or(0);
    let new = ListedSocket::new(kind, known.state, netns, known.local(), known.remote());
    let base = match listed {
        Some(listed) if listed.state == known.state => *listed,
        // Its queues and timers were those of another state.
        Some(listed) => {
            ListedSocket { sk: listed.sk, handle: listed.handle, uid: listed.uid, is_unlisted: true, ..new }
        }
        None => ListedSocket { is_unlisted: true, ..new },
    };
    ListedSocket {
        cookie: known.cookie(),
        state: known.state,
        kind,
        local: known.local(),
        remote: known.remote(),
        ipv6: known.is_ipv6(),
        owner: known.owner().or(base.owner),
        entered_ns: (known.since == AgeSource::Observed).then_some(known.since_ns),
        ..base
    }
}
