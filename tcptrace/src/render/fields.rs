//! The fields of events in machine-readable outputs: one list for JSON, CSV and OTLP.
//!
//! [`visit`] walks through the fields of an event in order, and each format writes what it gets. A new field takes a row of
//! [`Field`], and a line in `visit`, in one of its helpers, or in `names.rs`.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use bytes::BufMut;

pub(crate) use super::field::{Emit, fields, number};
pub use super::field::{Field, FieldValue};
use super::{
    field::FieldValue::{Address, Flag, Null, Number, Pointer, Text, Time, Word},
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
    errno.map_or(Null, |errno| errno::name(errno).map_or(Null, Word))
}

/// Passes all fields that an event has, in order.
pub(crate) fn visit(event: &Event, context: &mut Context, to: &mut impl Emit) {
    to.emit(Field::Event, Word(event.what.row().name));
    to.emit(Field::Time, Time(context.wall.wall_ns(event.time_ns)));
    to.emit(Field::MonoNs, Number(event.time_ns));
    to.emit(Field::Cpu, number(event.cpu));
    let socket = &event.socket;
    to.emit(Field::Sk, socket.sk.map_or(Null, |sk| Pointer(context.names.addresses.printed(sk))));
    to.emit(Field::Cookie, number(socket.cookie));
    to.emit(Field::Netns, number(socket.netns));
    to.emit(
        Field::NetnsName,
        socket.netns.and_then(|inode| context.names.netns.get(&inode)).map_or(Null, |name| Text(name)),
    );
    to.emit(Field::Family, Word(family(socket.ipv6)));
    let service = |end: SocketAddr| context.names.services.get(&end.port()).map_or(Null, |name| Text(name));
    to.emit(Field::LocalAddress, Address(socket.local.ip()));
    to.emit(Field::LocalPort, port(socket.local));
    to.emit(Field::LocalService, service(socket.local));
    to.emit(Field::RemoteAddress, Address(socket.remote.ip()));
    to.emit(Field::RemotePort, port(socket.remote));
    to.emit(Field::RemoteService, service(socket.remote));
    to.emit(Field::RemoteName, context.names.hosts.of(socket.remote.ip(), context.now_ns).map_or(Null, Text));
    what(event, context, to);
    names::visit(event, &mut context.names, to);
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

fn what(event: &Event, context: &Context, to: &mut impl Emit) {
    let state = |state: State| Word(state.name());
    match event.what {
        EventKind::Transition(transition) => {
            to.emit(Field::OldState, state(transition.old));
            to.emit(Field::NewState, state(transition.new));
            to.emit(Field::NewStateSource, Word(transition.source.name()));
            to.emit(Field::TimeInOldStateNs, number(transition.time_in_old.map(|time| time.ns)));
            to.emit(Field::TimeSource, transition.time_in_old.map_or(Null, |time| Word(time.source.name())));
            to.emit(Field::AfterGap, Flag(event.after_gap));
            to.emit(Field::HandshakeRttNs, number(transition.handshake_rtt_ns));
            to.emit(Field::SrttUs, number(transition.srtt_us));
            // A mini-socket has no counters.
            let count = |count: u64| if transition.source == StateSource::Polled { Null } else { Number(count) };
            to.emit(Field::TotalRetrans, count(transition.total_retrans.into()));
            to.emit(Field::BytesAcked, count(transition.bytes_acked));
            to.emit(Field::BytesReceived, count(transition.bytes_received));
            to.emit(Field::ReceiveQueue, count(transition.receive_queue.into()));
            to.emit(Field::SendQueue, count(transition.send_queue.into()));
            to.emit(Field::CloseReason, transition.ending.map_or(Null, |ending| Word(ending.name())));
            to.emit(Field::ProcessExit, transition.exit.map_or(Null, |exit| Word(exit.name())));
            to.emit(Field::ExpiresInNs, number(transition.expires_in_ns));
            to.emit(Field::Errno, errno_name(transition.ending.and_then(|ending| ending.errno())));
        }
        EventKind::Retransmit(retransmit) => {
            to.emit(Field::State, state(retransmit.state));
            to.emit(Field::SrttUs, number(retransmit.srtt_us));
            to.emit(Field::TotalRetrans, Number(retransmit.total_retrans.into()));
            to.emit(Field::Timeouts, Number(retransmit.timeouts.into()));
            to.emit(Field::Errno, errno_name(retransmit.failed));
        }
        EventKind::SynAckRetransmit { count } => {
            to.emit(Field::State, state(event.socket.state));
            to.emit(Field::TotalRetrans, Number(count.into()));
        }
        EventKind::ResetSent { reason, facts } => {
            to.emit(Field::State, state(event.socket.state));
            reset(facts, to);
            let name = reason.and_then(|code| context.names.reset_reason(code));
            to.emit(Field::Reason, name.map_or(Null, Text));
            to.emit(Field::ReasonCode, number(reason));
        }
        EventKind::ResetReceived(facts) => {
            to.emit(Field::State, state(event.socket.state));
            reset(facts, to);
        }
        EventKind::OwnerChanged => to.emit(Field::State, state(event.socket.state)),
    }
}

fn reset(facts: Option<ResetFacts>, to: &mut impl Emit) {
    to.emit(Field::ReceiveQueue, number(facts.map(|facts| facts.receive_queue)));
    to.emit(Field::SendQueue, number(facts.map(|facts| facts.send_queue)));
    to.emit(Field::LastSentNs, number(facts.map(|facts| facts.last_sent_ns)));
    to.emit(Field::LastReceivedNs, number(facts.map(|facts| facts.last_received_ns)));
    to.emit(Field::LastAckNs, number(facts.map(|facts| facts.last_ack_ns)));
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
