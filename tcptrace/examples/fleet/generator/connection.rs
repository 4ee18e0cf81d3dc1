//! One connection, as the hosts at its ends see it.

use std::net::SocketAddr;

use tcptrace::model::{
    close_reason::{Abort, CloseReason},
    event::{
        Command, Event, EventKind, Owner, OwnerSource, ResetFacts, Retransmit, Socket, StateSource, TimeInState,
        TimeSource, Transition,
    },
    state::State,
};

/// An event, in ns since the fleet's start, and its host.
pub(crate) type Told = (usize, Event);

/// A host outside the fleet: nobody tells what happens there.
pub(crate) const NO_HOST: usize = usize::MAX;

/// Reasons of RSTs (`include/net/rstreason.h`), by numbers that differ between kernels.
pub(crate) const REASONS: [(u32, &str); 3] =
    [(NO_SOCKET, "no_socket"), (ABORT_ON_CLOSE, "tcp_abort_on_close"), (ABORT_ON_LINGER, "tcp_abort_on_linger")];
const NO_SOCKET: u32 = 2;
const ABORT_ON_CLOSE: u32 = 7;
const ABORT_ON_LINGER: u32 = 8;

/// Time of TIME_WAIT, and of an orphan's FIN_WAIT2, in ns.
const LINGERING_NS: u64 = 60_000_000_000;

/// How a connection goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Course {
    /// The client closes, then the server.
    Normal,
    /// The client closes, the server never does.
    Leaked,
    /// The server closes with unread data.
    ServerResets,
    /// The client closes with SO_LINGER of 0.
    ClientResets,
    /// Nobody listens.
    Refused,
}

/// A connection: what happens when, and how much.
pub(crate) struct Plan {
    pub(crate) course: Course,
    pub(crate) at_ns: u64,
    pub(crate) rtt_ns: u64,
    pub(crate) open_ns: u64,
    pub(crate) request: u64,
    pub(crate) response: u64,
    /// Does the client have to send a segment again?
    pub(crate) loses: bool,
}

/// One end of a connection.
pub(crate) struct Side {
    pub(crate) host: usize,
    pub(crate) cpu: u32,
    pub(crate) socket: Socket,
    pub(crate) owner: Owner,
    since_ns: Option<u64>,
    rtt_ns: u64,
    sent: u64,
    received: u64,
    total_retrans: u32,
}

impl Side {
    pub(crate) fn new(host: usize, owner: Owner, names: (u64, u64), local: SocketAddr, remote: SocketAddr) -> Self {
        let socket = Socket {
            sk: Some(names.0),
            cookie: Some(names.1),
            netns: Some(4_026_531_840),
            ipv6: local.is_ipv6(),
            state: State::Close,
            local,
            remote,
            flags: 0,
        };
        let (cpu, since_ns) = ((names.1 % 16) as u32, None);
        Self { host, cpu, socket, owner, since_ns, rtt_ns: 0, sent: 0, received: 0, total_retrans: 0 }
    }

    fn tell(&self, to: &mut Vec<Told>, time_ns: u64, what: EventKind) {
        if self.host != NO_HOST {
            let (cpu, socket, owner) = (Some(self.cpu), self.socket, Some(self.owner));
            to.push((self.host, Event { cpu, owner, ..Event::new(time_ns, socket, what) }));
        }
    }

    fn goes(&mut self, to: &mut Vec<Told>, time_ns: u64, new: State, change: impl FnOnce(&mut Transition)) {
        let old = self.socket.state;
        let mut transition = Transition {
            time_in_old: self.since_ns.map(|since| TimeInState { ns: time_ns - since, source: TimeSource::Observed }),
            srtt_us: Some((self.rtt_ns / 1000) as u32).filter(|us| *us > 0),
            total_retrans: self.total_retrans,
            bytes_acked: self.sent,
            bytes_received: self.received,
            ..Transition::new(old, new)
        };
        if new == State::Established {
            transition.handshake_rtt_ns = Some(self.rtt_ns);
            if old == State::SynRecv {
                transition.time_in_old = Some(TimeInState { ns: self.rtt_ns, source: TimeSource::Handshake });
            }
        }
        change(&mut transition);
        self.tell(to, time_ns, EventKind::Transition(transition));
        self.socket.state = new;
        self.since_ns = Some(time_ns);
    }

    fn ends(&mut self, to: &mut Vec<Told>, time_ns: u64, ending: CloseReason) {
        self.goes(to, time_ns, State::Close, |transition| transition.ending = Some(ending));
    }

    /// The mini-socket is found gone by a poll, which knows no CPU and no address.
    fn is_gone(&mut self, to: &mut Vec<Told>, time_ns: u64, ending: Option<CloseReason>) {
        let first = to.len();
        self.goes(to, time_ns, State::Close, |transition| {
            (transition.source, transition.ending, transition.srtt_us) = (StateSource::Polled, ending, None);
            transition.time_in_old =
                transition.time_in_old.map(|time| TimeInState { source: TimeSource::Polled, ..time });
        });
        for (_, event) in &mut to[first..] {
            (event.cpu, event.socket.sk) = (None, None);
        }
    }

    fn facts(&self, idle_ns: u64, receive_queue: u32) -> Option<ResetFacts> {
        let (last_sent_ns, last_received_ns, last_ack_ns) = (idle_ns, idle_ns, idle_ns);
        Some(ResetFacts { receive_queue, last_sent_ns, last_received_ns, last_ack_ns, ..ResetFacts::default() })
    }
}

/// Tells all that the hosts of a connection see of it. An end outside the fleet has a side too. Gives how each end ends; `None` where it does not.
pub(crate) fn play(
    plan: &Plan,
    client: &mut Side,
    server: &mut Side,
    to: &mut Vec<Told>,
) -> (Option<CloseReason>, Option<CloseReason>) {
    let (rtt, way) = (plan.rtt_ns, plan.rtt_ns / 2);
    let mut now = plan.at_ns;
    client.goes(to, now, State::SynSent, |_| ());
    if plan.course == Course::Refused {
        let stray = Socket { sk: None, cookie: None, state: State::Close, ..server.socket };
        let what = EventKind::ResetSent { reason: Some(NO_SOCKET), facts: None };
        let cpu = Some(server.cpu);
        let event = Event { cpu, ..Event::new(now + way, stray, what) };
        to.push((server.host, event));
        client.tell(to, now + rtt, EventKind::ResetReceived(None));
        client.ends(to, now + rtt, CloseReason::Refused);
        return (Some(CloseReason::Refused), None);
    }
    (client.rtt_ns, server.rtt_ns) = (rtt, rtt);
    (server.socket.state, server.owner.source) = (State::Listen, OwnerSource::Listener);
    server.goes(to, now + rtt + way, State::SynRecv, |transition| transition.srtt_us = None);
    server.goes(to, now + rtt + way + 3_000, State::Established, |_| ());
    client.goes(to, now + rtt, State::Established, |_| ());
    server.owner.source = OwnerSource::Accept;
    server.tell(to, now + rtt + way + 40_000, EventKind::OwnerChanged);
    now += 2 * rtt;
    if plan.loses {
        client.total_retrans = 1;
        let srtt_us = Some((rtt / 1000) as u32);
        let what = Retransmit { state: State::Established, total_retrans: 1, timeouts: 0, srtt_us, failed: None };
        client.tell(to, now, EventKind::Retransmit(what));
    }
    now += plan.open_ns;
    (client.sent, client.received) = (plan.request + 1, plan.response);
    (server.sent, server.received) = (plan.response + 1, plan.request);
    match plan.course {
        Course::ServerResets | Course::ClientResets => {
            let of_server = plan.course == Course::ServerResets;
            let (one, other, reason, abort) = if of_server {
                (server, client, ABORT_ON_CLOSE, Abort::UnreadData)
            } else {
                (client, server, ABORT_ON_LINGER, Abort::LingerZero)
            };
            let facts = one.facts(plan.open_ns, if of_server { 512 } else { 0 });
            one.tell(to, now, EventKind::ResetSent { reason: Some(reason), facts });
            one.ends(to, now, CloseReason::Aborted(abort));
            other.tell(to, now + way, EventKind::ResetReceived(other.facts(plan.open_ns, 0)));
            let by_peer = CloseReason::ResetByPeer(libc::ECONNRESET);
            other.ends(to, now + way, by_peer);
            let (one, other) = (Some(CloseReason::Aborted(abort)), Some(by_peer));
            if of_server { (other, one) } else { (one, other) }
        }
        course => {
            client.goes(to, now, State::FinWait1, |_| ());
            server.received += 1;
            server.goes(to, now + way, State::CloseWait, |_| ());
            client.sent += 1;
            client.goes(to, now + rtt, State::FinWait2, |_| ());
            now += rtt;
            if course == Course::Leaked {
                client.is_gone(to, now + LINGERING_NS, Some(CloseReason::PeerNeverClosed));
                return (Some(CloseReason::PeerNeverClosed), None);
            }
            server.goes(to, now, State::LastAck, |_| ());
            client.received += 1;
            client.goes(to, now + way, State::TimeWait, |transition| {
                transition.source = StateSource::Inferred;
                (transition.ending, transition.expires_in_ns) = (Some(CloseReason::Normal), Some(LINGERING_NS));
            });
            server.sent += 1;
            server.ends(to, now + rtt, CloseReason::Normal);
            client.is_gone(to, now + way + LINGERING_NS, None);
            (Some(CloseReason::Normal), Some(CloseReason::Normal))
        }
    }
}

/// The owner of a service's sockets.
pub(crate) fn owner(name: &str, pid: u32, uid: u32, cgroup: u64) -> Owner {
    let mut command = [0; 16];
    command.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
    Owner { pid, uid, cgroup, start: None, command: Command::new(command), source: OwnerSource::Connect }
}
