//! The records in the rings.
//!
//! Each record begins with a [`Header`] that gives its kind and length. So a stream of records is self-delimiting, and
//! recorded bytes decode like live ones.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this layout, in each record. User space rejects other versions.
pub const WIRE_VERSION: u8 = 1;

/// Unit of [`Owner::start_ticks`] in ns: a tick of `/proc/PID/stat` (USER_HZ, 100 on all supported architectures).
pub const START_TICK_NS: u64 = 10_000_000;

/// [`Header::kind`] of a [`Transition`].
pub const KIND_TRANSITION: u8 = 1;
/// [`Header::kind`] of a [`Retransmit`] of a segment (`tcp_retransmit_skb`).
pub const KIND_RETRANSMIT: u8 = 2;
/// [`Header::kind`] of a [`Retransmit`] of a SYN-ACK (`tcp_retransmit_synack`); `sk` is the listener.
pub const KIND_SYNACK_RETRANSMIT: u8 = 3;
/// [`Header::kind`] of a [`Reset`] that this host sent (`tcp_send_reset`).
pub const KIND_RESET_SENT: u8 = 4;
/// [`Header::kind`] of a [`Reset`] that this host received (`tcp_receive_reset`).
pub const KIND_RESET_RECEIVED: u8 = 5;
/// [`Header::kind`] of an [`OwnerChange`].
pub const KIND_OWNER: u8 = 6;

/// `AF_INET` of `include/linux/socket.h`.
pub const AF_INET: u16 = 2;
/// `AF_INET6` of the same file.
pub const AF_INET6: u16 = 10;

/// Bits of [`Socket::flags`]: facts about the socket at the time of the event.
pub mod socket_flag {
    /// `sk_lock.owned`: the current task holds the socket's lock, so it causes the event.
    pub const OWNED: u16 = 1 << 0;
    /// `SOCK_DEAD`: no file refers to the socket any longer.
    pub const DEAD: u16 = 1 << 1;
    /// `SOCK_DONE`: the peer's FIN has arrived.
    pub const DONE: u16 = 1 << 2;
    /// `SOCK_LINGER`: SO_LINGER is on.
    pub const LINGER: u16 = 1 << 3;
    /// `sk_lingertime == 0`: with [`LINGER`], close() aborts the connection.
    pub const LINGER_ZERO: u16 = 1 << 4;
    /// `tcp_sock.linger2 < 0`: TCP_LINGER2 disables FIN_WAIT2. Set at transitions to CLOSE only.
    pub const LINGER2_NEGATIVE: u16 = 1 << 5;
    /// `sk_socket` is set: a process has the socket. A child that waits for accept() has none.
    pub const ATTACHED: u16 = 1 << 6;
    /// `sk_shutdown & SEND_SHUTDOWN`.
    pub const SHUTDOWN_SEND: u16 = 1 << 7;
    /// `sk_shutdown & RCV_SHUTDOWN`.
    pub const SHUTDOWN_RECEIVE: u16 = 1 << 8;
    /// The addresses come from the packet, because there was no full socket.
    pub const FROM_PACKET: u16 = 1 << 9;
    /// The previous owner passed the filter and the new one does not: this is the last event of the socket.
    pub const OWNER_LEFT: u16 = 1 << 10;
    /// The listener had sent SYN cookies shortly before, so the kernel's handshake measurements may be wrong.
    pub const SYN_COOKIES: u16 = 1 << 11;
    /// `SOCK_KEEPOPEN`: SO_KEEPALIVE is on.
    pub const KEEPALIVE: u16 = 1 << 12;
    /// The kernel closes the socket because the process is exiting (`PF_EXITING`). Set at transitions in which the current
    /// task closes the socket; [`super::Transition::exit_signal`] has the reason.
    pub const EXITING: u16 = 1 << 13;
}

/// How the owner was inferred ([`Owner::source`]).
pub mod owner_source {
    /// The owner is unknown.
    pub const UNKNOWN: u8 = 0;
    /// The process called `connect`.
    pub const CONNECT: u8 = 1;
    /// The process called `listen`.
    pub const LISTEN: u8 = 2;
    /// The process called `accept`.
    pub const ACCEPT: u8 = 3;
    /// The process read from the socket.
    pub const IO: u8 = 4;
    /// The process owns the listener that accepts the connection.
    pub const LISTENER: u8 = 5;
    /// The process closed the socket or shut it down.
    pub const CLOSE: u8 = 6;
    /// The process alone had a descriptor of the socket when the sockets were listed.
    pub const HOLDER: u8 = 7;
    /// Several processes hold the socket or its listener; this is one of them.
    pub const SHARED: u8 = 8;
}

/// The start of every record. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// One of the `KIND_` constants above.
    pub kind: u8,
    /// Always [`WIRE_VERSION`].
    pub version: u8,
    /// Length of the record in bytes, including this header.
    pub len: u16,
    /// The CPU that wrote the record.
    pub cpu: u32,
    /// CLOCK_MONOTONIC of the event, in ns.
    pub time_ns: u64,
    /// Address of the `struct sock`, which identifies the socket while it lives; 0 if there was none.
    pub sk: u64,
    /// Socket cookie (`sock_gen_cookie`), which is never reused; 0 if the kernel gave none.
    pub cookie: u64,
}

/// The socket of an event, in every record. 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Socket {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub remote: [u8; 16],
    /// Local port in host order; 0 if it is not chosen yet.
    pub local_port: u16,
    /// Remote port in host order.
    pub remote_port: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u16,
    /// Bits of [`socket_flag`].
    pub flags: u16,
    /// Inode number of the network namespace (`net->ns.inum`); 0 if unknown.
    pub netns: u32,
    /// `skc_state` at the event; for a transition, the state that was left.
    pub state: u8,
    /// Explicit padding, always zero.
    pub pad: [u8; 3],
}

/// The process that uses a socket. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Owner {
    /// Id of the process's cgroup in the v2 hierarchy (`bpf_get_current_cgroup_id`).
    pub cgroup: u64,
    /// PID in user space terms (the kernel's TGID), in the initial PID namespace.
    pub pid: u32,
    /// Real UID in the initial user namespace.
    pub uid: u32,
    /// How the owner was inferred, one of [`owner_source`].
    pub source: u8,
    /// Explicit padding, always zero.
    pub pad: [u8; 3],
    /// Start time of the process in ticks of [`START_TICK_NS`] since boot, modulo 2^32
    /// (`task->group_leader->start_boottime`). Together with the PID it identifies the process uniquely. 0 if unknown.
    pub start_ticks: u32,
    /// Command name of the process, NUL-padded (`task->group_leader->comm`).
    pub comm: [u8; 16],
}

/// A state transition (`sock:inet_sock_set_state`). 168 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Transition {
    /// Its kind is [`KIND_TRANSITION`].
    pub header: Header,
    /// The socket concerned.
    pub socket: Socket,
    /// The owner of the socket.
    pub owner: Owner,
    /// CLOCK_MONOTONIC when the socket entered the old state, in ns; 0 if not seen.
    pub entered_ns: u64,
    /// `tcp_sock.bytes_acked`, which includes the SYN and the FIN.
    pub bytes_acked: u64,
    /// `tcp_sock.bytes_received`, which includes the FIN.
    pub bytes_received: u64,
    /// `tcp_sock.srtt_us`: 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `tcp_sock.total_retrans`: segments retransmitted over the connection's life.
    pub total_retrans: u32,
    /// Bytes received and not read (`include/net/tcp.h`, `tcp_inq`); 0 before the connection is established.
    pub receive_queue: u32,
    /// Bytes written and not acknowledged, counting a FIN as one, and in SYN_SENT the SYN; 0 as above.
    pub send_queue: u32,
    /// `sk_err`, a positive errno or 0.
    pub err: i32,
    /// The state that was left.
    pub old: u8,
    /// The state that was entered.
    pub new: u8,
    /// With [`socket_flag::EXITING`], the signal that killed the process (`signal->group_exit_code`), or 0 if it called
    /// `exit`; without the flag 0.
    pub exit_signal: u8,
    /// Explicit padding, always zero.
    pub pad: u8,
}

/// A retransmitted segment or SYN-ACK. 136 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Retransmit {
    /// Its kind is [`KIND_RETRANSMIT`] or [`KIND_SYNACK_RETRANSMIT`].
    pub header: Header,
    /// The socket; for a SYN-ACK, the addresses of the request.
    pub socket: Socket,
    /// The owner of the socket; for a SYN-ACK, of the listener.
    pub owner: Owner,
    /// Segments retransmitted over the connection's life, including this one if it was sent; for a SYN-ACK, how many times
    /// it was sent again.
    pub total_retrans: u32,
    /// Result of sending, 0 or a negative errno; 0 before 6.18, which does not pass it.
    pub err: i32,
    /// `tcp_sock.srtt_us`: 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `icsk_retransmits`: consecutive timeouts without an answer.
    pub timeouts: u8,
    /// Explicit padding, always zero.
    pub pad: [u8; 3],
}

/// A RST sent or received. 168 bytes. If [`Reset::has_facts`] is 0, so are the fields that describe the connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reset {
    /// Its kind is [`KIND_RESET_SENT`] or [`KIND_RESET_RECEIVED`].
    pub header: Header,
    /// The socket, or the addresses of the packet that the RST answers ([`socket_flag::FROM_PACKET`]).
    pub socket: Socket,
    /// The owner of the socket.
    pub owner: Owner,
    /// For a RST sent, `enum sk_rst_reason` as the running kernel numbers it; 0 if the kernel gives no reason.
    pub reason: u32,
    /// 1 if the kernel gives a reason, else 0.
    pub has_reason: u32,
    /// Bytes received and not read, as in [`Transition::receive_queue`].
    pub receive_queue: u32,
    /// Bytes written and not acknowledged, as in [`Transition::send_queue`].
    pub send_queue: u32,
    /// 1 if there is a full socket whose connection was established, else 0.
    pub has_facts: u32,
    /// `icsk_probes_out`: consecutive probes without an answer, including keepalive probes.
    pub probes: u32,
    /// Time since data was last sent (`tcp_sock.lsndtime`), in ns.
    pub last_sent_ns: u64,
    /// Time since data was last received (`icsk_ack.lrcvtime`), in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was last received (`tcp_sock.rcv_tstamp`), in ns.
    pub last_ack_ns: u64,
}

/// The owner of a socket became known or changed. 120 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OwnerChange {
    /// Its kind is [`KIND_OWNER`].
    pub header: Header,
    /// The socket concerned.
    pub socket: Socket,
    /// The owner from now on.
    pub owner: Owner,
}

const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(size_of::<Socket>() == 48);
const _: () = assert!(size_of::<Owner>() == 40);
const _: () = assert!(size_of::<Transition>() == 168);
const _: () = assert!(size_of::<Retransmit>() == 136);
const _: () = assert!(size_of::<Reset>() == 168);
const _: () = assert!(size_of::<OwnerChange>() == 120);
