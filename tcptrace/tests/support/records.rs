//! Streams of records, made of the structs that the BPF programs write, so that a test reads like the story of a
//! connection.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tcptrace_common::record::{
    AF_INET, AF_INET6, Header, KIND_OWNER, KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT,
    KIND_SYNACK_RETRANSMIT, KIND_TRANSITION, Owner, OwnerChange, Reset, Retransmit, Socket, Transition, WIRE_VERSION,
};
use zerocopy::{Immutable, IntoBytes};

/// CLOCK_MONOTONIC at which all streams begin: an hour after boot.
pub(crate) const START_NS: u64 = 3_600_000_000_000;

/// Records one after the other, and the time that it is.
pub(crate) struct Stream {
    /// The records.
    pub(crate) bytes: Vec<u8>,
    /// CLOCK_MONOTONIC in ns.
    pub(crate) now_ns: u64,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), now_ns: START_NS }
    }

    /// Time goes by.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now_ns += u64::try_from(time.as_nanos()).unwrap();
    }

    /// Time goes by, in µs.
    pub(crate) fn wait_us(&mut self, us: u64) {
        self.wait(Duration::from_micros(us));
    }

    fn push(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.bytes.extend_from_slice(record.as_bytes());
    }
}

/// A process; `source` is one of [`tcptrace_common::record::owner_source`].
pub(crate) fn process(pid: u32, command: &[u8], source: u8) -> Owner {
    let mut comm = [0; 16];
    comm[..command.len()].copy_from_slice(command);
    Owner { pid, uid: 1000, cgroup: 4711, source, comm, start_ticks: 360_000, ..Owner::default() }
}

/// The same process, known in another way.
pub(crate) fn known_by(source: u8, owner: Owner) -> Owner {
    Owner { source, ..owner }
}

/// A socket from one event to the next; what a story does not set stays as it was.
#[derive(Clone)]
pub(crate) struct Life {
    /// Its `sk`, cookie and CPU.
    pub(crate) header: Header,
    /// Addresses, state and flags.
    pub(crate) socket: Socket,
    /// Its owner; the default is an unknown one.
    pub(crate) owner: Owner,
    /// What transitions tell besides.
    pub(crate) facts: Transition,
    /// Timeouts in a row.
    pub(crate) timeouts: u8,
    /// Times since data was sent, since data was received and since an ACK was, where RSTs tell of them, in ms.
    pub(crate) since_ms: Option<[u64; 3]>,
    /// Probes in a row without an answer, where RSTs tell of them.
    pub(crate) probes: u32,
}

impl Life {
    /// A socket that is in `state` and entered it before tracing began.
    pub(crate) fn in_state(state: u8, local: &str, remote: &str) -> Self {
        let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
        let ports = u64::from(local.port()) << 16 | u64::from(remote.port());
        let family = if local.is_ipv6() { AF_INET6 } else { AF_INET };
        Self {
            header: Header {
                version: WIRE_VERSION,
                cpu: 1,
                // Ports are enough to tell the sockets of a story apart.
                sk: 0xffff_8881_0000_0000 + ports,
                cookie: ports,
                ..Header::default()
            },
            socket: Socket {
                local: wire_address(local.ip()),
                remote: wire_address(remote.ip()),
                local_port: local.port(),
                remote_port: remote.port(),
                family,
                netns: 4_026_531_840,
                state,
                ..Socket::default()
            },
            owner: Owner::default(),
            facts: Transition::default(),
            timeouts: 0,
            since_ms: None,
            probes: 0,
        }
    }

    /// A socket that belongs to `owner`.
    pub(crate) fn owned_by(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// Sets the bits of [`tcptrace_common::record::socket_flag`] that are true from now on.
    pub(crate) fn flags(&mut self, flags: u16) -> &mut Self {
        self.socket.flags = flags;
        self
    }

    /// Sets the smoothed round-trip time.
    pub(crate) fn srtt_us(&mut self, us: u32) -> &mut Self {
        self.facts.srtt_us8 = us * 8;
        self
    }

    /// The socket leaves its state.
    pub(crate) fn enters(&mut self, stream: &mut Stream, new: u8) -> &mut Self {
        let old = self.socket.state;
        stream.push(&Transition {
            header: self.header_of::<Transition>(KIND_TRANSITION, stream.now_ns),
            socket: self.socket,
            owner: self.owner,
            old,
            new,
            ..self.facts
        });
        self.socket.state = new;
        self.facts.entered_ns = stream.now_ns;
        self
    }

    /// Sends a segment again.
    pub(crate) fn retransmits(&mut self, stream: &mut Stream, err: i32) -> &mut Self {
        self.facts.total_retrans += 1;
        stream.push(&Retransmit { err, ..self.retransmit(KIND_RETRANSMIT, stream.now_ns) });
        self
    }

    /// Sends a SYN-ACK again, the `count`th time.
    pub(crate) fn retransmits_synack(&mut self, stream: &mut Stream, count: u32) -> &mut Self {
        stream.push(&Retransmit { total_retrans: count, ..self.retransmit(KIND_SYNACK_RETRANSMIT, stream.now_ns) });
        self
    }

    fn retransmit(&self, kind: u8, now_ns: u64) -> Retransmit {
        Retransmit {
            header: self.header_of::<Retransmit>(kind, now_ns),
            socket: self.socket,
            owner: self.owner,
            total_retrans: self.facts.total_retrans,
            srtt_us8: self.facts.srtt_us8,
            timeouts: self.timeouts,
            ..Retransmit::default()
        }
    }

    /// Sends a RST.
    pub(crate) fn sends_reset(&mut self, stream: &mut Stream, reason: Option<u32>) -> &mut Self {
        stream.push(&Reset {
            reason: reason.unwrap_or(0),
            has_reason: reason.is_some().into(),
            ..self.reset(KIND_RESET_SENT, stream.now_ns)
        });
        self
    }

    /// Gets a RST.
    pub(crate) fn gets_reset(&mut self, stream: &mut Stream) -> &mut Self {
        stream.push(&self.reset(KIND_RESET_RECEIVED, stream.now_ns));
        self
    }

    fn reset(&self, kind: u8, now_ns: u64) -> Reset {
        let header = self.header_of::<Reset>(kind, now_ns);
        let [last_sent_ns, last_received_ns, last_ack_ns] = self.since_ms.unwrap_or_default().map(|ms| ms * 1_000_000);
        Reset {
            header,
            socket: self.socket,
            owner: self.owner,
            receive_queue: self.facts.receive_queue,
            send_queue: self.facts.send_queue,
            has_facts: self.since_ms.is_some().into(),
            probes: self.probes,
            last_sent_ns,
            last_received_ns,
            last_ack_ns,
            ..Reset::default()
        }
    }

    /// Belongs to `owner` from now on, which is told.
    pub(crate) fn is_taken_by(&mut self, stream: &mut Stream, owner: Owner) -> &mut Self {
        self.owner = owner;
        let header = self.header_of::<OwnerChange>(KIND_OWNER, stream.now_ns);
        stream.push(&OwnerChange { header, socket: self.socket, owner });
        self
    }

    fn header_of<Record>(&self, kind: u8, time_ns: u64) -> Header {
        Header { kind, len: u16::try_from(size_of::<Record>()).unwrap(), time_ns, ..self.header }
    }
}

/// An address as records hold it.
fn wire_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
