//! The fields of events about processes: who owns a socket, where that process runs, and who is at the other end.

use super::field::{Emit, Field, FieldValue, NO_CONTAINER, NO_PEER, NOT_READ, number};
use crate::{
    model::{
        event::{Event, Owner, Peer, Process},
        names::Names,
        place::Place,
        processes::KnownProcess,
    },
    render::field::FieldValue::{List, Null, Nulls, Number, Text, Word},
};

/// The fields of the owner, for which an unknown one has null.
const OWNER: [Field; 5] = [Field::Pid, Field::Command, Field::Uid, Field::CgroupId, Field::Cgroup];

/// Passes the fields of the owner and the peer.
pub(super) fn visit(event: &Event, names: &mut Names, to: &mut impl Emit) {
    let owner = event.owner.as_ref();
    match owner {
        Some(owner) => {
            to.emit(Field::Pid, Number(owner.pid.into()));
            to.emit(Field::Command, Text(&owner.command.to_text()));
            to.emit(Field::Uid, Number(owner.uid.into()));
            to.emit(Field::CgroupId, Number(owner.cgroup));
            to.emit(Field::Cgroup, names.cgroup(owner.cgroup).map_or(Null, Text));
        }
        None => OWNER.into_iter().for_each(|field| to.emit(field, Null)),
    }
    to.emit(Field::OwnerSource, Word(owner.map_or("unknown", |owner| owner.source.name())));
    match &event.candidates {
        Some(candidates) => to.emit(Field::OwnerCandidates, FieldValue::Json(&pids(candidates))),
        None => to.emit(Field::OwnerCandidates, Null),
    }
    process(owner, names, to);
    peer(event.peer.as_ref(), names, to);
}

/// Passes what is known about a process beyond what the kernel reports with its sockets.
pub(super) fn process(owner: Option<&Owner>, names: &mut Names, to: &mut impl Emit) {
    to.emit(Field::User, owner.and_then(|owner| names.users.get(&owner.uid)).map_or(Null, |name| Text(name)));
    let (known, runs_at) = owner.map_or((None, None), |owner| names.of(owner));
    read(owner, known, to);
    place(runs_at, to);
}

/// The PIDs of processes as an array of JSON.
fn pids(processes: &[Process]) -> Vec<u8> {
    let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
    format!("[{}]", pids.join(",")).into_bytes()
}

fn read(owner: Option<&Owner>, known: Option<&KnownProcess>, to: &mut impl Emit) {
    let Some((owner, names)) = owner.zip(known.and_then(|known| known.names.as_deref())) else {
        return to.emit(Field::NsPid, Nulls(&NOT_READ));
    };
    to.emit(Field::NsPid, number(names.ns_pid));
    to.emit(Field::Executable, names.executable(owner.command).map_or(Null, Text));
    to.emit(Field::Args, names.args(owner.command).map_or(Null, List));
    to.emit(Field::ParentPid, number(names.parent.map(|(pid, _)| pid)));
    match names.parent {
        Some((_, command)) => to.emit(Field::ParentCommand, Text(&command.to_text())),
        None => to.emit(Field::ParentCommand, Null),
    }
}

fn place(place: Option<&Place>, to: &mut impl Emit) {
    let text = |name: fn(&Place) -> Option<&str>| place.and_then(name).map_or(Null, Text);
    to.emit(Field::Unit, text(Place::unit_name));
    if place.is_none_or(|place| place.container.is_none() && place.pod.is_none()) {
        return to.emit(Field::ContainerId, Nulls(&NO_CONTAINER));
    }
    to.emit(Field::ContainerId, text(Place::container_id));
    to.emit(Field::ContainerName, text(Place::container_name));
    to.emit(Field::ContainerImage, text(Place::image));
    to.emit(Field::ContainerRuntime, text(|place| place.runtime()));
    to.emit(Field::ContainerSource, text(Place::container_source));
    to.emit(Field::PodUid, text(Place::pod_uid));
    to.emit(Field::PodName, text(Place::pod_name));
    to.emit(Field::PodNamespace, text(Place::pod_namespace));
    to.emit(Field::PodContainer, text(Place::pod_container));
    to.emit(Field::PodSource, text(Place::pod_source));
}

/// Passes the process at the other end.
pub(super) fn peer(peer: Option<&Peer>, names: &mut Names, to: &mut impl Emit) {
    let Some(Peer { owner, source }) = peer else {
        to.emit(Field::PeerPid, Nulls(&NO_PEER));
        return to.emit(Field::PeerSource, Word("unknown"));
    };
    let (known, place) = names.of(owner);
    let text = |name: fn(&Place) -> Option<&str>| place.and_then(name).map_or(Null, Text);
    to.emit(Field::PeerPid, Number(owner.pid.into()));
    to.emit(Field::PeerCommand, Text(&owner.command.to_text()));
    to.emit(Field::PeerUid, Number(owner.uid.into()));
    let executable = known.and_then(|known| known.executable(owner.command));
    to.emit(Field::PeerExecutable, executable.map_or(Null, Text));
    to.emit(Field::PeerUnit, text(Place::unit_name));
    to.emit(Field::PeerContainerId, text(Place::container_id));
    to.emit(Field::PeerContainerName, text(Place::container_name));
    to.emit(Field::PeerPodUid, text(Place::pod_uid));
    to.emit(Field::PeerPodName, text(Place::pod_name));
    to.emit(Field::PeerPodNamespace, text(Place::pod_namespace));
    to.emit(Field::PeerOwnerSource, Word(owner.source.name()));
    to.emit(Field::PeerSource, Word(source.name()));
}
