//! The fields of events about processes: who owns a socket, where that process runs, and who is at the other end.

use super::field::{Field, FieldValue, number};
use crate::{
    model::{
        event::{Event, Owner, Peer, Process},
        names::Names,
        place::Place,
        processes::KnownProcess,
    },
    render::field::FieldValue::{List, Null, Number, Text},
};

/// The fields of the owner, for which an unknown one has null.
const OWNER: [Field; 5] = [Field::Pid, Field::Command, Field::Uid, Field::CgroupId, Field::Cgroup];

/// Passes the fields of the owner and the peer to `emit`.
pub(super) fn visit(event: &Event, names: &mut Names, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let owner = event.owner.as_ref();
    match owner {
        Some(owner) => {
            emit(Field::Pid, Number(owner.pid.into()));
            emit(Field::Command, Text(&owner.command.to_text()));
            emit(Field::Uid, Number(owner.uid.into()));
            emit(Field::CgroupId, Number(owner.cgroup));
            emit(Field::Cgroup, names.cgroup(owner.cgroup).map_or(Null, Text));
        }
        None => OWNER.into_iter().for_each(|field| emit(field, Null)),
    }
    emit(Field::OwnerSource, Text(owner.map_or("unknown", |owner| owner.source.name())));
    match &event.candidates {
        Some(candidates) => emit(Field::OwnerCandidates, FieldValue::Json(&pids(candidates))),
        None => emit(Field::OwnerCandidates, Null),
    }
    process(owner, names, emit);
    peer(event.peer.as_ref(), names, emit);
}

/// Passes what is known about a process beyond what the kernel reports with its sockets.
pub(super) fn process(owner: Option<&Owner>, names: &mut Names, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    emit(Field::User, owner.and_then(|owner| names.users.get(&owner.uid)).map_or(Null, |name| Text(name)));
    let (known, runs_at) = owner.map_or((None, None), |owner| names.of(owner));
    read(owner, known, emit);
    place(runs_at, emit);
}

/// The PIDs of processes as an array of JSON.
fn pids(processes: &[Process]) -> Vec<u8> {
    let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
    format!("[{}]", pids.join(",")).into_bytes()
}

fn read(owner: Option<&Owner>, known: Option<&KnownProcess>, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let read = owner.zip(known.and_then(|known| known.names.as_deref()));
    emit(Field::NsPid, number(read.and_then(|(_, names)| names.ns_pid)));
    emit(Field::Executable, read.and_then(|(owner, names)| names.executable(owner.command)).map_or(Null, Text));
    emit(Field::Args, read.and_then(|(owner, names)| names.args(owner.command)).map_or(Null, List));
    let parent = read.and_then(|(_, names)| names.parent);
    emit(Field::ParentPid, number(parent.map(|(pid, _)| pid)));
    match parent {
        Some((_, command)) => emit(Field::ParentCommand, Text(&command.to_text())),
        None => emit(Field::ParentCommand, Null),
    }
}

fn place(place: Option<&Place>, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let text = |name: fn(&Place) -> Option<&str>| place.and_then(name).map_or(Null, Text);
    emit(Field::Unit, text(Place::unit_name));
    emit(Field::ContainerId, text(Place::container_id));
    emit(Field::ContainerName, text(Place::container_name));
    emit(Field::ContainerImage, text(Place::image));
    emit(Field::ContainerRuntime, text(|place| place.runtime()));
    emit(Field::ContainerSource, text(Place::container_source));
    emit(Field::PodUid, text(Place::pod_uid));
    emit(Field::PodName, text(Place::pod_name));
    emit(Field::PodNamespace, text(Place::pod_namespace));
    emit(Field::PodContainer, text(Place::pod_container));
    emit(Field::PodSource, text(Place::pod_source));
}

/// Passes the process at the other end.
pub(super) fn peer(peer: Option<&Peer>, names: &mut Names, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let owner = peer.map(|peer| &peer.owner);
    let (known, place) = owner.map_or((None, None), |owner| names.of(owner));
    let text = |name: fn(&Place) -> Option<&str>| place.and_then(name).map_or(Null, Text);
    emit(Field::PeerPid, number(owner.map(|owner| owner.pid)));
    match owner {
        Some(owner) => emit(Field::PeerCommand, Text(&owner.command.to_text())),
        None => emit(Field::PeerCommand, Null),
    }
    emit(Field::PeerUid, number(owner.map(|owner| owner.uid)));
    let executable = owner.and_then(|owner| known?.executable(owner.command));
    emit(Field::PeerExecutable, executable.map_or(Null, Text));
    emit(Field::PeerUnit, text(Place::unit_name));
    emit(Field::PeerContainerId, text(Place::container_id));
    emit(Field::PeerContainerName, text(Place::container_name));
    emit(Field::PeerPodUid, text(Place::pod_uid));
    emit(Field::PeerPodName, text(Place::pod_name));
    emit(Field::PeerPodNamespace, text(Place::pod_namespace));
    emit(Field::PeerOwnerSource, owner.map_or(Null, |owner| Text(owner.source.name())));
    emit(Field::PeerSource, Text(peer.map_or("unknown", |peer| peer.source.name())));
}
