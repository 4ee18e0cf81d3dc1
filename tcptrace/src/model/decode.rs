//! Decodes bytes from the rings or from a recording into events. The bytes are untrusted.

use std::net::SocketAddr;

use tcptrace_common::{
    record::{
        self, Header, KIND_OWNER, KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT,
        KIND_TRANSITION, WIRE_VERSION, owner_source, socket_flag,
    },
    state::{after_close, is_passive_open},
};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::model::{
    age::TIME_WAIT_NS,
    close_reason::CloseReason,
    event::{
        Command, Event, EventKind, Exit, Owner, OwnerSource, ResetFacts, Retransmit, Socket, StartTicks, StateSource,
        TimeInState, TimeSource, Transition, address, is_ipv6,
    },
    state::State,
};

/// Maps the number by which the BPF programs identify the selected network namespace to its inode number. The programs
/// use the namespace cookie, which is never reused, whereas inode numbers are reused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetnsAlias {
    /// Lower half of its cookie.
    pub name: u32,
    /// Inode number of its nsfs file.
    pub inode: u32,
}

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DecodeError {
    #[error("a record of {have} bytes claims to have {want}")]
    Length { have: usize, want: usize },
    #[error("record version {0}, expected {WIRE_VERSION}")]
    Version(u8),
    #[error("unknown record kind {0}")]
    Kind(u8),
    #[error("unknown TCP state {0}")]
    State(u8),
    #[error("unknown owner source {0}")]
    OwnerSource(u8),
}

/// Decodes one record.
///
/// # Errors
/// If the bytes are not exactly one record of this version with valid values.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let header: Header = prefix(bytes)?;
    if header.version != WIRE_VERSION {
        return Err(DecodeError::Version(header.version));
    }
    if usize::from(header.len) != bytes.len() {
        return Err(DecodeError::Length { have: bytes.len(), want: header.len.into() });
    }
    match header.kind {
        KIND_TRANSITION => {
            let record: record::Transition = whole(bytes)?;
            let what = EventKind::Transition(transition(&record)?);
            event(&header, &record.socket, &record.owner, what)
        }
        KIND_RETRANSMIT => {
            let record: record::Retransmit = whole(bytes)?;
            let what = EventKind::Retransmit(Retransmit {
                state: state(record.socket.state)?,
                total_retrans: record.total_retrans,
                timeouts: record.timeouts,
                srtt_us: srtt_us(record.srtt_us8),
                failed: (record.err != 0).then(|| record.err.saturating_neg()),
            });
            event(&header, &record.socket, &record.owner, what)
        }
        KIND_SYNACK_RETRANSMIT => {
            let record: record::Retransmit = whole(bytes)?;
            let what = EventKind::SynAckRetransmit { count: record.total_retrans };
            event(&header, &record.socket, &record.owner, what)
        }
        KIND_RESET_SENT => {
            let record: record::Reset = whole(bytes)?;
            let reason = (record.has_reason != 0).then_some(record.reason);
            let what = EventKind::ResetSent { reason, facts: reset_facts(&record) };
            event(&header, &record.socket, &record.owner, what)
        }
        KIND_RESET_RECEIVED => {
            let record: record::Reset = whole(bytes)?;
            event(&header, &record.socket, &record.owner, EventKind::ResetReceived(reset_facts(&record)))
        }
        KIND_OWNER => {
            let record: record::OwnerChange = whole(bytes)?;
            event(&header, &record.socket, &record.owner, EventKind::OwnerChanged)
        }
        kind => Err(DecodeError::Kind(kind)),
    }
}

/// Splits a recorded stream into the bytes of each record. Ends at the first invalid header.
pub fn split(mut stream: &[u8]) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    std::iter::from_fn(move || {
        if stream.is_empty() {
            return None;
        }
        let have = stream.len();
        let len = prefix::<Header>(stream).map(|header| usize::from(header.len));
        let record = len.and_then(|len| match stream.split_at_checked(len) {
            Some((record, rest)) if len >= size_of::<Header>() => {
                stream = rest;
                Ok(record)
            }
            _ => Err(DecodeError::Length { have, want: len }),
        });
        if record.is_err() {
            stream = &[];
        }
        Some(record)
    })
}

fn prefix<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    let too_short = |_| DecodeError::Length { have: bytes.len(), want: size_of::<T>() };
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(too_short)
}

fn whole<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    let other_size = |_| DecodeError::Length { have: bytes.len(), want: size_of::<T>() };
    T::read_from_bytes(bytes).map_err(other_size)
}

pub(crate) fn state(number: u8) -> Result<State, DecodeError> {
    State::from_raw(number).ok_or(DecodeError::State(number))
}

pub(crate) fn srtt_us(srtt_us8: u32) -> Option<u32> {
    (srtt_us8 != 0).then_some(srtt_us8 >> 3)
}

fn event(
    header: &Header,
    socket: &record::Socket,
    owner: &record::Owner,
    what: EventKind,
) -> Result<Event, DecodeError> {
    let some = |number: u64| (number != 0).then_some(number);
    Ok(Event {
        time_ns: header.time_ns,
        cpu: Some(header.cpu),
        socket: Socket {
            sk: some(header.sk),
            cookie: some(header.cookie),
            netns: (socket.netns != 0).then_some(socket.netns),
            ipv6: is_ipv6(socket.family),
            state: state(socket.state)?,
            local: SocketAddr::new(address(socket.local), socket.local_port),
            remote: SocketAddr::new(address(socket.remote), socket.remote_port),
            flags: socket.flags,
        },
        owner: self::owner(owner)?,
        candidates: None,
        listener: None,
        peer: None,
        after_gap: false,
        what,
    })
}

pub(crate) fn owner(owner: &record::Owner) -> Result<Option<Owner>, DecodeError> {
    let source = match owner.source {
        owner_source::UNKNOWN => return Ok(None),
        owner_source::CONNECT => OwnerSource::Connect,
        owner_source::LISTEN => OwnerSource::Listen,
        owner_source::ACCEPT => OwnerSource::Accept,
        owner_source::IO => OwnerSource::Io,
        owner_source::LISTENER => OwnerSource::Listener,
        owner_source::CLOSE => OwnerSource::Close,
        owner_source::HOLDER => OwnerSource::Holder,
        owner_source::SHARED => OwnerSource::Shared,
        other => return Err(DecodeError::OwnerSource(other)),
    };
    // The record belongs to a listener whose owner is unknown. No process has PID 0: it is the idle task.
    if owner.pid == 0 {
        return Ok(None);
    }
    Ok(Some(Owner {
        pid: owner.pid,
        uid: owner.uid,
        cgroup: owner.cgroup,
        start: StartTicks::new(owner.start_ticks),
        command: Command::new(owner.comm),
        source,
    }))
}

fn reset_facts(record: &record::Reset) -> Option<ResetFacts> {
    (record.has_facts != 0).then_some(ResetFacts {
        receive_queue: record.receive_queue,
        send_queue: record.send_queue,
        probes: record.probes,
        last_sent_ns: record.last_sent_ns,
        last_received_ns: record.last_received_ns,
        last_ack_ns: record.last_ack_ns,
    })
}

fn transition(record: &record::Transition) -> Result<Transition, DecodeError> {
    let (old, shown) = (state(record.old)?, state(record.new)?);
    let flags = record.socket.flags;
    let new = match shown {
        State::Close => state(after_close(record.old, record.err, flags))?,
        other => other,
    };
    let source = if new == shown { StateSource::Observed } else { StateSource::Inferred };
    let ending = match new {
        State::Close => Some(CloseReason::classify(old, record.err, flags, sent_syn(record), record.receive_queue)),
        State::TimeWait => Some(CloseReason::Normal),
        _ => None,
    };
    Ok(Transition {
        old,
        new,
        source,
        time_in_old: time_in_old(record, old, new),
        // `srtt_us` counts eighths of a µs: 125 ns each.
        handshake_rtt_ns: (is_handshake(old, new) && record.srtt_us8 != 0).then(|| u64::from(record.srtt_us8) * 125),
        srtt_us: srtt_us(record.srtt_us8),
        total_retrans: record.total_retrans,
        bytes_acked: record.bytes_acked,
        bytes_received: record.bytes_received,
        receive_queue: record.receive_queue,
        send_queue: if old == State::SynSent { 0 } else { record.send_queue },
        ending,
        exit: (flags & socket_flag::EXITING != 0).then_some(Exit { signal: record.exit_signal }),
        expires_in_ns: (new == State::TimeWait).then_some(TIME_WAIT_NS),
    })
}

/// True if a socket that leaves SYN_SENT had sent a SYN. `connect` enters SYN_SENT before it has a port and a route,
/// and leaves it again at once if it gets none (`net/ipv4/tcp_ipv4.c`, `tcp_v4_connect`). If a SYN was sent, it is the
/// only unacknowledged byte.
fn sent_syn(record: &record::Transition) -> bool {
    /// A `connect` that sends no SYN takes less time than this.
    const AT_ONCE_NS: u64 = 10_000_000;
    let is_later = record.header.time_ns.saturating_sub(record.entered_ns) >= AT_ONCE_NS;
    record.socket.local_port != 0 && (record.send_queue == 1 || record.total_retrans > 0 || is_later)
}

fn is_handshake(old: State, new: State) -> bool {
    new == State::Established && matches!(old, State::SynSent | State::SynRecv)
}

fn time_in_old(record: &record::Transition, old: State, new: State) -> Option<TimeInState> {
    if is_passive_open(record.old, record.socket.flags) {
        let is_measured = is_handshake(old, new) && record.srtt_us8 != 0;
        return is_measured.then(|| TimeInState {
            ns: u64::from(record.srtt_us8) * 125,
            source: if record.socket.flags & socket_flag::SYN_COOKIES != 0 {
                TimeSource::HandshakeUnreliable
            } else if record.total_retrans != 0 {
                TimeSource::HandshakeLowerBound
            } else {
                TimeSource::Handshake
            },
        });
    }
    let ns = record.header.time_ns.checked_sub(record.entered_ns)?;
    (record.entered_ns != 0).then_some(TimeInState { ns, source: TimeSource::Observed })
}
