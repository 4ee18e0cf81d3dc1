//! Sockets in the situations that several tests begin with.

use super::{Host, MS, PID, S, process};
use crate::model::{
    close_reason::{Abort, CloseReason},
    event::Exit,
    holders::Holder,
    snapshot::ProcessState,
    socket::{ConnectionInfo, Keepalive, Kind, Timer, TimerKind},
    state::State,
};

pub(in crate::findings) const ON: Keepalive = Keepalive::On { time_ns: None, interval_ns: None, probes: None };
/// A listener, and where its clients connect to.
pub(in crate::findings) const LISTENER: &str = "0.0.0.0:80";
pub(in crate::findings) const SERVER: &str = "10.1.0.1:80";

impl Host {
    /// A listener with so many connections that wait to be accepted, and room for `limit`.
    pub(in crate::findings) fn listening(&mut self, local: &str, queue: u32, limit: u32) -> usize {
        let place = self.add(State::Listen, local, "0.0.0.0:0", 100 * S);
        (self.sockets[place].receive_queue, self.sockets[place].send_queue) = (queue, limit);
        place
    }

    /// [`PID`] has a descriptor of the socket.
    pub(in crate::findings) fn held(&mut self, place: usize) {
        let (handle, command) = (self.sockets[place].handle, process(PID).command);
        self.holders.push(Holder { handle, pid: PID, ns_pid: PID, fd: 3, uid: 33, cgroup: None, command, start: None });
    }

    /// A connection that came to [`SERVER`] so long ago, and was accepted or not.
    pub(in crate::findings) fn child(
        &mut self,
        state: State,
        port: u16,
        age_ns: u64,
        is_accepted: Option<bool>,
    ) -> usize {
        let place = self.add(state, SERVER, &format!("10.1.0.9:{port}"), age_ns);
        self.sockets[place].connection = Some(ConnectionInfo {
            last_sent_ns: age_ns,
            last_received_ns: age_ns,
            bytes_received: 1000,
            is_accepted,
            receive_window: Some(65_535),
            ..ConnectionInfo::default()
        });
        if is_accepted != Some(true) {
            self.sockets[place].handle = 0;
        }
        place
    }

    /// The oldest of two connections in the queue of [`LISTENER`] waits for so long, and its process is read like this.
    pub(in crate::findings) fn stalled(&mut self, waits_ns: u64, state: Option<ProcessState>) {
        let listener = self.listening(LISTENER, 2, 128);
        self.held(listener);
        self.child(State::Established, 1, waits_ns, Some(false));
        self.child(State::Established, 2, MS, Some(false));
        self.processes.extend(state.map(|state| ProcessState { read_ns: self.now_ns, ..state }));
    }

    /// A server's connection with unread data that came so long ago.
    pub(in crate::findings) fn unread(&mut self, age_ns: u64) -> usize {
        let listener = self.listening(LISTENER, 0, 128);
        self.held(listener);
        let place = self.child(State::Established, 1, age_ns, Some(true));
        self.sockets[place].receive_queue = 18;
        place
    }

    /// Half-open connections to a listener; three of four had their SYN-ACK sent again.
    pub(in crate::findings) fn requests(&mut self, local: &str, count: u16) {
        for port in 0..count {
            let place = self.add(State::SynRecv, local, &format!("10.3.0.9:{}", 1024 + port), 0);
            let socket = &mut self.sockets[place];
            (socket.kind, socket.owner, socket.timeouts) = (Kind::Request, None, u8::from(port % 4 > 0));
        }
    }

    /// An attempt to connect.
    pub(in crate::findings) fn connecting(&mut self, local_port: u16, remote: &str, age_ns: u64) -> usize {
        self.add(State::SynSent, &format!("10.1.0.1:{local_port}"), remote, age_ns)
    }

    /// A sender whose data waits for so long for the window of its peer.
    pub(in crate::findings) fn sender(&mut self, state: State, local: &str, remote: &str, waits_ns: u64) -> usize {
        let place = self.add(state, local, remote, waits_ns + S);
        let socket = &mut self.sockets[place];
        socket.send_queue = 3000;
        socket.timer = Some(Timer { kind: TimerKind::Probe, left_ns: S });
        (socket.rto_ns, socket.backoff) = (Some(200 * MS), Some(5));
        socket.connection = Some(ConnectionInfo {
            last_sent_ns: waits_ns,
            last_received_ns: waits_ns,
            last_ack_ns: 2 * S,
            is_accepted: Some(true),
            send_window: Some(0),
            unsent: Some(2000),
            ..ConnectionInfo::default()
        });
        place
    }

    /// A receiver with unread data whose window has been closed for so long.
    pub(in crate::findings) fn reader(&mut self, local: &str, remote: &str, unread_ns: u64) -> usize {
        let place = self.add(State::Established, local, remote, unread_ns + S);
        let socket = &mut self.sockets[place];
        socket.receive_queue = 128_000;
        socket.connection = Some(ConnectionInfo {
            last_sent_ns: unread_ns,
            last_received_ns: unread_ns,
            last_ack_ns: 2 * S,
            bytes_received: 500_000,
            is_accepted: Some(true),
            receive_window: Some(0),
            ..ConnectionInfo::default()
        });
        place
    }

    /// A connection without a segment for `quiet_ns`.
    pub(in crate::findings) fn idle(&mut self, local: &str, remote: &str, quiet_ns: u64) -> usize {
        let place = self.add(State::Established, local, remote, quiet_ns + S);
        self.sockets[place].connection = Some(ConnectionInfo {
            last_sent_ns: quiet_ns + S,
            last_received_ns: quiet_ns + S,
            last_ack_ns: quiet_ns,
            ..ConnectionInfo::default()
        });
        place
    }

    /// `count` connections to one destination that are over, from the first of ten ports on.
    pub(in crate::findings) fn over(&mut self, count: u16) {
        self.settings.local_ports = Some((50_000, 50_009));
        for port in 50_000..50_000 + count {
            self.time_wait(&format!("10.1.0.1:{port}"), "10.9.0.9:80");
        }
    }

    /// A connection in TIME_WAIT.
    pub(in crate::findings) fn time_wait(&mut self, local: &str, remote: &str) {
        let place = self.add(State::TimeWait, local, remote, 10 * S);
        let socket = &mut self.sockets[place];
        socket.kind = Kind::TimeWait;
        socket.timer = Some(Timer { kind: TimerKind::TimeWait, left_ns: 50 * S });
        (socket.connection, socket.uid) = (None, None);
    }

    /// A process ends by `signal` (0: it exits), with a connection without and one with unread data.
    pub(in crate::findings) fn killed(&mut self, signal: i32, serves: bool, unread: u32) {
        if serves {
            self.add(State::Listen, "10.1.0.1:80", "0.0.0.0:0", 100 * S);
        }
        let exit = Some(Exit { signal: signal as u8 });
        let one = self.add(State::Established, "10.1.0.1:80", "10.9.0.9:40000", S);
        let other = self.add(State::Established, "10.1.0.1:80", "10.9.0.8:40000", S);
        self.sockets[other].receive_queue = unread;
        self.list();
        self.exits(one, State::FinWait1, None, exit);
        let (new, ending) = if unread > 0 {
            (State::Close, Some(CloseReason::Aborted(Abort::UnreadData)))
        } else {
            (State::FinWait1, None)
        };
        self.exits(other, new, ending, exit);
    }
}

/// What is read of [`PID`]: the letter of its state, and descriptors left.
pub(in crate::findings) fn in_state(letter: u8) -> ProcessState {
    let (descriptors, max_descriptors) = (Some(9), Some(1024));
    let waits_in = Some("do_epoll_wait".to_owned());
    ProcessState { pid: PID, read_ns: 0, letter, cpu_ns: 0, descriptors, max_descriptors, waits_in }
}
