//! The fields of events in machine-readable outputs: one list for JSON, CSV and OTLP.
//!
//! [`visit`] walks through the fields of an event in order, and each format writes what it gets. A new field takes a row of
//! [`Field`] and a line in `visit` or one of its helpers.

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
    /// Not known.
    Null,
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// A kernel address, written in hexadecimal.
    Pointer(u64),
    /// Wall-clock time in ns since the epoch, written as RFC 3339.
    Time(i64),
    /// An IP address.
    Address(IpAddr),
    /// A boolean.
    Flag(bool),
    /// JSON, which CSV writes as text.
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

            /// The name in all outputs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The name as it stands before a value in JSON, with a comma for the member before.
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
        Sk = "sk": "Identifies the socket while it lives, in this run.",
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
        AfterGap = "after_gap": "Whether earlier events of this socket were lost.",
        HandshakeRttNs = "handshake_rtt_ns": "Round-trip time of the handshake, measured by the kernel, in ns.",
        SrttUs = "srtt_us": "Smoothed round-trip time, in µs.",
        TotalRetrans = "total_retrans": "Retransmissions so far.",
        Timeouts = "timeouts": "Timeouts in a row.",
        BytesAcked = "bytes_acked": "Bytes that the peer acknowledged.",
        BytesReceived = "bytes_received": "Bytes received.",
        ReceiveQueue = "receive_queue": "Bytes received but not read.",
        SendQueue = "send_queue": "Bytes not acknowledged by the peer.",
        LastSentNs = "last_sent_ns": "Time since data was sent, in ns.",
        LastReceivedNs = "last_received_ns": "Time since data was received, in ns.",
        LastAckNs = "last_ack_ns": "Time since an ACK was received, in ns.",
        CloseReason = "ending": "Why the connection ended.",
        ProcessExit = "process_exit": "How the process exited, if its exit closed the socket.",
        ExpiresInNs = "expires_in_ns": "Time until the kernel's timer ends the mini-socket, in ns.",
        Errno = "errno": "Name of the error.",
        Reason = "reason": "The kernel's reason for sending a RST.",
        ReasonCode = "reason_code": "Number of that reason in the kernel.",
        Pid = "pid": "PID of the owner.",
        Command = "command": "Command name of the owner.",
        Uid = "uid": "UID of the owner.",
        CgroupId = "cgroup_id": "Id of the owner's cgroup.",
        Cgroup = "cgroup": "Path of the owner's cgroup.",
        OwnerSource = "owner_source": "How the owner is known.",
        OwnerCandidates = "owner_candidates": "PIDs of the possible owners, if there are several.",
    }
}

pub(crate) fn number(value: Option<impl Into<u64>>) -> FieldValue<'static> {
    value.map_or(Null, |value| Number(value.into()))
}

fn errno_name(errno: Option<i32>) -> FieldValue<'static> {
    errno.map_or(Null, |errno| errno::name(errno).map_or(Null, Text))
}

/// Passes all fields that an event has to `emit`, in order.
pub(crate) fn visit(event: &Event, context: &mut Context, mut emit: impl FnMut(Field, FieldValue<'_>)) {
    emit(Field::Event, Text(event.what.row().name));
    emit(Field::Time, Time(context.wall.wall_ns(event.time_ns)));
    emit(Field::MonoNs, Number(event.time_ns));
    emit(Field::Cpu, number(event.cpu));
    let socket = &event.socket;
    emit(Field::Sk, socket.sk.map_or(Null, |sk| Pointer(context.names.addresses.printed(sk))));
    emit(Field::Cookie, number(socket.cookie));
    emit(Field::Netns, number(socket.netns));
    emit(
        Field::NetnsName,
        socket.netns.and_then(|inode| context.names.netns.get(&inode)).map_or(Null, |name| Text(name)),
    );
    emit(Field::Family, Text(family(socket.ipv6)));
    end(socket.local, Field::LocalAddress, Field::LocalPort, &mut emit);
    end(socket.remote, Field::RemoteAddress, Field::RemotePort, &mut emit);
    what(event, context, &mut emit);
    owner(event, context, &mut emit);
}

fn end(address: SocketAddr, ip: Field, port: Field, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    emit(ip, Address(address.ip()));
    emit(port, self::port(address));
}

/// Writes an IP address. IPv4, of which most lines have two, is written without `fmt`, which is slow.
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

/// Writes a kernel address as `{:#x}` does.
pub(crate) fn pointer(to: &mut impl BufMut, address: u64) {
    let digits = address.checked_ilog2().unwrap_or(0) / 4 + 1;
    to.put_slice(b"0x");
    for digit in (0..digits).rev() {
        to.put_u8(b"0123456789abcdef"[(address >> (4 * digit) & 15) as usize]);
    }
}

pub(crate) const fn family(ipv6: bool) -> &'static str {
    if ipv6 { "inet6" } else { "inet" }
}

/// The port, or null for port 0.
pub(crate) fn port(end: SocketAddr) -> FieldValue<'static> {
    number((end.port() != 0).then_some(end.port()))
}

fn what(event: &Event, context: &Context, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let state = |state: State| Text(state.name());
    match event.what {
        EventKind::Transition(transition) => {
            emit(Field::OldState, state(transition.old));
            emit(Field::NewState, state(transition.new));
            emit(Field::NewStateSource, Text(transition.source.name()));
            emit(Field::TimeInOldStateNs, number(transition.time_in_old.map(|time| time.ns)));
            emit(Field::TimeSource, transition.time_in_old.map_or(Null, |time| Text(time.source.name())));
            emit(Field::AfterGap, Flag(event.after_gap));
            emit(Field::HandshakeRttNs, number(transition.handshake_rtt_ns));
            emit(Field::SrttUs, number(transition.srtt_us));
            // A mini-socket has no counters.
            let count = |count: u64| if transition.source == StateSource::Polled { Null } else { Number(count) };
            emit(Field::TotalRetrans, count(transition.total_retrans.into()));
            emit(Field::BytesAcked, count(transition.bytes_acked));
            emit(Field::BytesReceived, count(transition.bytes_received));
            emit(Field::ReceiveQueue, count(transition.receive_queue.into()));
            emit(Field::SendQueue, count(transition.send_queue.into()));
            emit(Field::CloseReason, transition.ending.map_or(Null, |ending| Text(ending.name())));
            emit(Field::ProcessExit, transition.exit.map_or(Null, |exit| Text(exit.name())));
            emit(Field::ExpiresInNs, number(transition.expires_in_ns));
            emit(Field::Errno, errno_name(transition.ending.and_then(|ending| ending.errno())));
        }
        EventKind::Retransmit(retransmit) => {
            emit(Field::State, state(retransmit.state));
            emit(Field::SrttUs, number(retransmit.srtt_us));
            emit(Field::TotalRetrans, Number(retransmit.total_retrans.into()));
            emit(Field::Timeouts, Number(retransmit.timeouts.into()));
            emit(Field::Errno, errno_name(retransmit.failed));
        }
        EventKind::SynAckRetransmit { count } => {
            emit(Field::State, state(event.socket.state));
            emit(Field::TotalRetrans, Number(count.into()));
        }
        EventKind::ResetSent { reason, facts } => {
            emit(Field::State, state(event.socket.state));
            reset(facts, emit);
            let name = reason.and_then(|code| context.names.reset_reason(code));
            emit(Field::Reason, name.map_or(Null, Text));
            emit(Field::ReasonCode, number(reason));
        }
        EventKind::ResetReceived(facts) => {
            emit(Field::State, state(event.socket.state));
            reset(facts, emit);
        }
        EventKind::OwnerChanged => emit(Field::State, state(event.socket.state)),
    }
}

fn reset(facts: Option<ResetFacts>, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    emit(Field::ReceiveQueue, number(facts.map(|facts| facts.receive_queue)));
    emit(Field::SendQueue, number(facts.map(|facts| facts.send_queue)));
    emit(Field::LastSentNs, number(facts.map(|facts| facts.last_sent_ns)));
    emit(Field::LastReceivedNs, number(facts.map(|facts| facts.last_received_ns)));
    emit(Field::LastAckNs, number(facts.map(|facts| facts.last_ack_ns)));
}

fn owner(event: &Event, context: &mut Context, emit: &mut impl FnMut(Field, FieldValue<'_>)) {
    let Some(owner) = &event.owner else {
        for field in [Field::Pid, Field::Command, Field::Uid, Field::CgroupId, Field::Cgroup] {
            emit(field, Null);
        }
        emit(Field::OwnerSource, Text("unknown"));
        emit(Field::OwnerCandidates, Null);
        return;
    };
    emit(Field::Pid, Number(owner.pid.into()));
    emit(Field::Command, Text(&owner.command.to_text()));
    emit(Field::Uid, Number(owner.uid.into()));
    emit(Field::CgroupId, Number(owner.cgroup));
    emit(Field::Cgroup, context.names.cgroup(owner.cgroup).map_or(Null, Text));
    emit(Field::OwnerSource, Text(owner.source.name()));
    match &event.candidates {
        Some(candidates) => emit(Field::OwnerCandidates, FieldValue::Json(&pids(candidates))),
        None => emit(Field::OwnerCandidates, Null),
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
