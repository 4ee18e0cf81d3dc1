//! The fields of events in machine-readable outputs: one list for JSON, CSV and OTLP.
//!
//! [`visit`] walks through the fields of an event in order, and each format writes what it gets. A new field takes a row of
//! [`Field`], and a line in `visit`, in one of its helpers, or in `names.rs`.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::BufMut;

pub use super::field::{Field, FieldValue};
pub(crate) use super::field::{fields, number};
use super::{
    field::FieldValue::{Address, Flag, Null, Number, Pointer, Text, Time},
    names,
};
use crate::{
    model::{
        errno,
        event::{Event, EventKind, ResetFacts, StateSource},
        state::State,
    },
    render::context::Context,
};

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
    let service = |end: SocketAddr| context.names.services.get(&end.port()).map_or(Null, |name| Text(name));
    emit(Field::LocalAddress, Address(socket.local.ip()));
    emit(Field::LocalPort, port(socket.local));
    emit(Field::LocalService, service(socket.local));
    emit(Field::RemoteAddress, Address(socket.remote.ip()));
    emit(Field::RemotePort, port(socket.remote));
    emit(Field::RemoteService, service(socket.remote));
    emit(Field::RemoteName, context.names.hosts.of(socket.remote.ip(), context.now_ns).map_or(Null, Text));
    what(event, context, &mut emit);
    names::visit(event, &mut context.names, &mut emit);
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
