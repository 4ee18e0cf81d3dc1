//! The fields of a socket and of a group of sockets in machine-readable outputs: one list for JSON and CSV.

use bytes::{BufMut, BytesMut};

use crate::{
    commands::sockets::{
        listing::Listing,
        rows::{Cgroups, Common, Group, HolderNames, Row},
    },
    model::{
        holders::Holder,
        place::Place,
        socket::{ConnectionInfo, Kind},
        time::WallFormat,
    },
    render::{
        FieldValue::{self, Address, Flag, Json, Null, Number, Pointer, Text, Time},
        fields::{family, fields, number, port},
        json::member,
    },
    sys::cgroup::names::CgroupNames,
};

fields! {
    /// A field of a socket, in the order of CSV's columns.
    SocketField {
        Event = "event": "Kind of the record.",
        Time = "time": "Wall-clock time of the listing.",
        MonoNs = "mono_ns": "CLOCK_MONOTONIC of the listing's end in ns.",
        Sk = "sk": "Identifies the socket in this run.",
        Cookie = "cookie": "Socket cookie.",
        Netns = "netns": "Inode number of the network namespace.",
        NetnsName = "netns_name": "Name of the network namespace.",
        Family = "family": "Family of the socket.",
        LocalAddress = "local_address": "Local address.",
        LocalPort = "local_port": "Local port.",
        RemoteAddress = "remote_address": "Remote address.",
        RemotePort = "remote_port": "Remote port.",
        State = "state": "State.",
        Kind = "kind": "Kind of kernel object.",
        AgeNs = "age_ns": "Time in the state, in ns.",
        AgeSource = "age_source": "How that time is known.",
        ReceiveQueue = "receive_queue": "Bytes that wait to be read.",
        SendQueue = "send_queue": "Bytes not acknowledged by the peer.",
        AcceptQueue = "accept_queue": "Connections that wait to be accepted.",
        AcceptLimit = "accept_limit": "Limit of the accept queue.",
        HalfOpen = "half_open": "Half-open requests of a listener.",
        Timer = "timer": "The running timer.",
        TimerLeftNs = "timer_left_ns": "Time until that timer expires, in ns.",
        Timeouts = "timeouts": "Timeouts in a row.",
        Probes = "probes": "Probes in a row.",
        LastSentNs = "last_sent_ns": "Time since data was sent, in ns.",
        LastReceivedNs = "last_received_ns": "Time since data was received, in ns.",
        LastAckNs = "last_ack_ns": "Time since an ACK was received, in ns.",
        SrttUs = "srtt_us": "Smoothed round-trip time, in µs.",
        TotalRetrans = "total_retrans": "Retransmissions so far.",
        BytesAcked = "bytes_acked": "Bytes that the peer acknowledged.",
        BytesReceived = "bytes_received": "Bytes received.",
        SocketUid = "socket_uid": "UID of the socket's file.",
        Pid = "pid": "PID of the owner.",
        Command = "command": "Command name of the owner.",
        Uid = "uid": "UID of the owner.",
        OwnerSource = "owner_source": "How the owner is known.",
        HeldBy = "held_by": "Whether processes or only the kernel hold it.",
        Shared = "shared": "Whether more than one process holds it.",
        Holders = "holders": "The descriptors that processes have of it.",
        PeerHolders = "peer_holders": "The descriptors that processes have of the socket at the other end.",
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "full",
        Kind::TimeWait => "mini",
        Kind::Request => "request",
    }
}

/// The holders of both ends of a socket as JSON arrays.
#[derive(Default)]
pub(super) struct HolderLists {
    own: BytesMut,
    peer: BytesMut,
}

impl HolderLists {
    /// Writes those of this socket.
    pub(super) fn fill(&mut self, row: &Row<'_>, cgroups: &Cgroups, time: &mut WallFormat) {
        self.own.clear();
        holders(&mut self.own, row.holders, cgroups, time);
        self.peer.clear();
        holders(&mut self.peer, row.peer.unwrap_or_default(), cgroups, time);
    }
}

/// Passes all fields of a socket to `show`, in order.
pub(super) fn visit(
    row: &Row<'_>,
    listing: &Listing<'_>,
    holders: &HolderLists,
    mut show: impl FnMut(SocketField, FieldValue<'_>),
) {
    use SocketField as Field;
    let socket = row.socket;
    let ended_ns = listing.snapshot.ended_ns;
    show(Field::Event, Text("socket"));
    show(Field::Time, Time(listing.wall.wall_ns(ended_ns)));
    show(Field::MonoNs, Number(ended_ns));
    show(Field::Sk, socket.sk.map_or(Null, Pointer));
    show(Field::Cookie, number(socket.cookie));
    show(Field::Netns, Number(socket.netns.into()));
    show(Field::NetnsName, row.netns_name.map_or(Null, Text));
    show(Field::Family, Text(family(socket.ipv6)));
    show(Field::LocalAddress, Address(socket.local.ip()));
    show(Field::LocalPort, port(socket.local));
    show(Field::RemoteAddress, Address(socket.remote.ip()));
    show(Field::RemotePort, port(socket.remote));
    show(Field::State, Text(socket.state.name()));
    show(Field::Kind, Text(kind(socket.kind)));
    show(Field::AgeNs, number(row.age.map(|age| age.ns)));
    show(Field::AgeSource, row.age.map_or(Null, |age| Text(age.source.name())));
    let listed = |value: u32| (!socket.is_unlisted).then_some(value);
    let queue = |of_listener: bool, length| number(listed(length).filter(|_| row.is_listener() == of_listener));
    show(Field::ReceiveQueue, queue(false, socket.receive_queue));
    show(Field::SendQueue, queue(false, socket.send_queue));
    show(Field::AcceptQueue, queue(true, socket.receive_queue));
    show(Field::AcceptLimit, queue(true, socket.send_queue));
    show(Field::HalfOpen, number(row.half_open));
    show(Field::Timer, socket.timer_name().map_or(Null, Text));
    show(Field::TimerLeftNs, number(socket.timer.map(|timer| timer.left_ns)));
    show(Field::Timeouts, number(listed(socket.timeouts.into())));
    show(Field::Probes, number(listed(socket.probes.into())));
    let known = |value: fn(&ConnectionInfo) -> u64| number(socket.connection.as_ref().map(value));
    show(Field::LastSentNs, known(|info| info.last_sent_ns));
    show(Field::LastReceivedNs, known(|info| info.last_received_ns));
    show(Field::LastAckNs, known(|info| info.last_ack_ns));
    show(Field::SrttUs, number(socket.connection.and_then(|info| info.srtt_us)));
    show(Field::TotalRetrans, known(|info| info.total_retrans.into()));
    show(Field::BytesAcked, known(|info| info.bytes_acked));
    show(Field::BytesReceived, known(|info| info.bytes_received));
    show(Field::SocketUid, number(socket.uid));
    let owner = socket.owner.as_ref();
    show(Field::Pid, number(owner.map(|owner| owner.pid)));
    show(Field::Command, owner.map(|owner| owner.command.to_text()).as_deref().map_or(Null, Text));
    show(Field::Uid, number(owner.map(|owner| owner.uid)));
    show(Field::OwnerSource, Text(owner.map_or("unknown", |owner| owner.source.name())));
    show(Field::HeldBy, Text(row.held_by.name()));
    show(Field::Shared, Flag(row.is_shared()));
    show(Field::Holders, Json(&holders.own));
    show(Field::PeerHolders, row.peer.map_or(Null, |_| Json(&holders.peer)));
}

/// Writes the holders of a socket as a JSON array.
fn holders(to: &mut BytesMut, holders: &[Holder], cgroups: &Cgroups, time: &mut WallFormat) {
    to.put_u8(b'[');
    for (index, holder) in holders.iter().enumerate() {
        to.put_slice(if index == 0 { b"{\"pid\":" } else { b",{\"pid\":" });
        to.put_slice(itoa::Buffer::new().format(holder.pid).as_bytes());
        let (names, cgroup) = (cgroups.names_of(holder), cgroups.of(holder.pid));
        visit_holder(holder, &names, cgroup.as_deref(), |name, value| member(to, name, value, time));
        to.put_u8(b'}');
    }
    to.put_u8(b']');
}

fn visit_holder(
    holder: &Holder,
    names: &HolderNames,
    cgroup: Option<&CgroupNames>,
    mut show: impl FnMut(&'static str, FieldValue<'_>),
) {
    let process = names.process.as_ref();
    show("ns_pid", Number(holder.ns_pid.into()));
    show("fd", Number(holder.fd.into()));
    show("command", Text(&holder.command.to_text()));
    show("uid", Number(holder.uid.into()));
    show("user", names.user.as_deref().map_or(Null, Text));
    show("cgroup", cgroup.map_or(Null, |names| Text(&names.path)));
    show("executable", process.and_then(|process| process.executable(holder.command)).map_or(Null, Text));
    show("args", process.and_then(|process| process.args(holder.command)).map_or(Null, FieldValue::List));
    let parent = process.and_then(|process| process.parent);
    show("parent_pid", number(parent.map(|(pid, _)| pid)));
    show("parent_command", parent.map(|(_, command)| command.to_text().into_owned()).as_deref().map_or(Null, Text));
    // Without names of containers and pods, the path of the cgroup still has their ids.
    let of_path = names.place.is_none().then(|| cgroup.map(|names| Place::from_cgroup(&names.path))).flatten();
    let place = names.place.as_deref().or(of_path.as_ref());
    let text = |name: fn(&Place) -> Option<&str>| place.and_then(name).map_or(Null, Text);
    show("unit", text(Place::unit_name));
    show("container_id", text(Place::container_id));
    show("container_name", text(Place::container_name));
    show("container_image", text(Place::image));
    show("container_runtime", text(|place| place.runtime()));
    show("container_source", text(|place| place.container_source()));
    show("pod_uid", text(Place::pod_uid));
    show("pod_name", text(Place::pod_name));
    show("pod_namespace", text(Place::pod_namespace));
    show("pod_container", text(Place::pod_container));
    show("pod_source", text(|place| place.pod_source()));
}

fn visit_names(cgroup: Option<&CgroupNames>, mut show: impl FnMut(&'static str, FieldValue<'_>)) {
    let text = |name: fn(&CgroupNames) -> Option<&str>| cgroup.and_then(name).map_or(Null, Text);
    show("unit", text(|names| names.unit.as_deref()));
    show("container_id", text(|names| names.container_id.as_deref()));
    show("container_runtime", text(|names| names.container_runtime));
    show("pod_uid", text(|names| names.pod_uid.as_deref()));
}

/// Columns of CSV for groups; those of the states follow.
pub const COUNT_COLUMNS: [&str; 13] = [
    "event",
    "time",
    "mono_ns",
    "by",
    "group",
    "second_by",
    "second_group",
    "command",
    "unit",
    "container_id",
    "container_runtime",
    "pod_uid",
    "sockets",
];

/// Passes the fields of a group to `show`, named as in [`COUNT_COLUMNS`].
pub(super) fn visit_group(group: &Group, listing: &Listing<'_>, mut show: impl FnMut(&'static str, FieldValue<'_>)) {
    let ended_ns = listing.snapshot.ended_ns;
    show("event", Text("socket_count"));
    show("time", Time(listing.wall.wall_ns(ended_ns)));
    show("mono_ns", Number(ended_ns));
    show("by", listing.by.first().map_or(Null, |by| Text(by.name())));
    show("group", Text(&group.common.to_string()));
    show("second_by", listing.by.get(1).map_or(Null, |by| Text(by.name())));
    show("second_group", group.second.as_ref().map(ToString::to_string).as_deref().map_or(Null, Text));
    show("command", group.command.as_ref().map(|command| command.to_text()).as_deref().map_or(Null, Text));
    visit_names(names(group).as_ref(), &mut show);
    show("sockets", Number(group.sockets));
}

/// The names in the path of a group's cgroup.
pub(super) fn names(group: &Group) -> Option<CgroupNames> {
    [Some(&group.common), group.second.as_ref()].into_iter().flatten().find_map(|common| match common {
        Common::Cgroup(path) => Some(CgroupNames::new(path.clone())),
        _ => None,
    })
}
