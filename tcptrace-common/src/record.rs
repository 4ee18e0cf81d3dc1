//! The records in the rings. Each begins with the same [`Header`], whose `kind` and `len` tell what follows;
//! `len` also makes a stream of records self-delimiting, so that recorded bytes decode as live ones do.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the layout below, in each record. User space refuses others.
pub const WIRE_VERSION: u8 = 1;

/// [`Owner::start`] counts so many ns as one: a tick of `/proc/PID/stat` (USER_HZ, 100 on all architectures we run on).
pub const START_TICK_NS: u64 = 10_000_000;

/// [`Header::kind`] of a [`Transition`].
pub const KIND_TRANSITION: u8 = 1;
/// [`Header::kind`] of a [`Retransmit`] of a segment (`tcp_retransmit_skb`).
pub const KIND_RETRANSMIT: u8 = 2;
/// [`Header::kind`] of a [`Retransmit`] of a SYN-ACK (`tcp_retransmit_synack`); `sk` is the listener's.
pub const KIND_SYNACK_RETRANSMIT: u8 = 3;
/// [`Header::kind`] of a [`Reset`] that this host sent (`tcp_send_reset`).
pub const KIND_RESET_SENT: u8 = 4;
/// [`Header::kind`] of a [`Reset`] that this host received (`tcp_receive_reset`).
pub const KIND_RESET_RECEIVED: u8 = 5;
/// [`Header::kind`] of an [`OwnerChange`].
pub const KIND_OWNER: u8 = 6;

/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// Bits of [`Socket::flags`], facts about the socket at the moment of the event.
pub mod socket_flag {
    /// `sk_lock.owned`: the current task holds the socket's lock, so it is the one that acts.
    pub const OWNED: u16 = 1 << 0;
    /// `SOCK_DEAD`: no file refers to the socket any more.
    pub const DEAD: u16 = 1 << 1;
    /// `SOCK_DONE`: the peer's FIN was received.
    pub const DONE: u16 = 1 << 2;
    /// `SOCK_LINGER`: SO_LINGER is on.
    pub const LINGER: u16 = 1 << 3;
    /// `sk_lingertime == 0`.
    pub const LINGER_ZERO: u16 = 1 << 4;
    /// `tcp_sock.linger2 < 0`: TCP_LINGER2 asks for no FIN_WAIT2. Told at transitions to CLOSE only.
    pub const LINGER2_NEGATIVE: u16 = 1 << 5;
    /// `sk_socket` is set: some process has the socket; a child that was not accepted yet has none.
    pub const ATTACHED: u16 = 1 << 6;
    /// `sk_shutdown & SEND_SHUTDOWN`.
    pub const SHUTDOWN_SEND: u16 = 1 << 7;
    /// `sk_shutdown & RCV_SHUTDOWN`.
    pub const SHUTDOWN_RECEIVE: u16 = 1 << 8;
    /// The addresses come from the packet, as no full socket with them was at hand.
    pub const FROM_PACKET: u16 = 1 << 9;
    /// The socket's owner passed the filter until now, and the new one does not: the last event of the socket.
    pub const OWNER_LEFT: u16 = 1 << 10;
    /// The listener had sent SYN cookies shortly before: what the kernel measured of the handshake may be wrong.
    pub const SYN_COOKIES: u16 = 1 << 11;
    /// `SOCK_KEEPOPEN`: SO_KEEPALIVE is on.
    pub const KEEPALIVE: u16 = 1 << 12;
    /// The process that closes the socket is exiting (`PF_EXITING`): the kernel closes its files. Set at transitions by
    /// which the current task closes the socket; [`super::Transition::exit_signal`] says why it exits.
    pub const EXITING: u16 = 1 << 13;
}

/// How an owner came to be known ([`Owner::source`]).
pub mod owner_source {
    /// Not known.
    pub const UNKNOWN: u8 = 0;
    /// Called `connect`.
    pub const CONNECT: u8 = 1;
    /// Called `listen`.
    pub const LISTEN: u8 = 2;
    /// Called `accept`.
    pub const ACCEPT: u8 = 3;
    /// Read from the socket.
    pub const IO: u8 = 4;
    /// Owns the listener that the connection came through.
    pub const LISTENER: u8 = 5;
    /// Closed the socket or shut it down.
    pub const CLOSE: u8 = 6;
    /// Held the socket by a descriptor when the sockets were listed, alone.
    pub const HOLDER: u8 = 7;
    /// One of several processes that hold the socket, or the listener that the connection came through.
    pub const SHARED: u8 = 8;
}

/// Begins every record. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// One of the `KIND_` constants.
    pub kind: u8,
    /// [`WIRE_VERSION`].
    pub version: u8,
    /// Bytes of the whole record, this header included.
    pub len: u16,
    /// CPU that wrote the record.
    pub cpu: u32,
    /// CLOCK_MONOTONIC of what the record tells, in ns.
    pub time_ns: u64,
    /// Address of the `struct sock`: names the socket as long as it lives; 0 where none was involved.
    pub sk: u64,
    /// Socket cookie (`sock_gen_cookie`), the name that outlives the socket; 0 where the kernel gave none.
    pub cookie: u64,
}

/// Facts about the socket, in every record. 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Socket {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Remote address; IPv4 as `::ffff:a.b.c.d`.
    pub remote: [u8; 16],
    /// Local port in host order; 0 where it is not chosen yet.
    pub local_port: u16,
    /// Remote port in host order.
    pub remote_port: u16,
    /// [`AF_INET`] or [`AF_INET6`].
    pub family: u16,
    /// Bits of [`socket_flag`].
    pub flags: u16,
    /// Inode number of the network namespace (`net->ns.inum`); 0 where it is not known.
    pub netns: u32,
    /// `skc_state` at the event (for a transition: the state that was left).
    pub state: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// The process that a socket belongs to. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Owner {
    /// Id of the process's cgroup in the v2 hierarchy (`bpf_get_current_cgroup_id`).
    pub cgroup: u64,
    /// PID as user space means it (the kernel's TGID), in the initial PID namespace.
    pub pid: u32,
    /// Real UID, in the initial user namespace.
    pub uid: u32,
    /// One of [`owner_source`].
    pub source: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// When the process started, in ticks of 10 ms since boot, modulo 2^32 (`task->group_leader->start_boottime`): with the
    /// PID it names the process for ever. 0 where it is not known.
    pub start: u32,
    /// Command name of the thread group's leader, NUL-padded (`task->group_leader->comm`).
    pub comm: [u8; 16],
}

/// A change of state (`sock:inet_sock_set_state`). 168 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Transition {
    /// Kind is [`KIND_TRANSITION`].
    pub header: Header,
    /// The socket.
    pub socket: Socket,
    /// Its owner.
    pub owner: Owner,
    /// CLOCK_MONOTONIC at which the state that is left was entered, in ns; 0 where that was not seen.
    pub entered_ns: u64,
    /// `tcp_sock.bytes_acked`: counts the SYN and the FIN too.
    pub bytes_acked: u64,
    /// `tcp_sock.bytes_received`: counts the FIN too.
    pub bytes_received: u64,
    /// `tcp_sock.srtt_us`, which holds 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `tcp_sock.total_retrans`: segments retransmitted in the connection's life.
    pub total_retrans: u32,
    /// Bytes received and not read (`include/net/tcp.h`, `tcp_inq`); 0 where no connection was established.
    pub receive_queue: u32,
    /// Bytes written that the peer has not acknowledged, the FIN counted as one, and in SYN_SENT the SYN; 0 as above.
    pub send_queue: u32,
    /// `sk_err`, a positive errno or 0.
    pub err: i32,
    /// State that is left.
    pub old: u8,
    /// State that is entered.
    pub new: u8,
    /// With [`socket_flag::EXITING`], the signal that ends the process (`signal->group_exit_code`), 0 where it called
    /// `exit`; else 0.
    pub exit_signal: u8,
    /// Zero.
    pub pad: u8,
}

/// A retransmitted segment or SYN-ACK. 136 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Retransmit {
    /// Kind is [`KIND_RETRANSMIT`] or [`KIND_SYNACK_RETRANSMIT`].
    pub header: Header,
    /// The socket; for a SYN-ACK the addresses of the request.
    pub socket: Socket,
    /// Its owner; for a SYN-ACK the listener's.
    pub owner: Owner,
    /// Segments retransmitted in the connection's life, this one included where it was sent; for a SYN-ACK, how often it was.
    pub total_retrans: u32,
    /// What sending gave, 0 or a negative errno (kernels that pass it: 6.18 and later).
    pub err: i32,
    /// `tcp_sock.srtt_us`, which holds 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `icsk_retransmits`: timeouts in a row without an answer.
    pub timeouts: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// A RST sent or received. 168 bytes. What it tells of the connection is 0 where [`Reset::has_facts`] is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reset {
    /// Kind is [`KIND_RESET_SENT`] or [`KIND_RESET_RECEIVED`].
    pub header: Header,
    /// The socket, or the addresses of the packet that is answered ([`socket_flag::FROM_PACKET`]).
    pub socket: Socket,
    /// Its owner.
    pub owner: Owner,
    /// `enum sk_rst_reason` of a RST sent, in the running kernel's numbering; 0 where the kernel gives none.
    pub reason: u32,
    /// 1 where the kernel gives a reason, else 0.
    pub has_reason: u32,
    /// Bytes received and not read, as [`Transition::receive_queue`] has them.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged, as [`Transition::send_queue`] has them.
    pub send_queue: u32,
    /// 1 where a full socket tells of a connection that was established, else 0.
    pub has_facts: u32,
    /// `icsk_probes_out`: probes in a row without an answer, keepalive ones among them.
    pub probes: u32,
    /// Time since data was sent (`tcp_sock.lsndtime`), in ns.
    pub last_sent_ns: u64,
    /// Time since data was received (`icsk_ack.lrcvtime`), in ns.
    pub last_received_ns: u64,
    /// Time since an ACK was received (`tcp_sock.rcv_tstamp`), in ns.
    pub last_ack_ns: u64,
}

/// A socket's owner became known, or another process uses it now. 120 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OwnerChange {
    /// Kind is [`KIND_OWNER`].
    pub header: Header,
    /// The socket.
    pub socket: Socket,
    /// Its owner from now on.
    pub owner: Owner,
}

const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(size_of::<Socket>() == 48);
const _: () = assert!(size_of::<Owner>() == 40);
const _: () = assert!(size_of::<Transition>() == 168);
const _: () = assert!(size_of::<Retransmit>() == 136);
const _: () = assert!(size_of::<Reset>() == 168);
const _: () = assert!(size_of::<OwnerChange>() == 120);
