//! A state transition: whether it passes the filter, and its record.

use core::ffi::c_void;
use tcptrace_common::{
    record::{KIND_TRANSITION, Transition},
    state::{self, CLOSE, LISTEN, SYN_SENT},
    tracked::TrackedSock,
};

use crate::{
    emit, filter,
    kernel::{sock::TcpSock, tuple::Tuple},
    tracked,
};

/// A transition from `old` to `new`.
pub(crate) struct Change {
    pub(crate) old: u8,
    pub(crate) new: u8,
    /// When the socket entered `old`; 0 if unknown.
    pub(crate) entered_ns: u64,
    /// When the transition happened.
    pub(crate) now_ns: u64,
    pub(crate) flags: u16,
    pub(crate) err: i32,
    pub(crate) exit_signal: u8,
}

impl Change {
    #[inline(always)]
    pub(crate) fn passes(&self, tuple: &Tuple, tracked: &TrackedSock) -> bool {
        let states = || {
            let becomes =
                if self.new == CLOSE { state::bit(state::after_close(self.old, self.err, self.flags)) } else { 0 };
            state::bit(self.old) | state::bit(self.new) | becomes
        };
        filter::passes(states, tuple, Some(tracked))
    }

    /// Sends the transition if it passes the filter.
    #[inline(always)]
    pub(crate) fn send(&self, sock: TcpSock, sk: *const c_void, tracked: &TrackedSock, tuple: &Tuple) {
        if !self.passes(tuple, tracked) {
            return;
        }
        let progress = Progress::of(sock, self);
        let Some(mut reserved) = emit::Reserved::<Transition>::new() else {
            return;
        };
        let record = reserved.as_mut_ptr();
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::write_header::<Transition>(
                &raw mut (*record).header,
                KIND_TRANSITION,
                self.now_ns,
                sock.address,
                sock.cookie(sk),
            );
            tuple.write(&raw mut (*record).socket, self.old, self.flags);
            tracked::write_owner(Some(tracked), &raw mut (*record).owner);
            (*record).entered_ns = self.entered_ns;
            (*record).bytes_acked = progress.bytes_acked;
            (*record).bytes_received = progress.bytes_received;
            (*record).srtt_us8 = progress.srtt_us8;
            (*record).total_retrans = progress.total_retrans;
            (*record).receive_queue = progress.receive_queue;
            (*record).send_queue = progress.send_queue;
            (*record).err = self.err;
            // Both states, the signal and the padding as one word.
            let states = u32::from(self.old) | u32::from(self.new) << 8 | u32::from(self.exit_signal) << 16;
            (&raw mut (*record).old).cast::<u32>().write(states.to_le());
        }
        reserved.submit();
    }
}

/// How much a connection has transferred, and how well. All zero before it begins.
#[derive(Default)]
struct Progress {
    bytes_acked: u64,
    bytes_received: u64,
    srtt_us8: u32,
    total_retrans: u32,
    receive_queue: u32,
    send_queue: u32,
}

impl Progress {
    #[inline(always)]
    fn of(sock: TcpSock, change: &Change) -> Self {
        let old = state::bit(change.old);
        if old & (state::bit(CLOSE) | state::bit(LISTEN)) != 0 {
            return Self::default();
        }
        let (receive_queue, send_queue) = if state::CONNECTED & old != 0 {
            sock.queues(change.flags)
        } else if change.old == SYN_SENT {
            (0, sock.unacked())
        } else {
            (0, 0)
        };
        Self {
            bytes_acked: sock.bytes_acked(),
            bytes_received: sock.bytes_received(),
            srtt_us8: sock.srtt_us8(),
            total_retrans: sock.total_retrans(),
            receive_queue,
            send_queue,
        }
    }
}
