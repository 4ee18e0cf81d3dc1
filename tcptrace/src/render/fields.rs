//! The fields of an event as machine-readable outputs have them: one list for JSON and CSV.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::BufMut;

use crate::{
    model::{
        errno,
        event::{Event, EventKind, Process, ResetFacts, StateSource},
        state::State,
    },
    render::context::Context,
};

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Not known, or not to be had.
    Null,
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// An address of kernel memory, written in hexadecimal.
    Pointer(u64),
    /// Wall-clock time in ns since the epoch, written as RFC 3339.
    Time(i64),
    /// An address of IP.
    Address(IpAddr),
    /// Yes or no.
    Flag(bool),
    /// JSON, which a cell of CSV holds as it is.
    Json(&'a [u8]),
}

use FieldValue::{Address, Flag, Null, Number, Pointer, Text, Time};

macro_rules! fields {
    ($(#[$about:meta])* $Field:ident { $($variant:ident = $name:literal: $doc:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Field {
            $(#[doc = $doc] $variant),*
        }

        impl $Field {
            /// All fields.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The field's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// What stands before its value in an object of JSON that has a member already.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(",\"", $name, "\":")),*
                }
            }
        }
    };
}
pub(crate) use fields;

fields! {
    /// A field of an event, in the order of CSV's columns.
    Field {
        Event = "event": "Kind of the event.",
        Time = "time": "Wall-clock time.",
        MonoNs = "mono_ns": "CLOCK_MONOTONIC in ns.",
        Cpu = "cpu": "CPU on which it happened.",
        Sk = "sk": "Names the socket in this run while it lives.",
        Cookie = "cookie": "Socket cookie.",
        Netns = "netns": "Inode number of the network namespace.",
        NetnsName = "netns_name": "Name of the network namespace.",
        Family = "family": "Family of the socket.",
        LocalAddress = "local_address": "Local address.",
        LocalPort = "local_port": "Local port.",
        RemoteAddress = "remote_address": "Remote address.",
        RemotePort = "remote_port": "Remote port.",
        State = "state": "State at the event.",
        OldState = "old_state": "State that was left.",
        NewState = "new_state": "State that was entered.",
        NewStateSource = "new_state_source": "How the new state is known.",
        TimeInOldStateNs = "time_in_old_state_ns": "Time in the state that was left, in ns.",
        TimeSource = "time_source": "How that time is known.",
        AfterGap = "after_gap": "Were events of this socket just before lost?",
        HandshakeRttNs = "handshake_rtt_ns": "The kernel's measure of the handshake, in ns.",
        SrttUs = "srtt_us": "Smoothed round-trip time, in µs.",
        TotalRetrans = "total_retrans": "Retransmissions so far.",
        Timeouts = "timeouts": "Timeouts in a row.",
        BytesAcked = "bytes_acked": "Bytes that the peer acknowledged.",
        BytesReceived = "bytes_received": "Bytes received.",
        ReceiveQueue = "receive_queue": "Bytes received and not read.",
        SendQueue = "send_queue": "Bytes that the peer has not acknowledged.",
        LastSentNs = "last_sent_ns": "Time since data was sent, in ns.",
        LastReceivedNs = "last_received_ns": "Time since data was received, in ns.",
        LastAckNs = "last_ack_ns": "Time since an ACK was received, in ns.",
        CloseReason = "ending": "Why the connection ended.",
        ProcessExit = "process_exit": "How the process exits that closes the socket by exiting.",
        ExpiresInNs = "expires_in_ns": "Time until the kernel's timer ends the mini-socket, in ns.",
        Errno = "errno": "Name of the error.",
        Reason = "reason": "The kernel's reason for a RST.",
        ReasonCode = "reason_code": "The same as the kernel's number.",
        Pid = "pid": "PID of the owner.",
        Command = "command": "Command name of the owner.",
        Uid = "uid": "UID of the owner.",
        CgroupId = "cgroup_id": "Id of the owner's cgroup.",
        Cgroup = "cgroup": "Path of the owner's cgroup.",
        OwnerSource = "owner_source": "How the owner is known.",
        OwnerCandidates = "owner_candidates": "PIDs of those that it may be, where it is one of several.",
    }
}

pub(crate) fn number(value: Option<impl Into<u64>>) -> FieldValue<'static> {
    value.map_or(Null, |value| Number(value.into()))
}

fn errno_name(errno: Option<i32>) -> FieldValue<'static> {
    errno.map_or(Null, |errno| errno::name(errno).map_or(Null, Text))
}

/// Shows all fields that an event has, in order, to `show`.
pub(crate) fn visit(event: &Event, context: &mut Context, mut show: impl FnMut(Field, FieldValue<'_>)) {
    show(Field::Event, Text(kind(&event.what)));
    show(Field::Time, Time(context.wall.wall_ns(event.time_ns)));
    show(Field::MonoNs, Number(event.time_ns));
    show(Field::Cpu, number(event.cpu));
    let socket = &event.socket;
    show(Field::Sk, socket.sk.map_or(Null, |sk| Pointer(context.names.addresses.shown(sk))));
    show(Field::Cookie, number(socket.cookie));
    show(Field::Netns, number(socket.netns));
    show(
        Field::NetnsName,
        socket.netns.and_then(|inode| context.names.netns.get(&inode)).map_or(Null, |name| Text(name)),
    );
    show(Field::Family, Text(family(socket.ipv6)));
    end(socket.local, Field::LocalAddress, Field::LocalPort, &mut show);
    end(socket.remote, Field::RemoteAddress, Field::RemotePort, &mut show);
    what(event, context, &mut show);
    owner(event, context, &mut show);
}

/// Name of an event's kind.
pub(crate) const fn kind(what: &EventKind) -> &'static str {
    match what {
        EventKind::Transition(_) => "transition",
        EventKind::Retransmit(_) => "retransmit",
        EventKind::SynAckRetransmit { .. } => "synack_retransmit",
        EventKind::ResetSent { .. } => "reset_sent",
        EventKind::ResetReceived(_) => "reset_received",
        EventKind::OwnerChanged => "owner",
    }
}

fn end(address: SocketAddr, ip: Field, port: Field, show: &mut impl FnMut(Field, FieldValue<'_>)) {
    show(ip, Address(address.ip()));
    show(port, self::port(address));
}

/// Writes an address of IP; IPv4, of which most lines have two, without the machinery of formatting.
pub(crate) fn ip(to: &mut impl BufMut, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        let _ = write!(to.writer(), "{address}"); // to memory
        return;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            to.put_u8(b'.');
        }
        to.put_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

/// Writes an address of kernel memory, as `{:#x}` does.
pub(crate) fn pointer(to: &mut impl BufMut, address: u64) {
    let digits = address.checked_ilog2().unwrap_or(0) / 4 + 1;
    to.put_slice(b"0x");
    for digit in (0..digits).rev() {
        to.put_u8(b"0123456789abcdef"[(address >> (4 * digit) & 15) as usize]);
    }
}

/// The family of a socket.
pub(crate) const fn family(ipv6: bool) -> &'static str {
    if ipv6 { "inet6" } else { "inet" }
}

/// A port, where there is one.
pub(crate) fn port(end: SocketAddr) -> FieldValue<'static> {
    number((end.port() != 0).then_some(end.port()))
}

fn what(event: &Event, context: &Context, show: &mut impl FnMut(Field, FieldValue<'_>)) {
    let state = |state: State| Text(state.name());
    match event.what {
        EventKind::Transition(transition) => {
            show(Field::OldState, state(transition.old));
            show(Field::NewState, state(transition.new));
            show(Field::NewStateSource, Text(transition.source.name()));
            show(Field::TimeInOldStateNs, number(transition.time_in_old.map(|time| time.ns)));
            show(Field::TimeSource, transition.time_in_old.map_or(Null, |time| Text(time.source.name())));
            show(Field::AfterGap, Flag(event.after_gap));
            show(Field::HandshakeRttNs, number(transition.handshake_rtt_ns));
            show(Field::SrttUs, number(transition.srtt_us));
            // A mini-socket does not count.
            let count = |count: u64| if transition.source == StateSource::Polled { Null } else { Number(count) };
            show(Field::TotalRetrans, count(transition.total_retrans.into()));
            show(Field::BytesAcked, count(transition.bytes_acked));
            show(Field::BytesReceived, count(transition.bytes_received));
            show(Field::ReceiveQueue, count(transition.receive_queue.into()));
            show(Field::SendQueue, count(transition.send_queue.into()));
            show(Field::CloseReason, transition.ending.map_or(Null, |ending| Text(ending.name())));
            show(Field::ProcessExit, transition.exit.map_or(Null, |exit| Text(exit.name())));
            show(Field::ExpiresInNs, number(transition.expires_in_ns));
            show(Field::Errno, errno_name(transition.ending.and_then(|ending| ending.errno())));
        }
        EventKind::Retransmit(retransmit) => {
            show(Field::State, state(retransmit.state));
            show(Field::SrttUs, number(retransmit.srtt_us));
            show(Field::TotalRetrans, Number(retransmit.total_retrans.into()));
            show(Field::Timeouts, Number(retransmit.timeouts.into()));
            show(Field::Errno, errno_name(retransmit.failed));
        }
        EventKind::SynAckRetransmit { count } => {
            show(Field::State, state(event.socket.state));
            show(Field::TotalRetrans, Number(count.into()));
        }
        EventKind::ResetSent { reason, facts } => {
            show(Field::State, state(event.socket.state));
            reset(facts, show);
            let name = reason.and_then(|code| context.names.reset_reason(code));
            show(Field::Reason, name.map_or(Null, Text));
            show(Field::ReasonCode, number(reason));
        }
        EventKind::ResetReceived(facts) => {
            show(Field::State, state(event.socket.state));
            reset(facts, show);
        }
        EventKind::OwnerChanged => show(Field::State, state(event.socket.state)),
    }
}

fn reset(facts: Option<ResetFacts>, show: &mut impl FnMut(Field, FieldValue<'_>)) {
    show(Field::ReceiveQueue, number(facts.map(|facts| facts.receive_queue)));
    show(Field::SendQueue, number(facts.map(|facts| facts.send_queue)));
    show(Field::LastSentNs, number(facts.map(|facts| facts.last_sent_ns)));
    show(Field::LastReceivedNs, number(facts.map(|facts| facts.last_received_ns)));
    show(Field::LastAckNs, number(facts.map(|facts| facts.last_ack_ns)));
}

fn owner(event: &Event, context: &mut Context, show: &mut impl FnMut(Field, FieldValue<'_>)) {
    let Some(owner) = &event.owner else {
        for field in [Field::Pid, Field::Command, Field::Uid, Field::CgroupId, Field::Cgroup] {
            show(field, Null);
        }
        show(Field::OwnerSource, Text("unknown"));
        show(Field::OwnerCandidates, Null);
        return;
    };
    show(Field::Pid, Number(owner.pid.into()));
    show(Field::Command, Text(&owner.command.to_text()));
    show(Field::Uid, Number(owner.uid.into()));
    show(Field::CgroupId, Number(owner.cgroup));
    show(Field::Cgroup, context.names.cgroup(owner.cgroup).map_or(Null, Text));
    show(Field::OwnerSource, Text(owner.source.name()));
    match &event.candidates {
        Some(candidates) => show(Field::OwnerCandidates, FieldValue::Json(&pids(candidates))),
        None => show(Field::OwnerCandidates, Null),
    }
}

/// The PIDs of processes as an array of JSON.
fn pids(processes: &[Process]) -> Vec<u8> {
    let pids: Vec<_> = processes.iter().map(|process| process.pid.to_string()).collect();
    format!("[{}]", pids.join(",")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_are_written_as_the_standard_library_does(bits in any::<u128>(), shift in 0..64_u32) {
            for address in [IpAddr::from(Ipv6Addr::from(bits)), Ipv4Addr::from(bits as u32).into()] {
                let mut written = Vec::new();
                ip(&mut written, address);
                prop_assert_eq!(written, address.to_string().into_bytes());
            }
            let mut written = Vec::new();
            pointer(&mut written, bits as u64 >> shift);
            prop_assert_eq!(written, format!("{:#x}", bits as u64 >> shift).into_bytes());
        }
    }
}
