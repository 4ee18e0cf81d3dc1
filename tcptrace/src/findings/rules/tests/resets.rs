//! Connections that end with a RST.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Value,
        testing::{Host, MS, ON, PID, S, end, evidence},
    },
    model::{
        close_reason::{Abort, CloseReason},
        event::{Owner, OwnerSource},
        socket::Keepalive,
        state::State,
    },
};

const LOCAL: &str = "10.1.0.1:80";
const REMOTE: &str = "10.9.0.9:40000";

/// A RST that came so long after the last data to the peer, and the last segment from it.
fn reset(state: State, in_state_ns: u64, last_sent_ns: u64, silence_ns: u64, keepalive: Keepalive) -> Host {
    let mut host = Host::new();
    let place = host.add(state, LOCAL, REMOTE, in_state_ns);
    let socket = &mut host.sockets[place];
    (socket.keepalive, socket.receive_queue, socket.send_queue) = (keepalive, 11, 22);
    let errno = if state == State::CloseWait { libc::EPIPE } else { libc::ECONNRESET };
    host.is_reset(place, errno, last_sent_ns, silence_ns);
    host
}

#[test]
fn a_reset_after_silence_in_answer_to_something_is_an_idle_reset() {
    use State::Established;
    let minute = 60 * S;
    for (last_sent, silence, probes, kind) in [
        (MS, minute, 0, Kind::IdleReset),
        (MS, minute - 1, 0, Kind::ResetByPeer),
        (minute + S, minute, 1, Kind::IdleReset),
        (minute + S, minute, 0, Kind::ResetByPeer), // answers nothing
        (minute, minute, 0, Kind::ResetByPeer),
        (minute - 1, minute, 0, Kind::IdleReset),
    ] {
        let mut host = Host::new();
        let place = host.add(Established, LOCAL, REMOTE, 100 * S);
        // That it is on does not tell whether it has asked.
        (host.sockets[place].keepalive, host.sockets[place].probes) = (ON, probes);
        host.is_reset(place, libc::ECONNRESET, last_sent, silence);
        let seen = host.only();
        assert_eq!(seen.kind, kind, "{last_sent} {silence} {probes}");
        assert_eq!((seen.severity, seen.count, seen.owner.unwrap().pid), (Severity::Warning, 1, PID));
        assert_eq!(*evidence(&seen, "idle_ns"), Value::Number(silence));
        if kind == Kind::IdleReset {
            assert_eq!(*evidence(&seen, "keepalive"), Value::Flag(true));
            assert_eq!(*evidence(&seen, "peer_end"), Value::Name("not_visible"));
            assert_eq!(*evidence(&seen, "peer_sent_rst"), Value::Unknown);
        }
    }
}

#[test]
fn a_reset_in_close_wait_answers_what_was_written_after_the_fin() {
    for (last_sent_ns, kind) in [(S - 1, Kind::WriteAfterClose), (S, Kind::ResetByPeer), (2 * S, Kind::ResetByPeer)] {
        let seen = reset(State::CloseWait, S, last_sent_ns, 2 * S, Keepalive::Off).only();
        assert_eq!((seen.kind, seen.severity, seen.count), (kind, Severity::Warning, 1), "{last_sent_ns}");
        assert_eq!(*evidence(&seen, "errno"), Value::Name("EPIPE"));
        if kind == Kind::WriteAfterClose {
            assert_eq!(*evidence(&seen, "after_fin_ns"), Value::Number(1));
        }
    }
    let seen = reset(State::CloseWait, 70 * S, MS, 70 * S, Keepalive::Off).only();
    assert_eq!(seen.kind, Kind::WriteAfterClose, "silence or not");
    let seen = reset(State::Established, S, MS, 2 * S, Keepalive::Off).only();
    assert_eq!(seen.kind, Kind::ResetByPeer, "the peer had not closed");
}

#[test]
fn a_reset_is_told_with_what_was_lost() {
    let seen = reset(State::Established, S, MS, MS, Keepalive::Off).only();
    assert_eq!(seen.subject, Subject::Remote(end(REMOTE)));
    for (name, value) in [
        ("errno", Value::Name("ECONNRESET")),
        ("state", Value::Name("ESTABLISHED")),
        ("unread_bytes", Value::Number(11)),
        ("unacked_bytes", Value::Number(22)),
        ("peer_pid", Value::Unknown),
        ("peer_command", Value::Unknown),
    ] {
        assert_eq!(*evidence(&seen, name), value, "{name}");
    }
    // Where the tracepoint did not show the RST, the transition tells.
    let mut host = Host::new();
    let place = host.add(State::Established, LOCAL, REMOTE, S);
    host.sockets[place].receive_queue = 3;
    host.fails(place, CloseReason::ResetByPeer(libc::ECONNRESET));
    let seen = host.only();
    assert_eq!((seen.kind, evidence(&seen, "unread_bytes")), (Kind::ResetByPeer, &Value::Number(3)));
    assert_eq!(*evidence(&seen, "idle_ns"), Value::Unknown);
}

#[test]
fn a_client_that_leaves_by_a_reset_harms_nobody_where_nothing_was_lost() {
    for (source, unread, unacked, severity) in [
        (OwnerSource::Listener, 0, 0, Severity::Info),
        (OwnerSource::Listener, 1, 0, Severity::Info),
        (OwnerSource::Listener, 0, 1, Severity::Info), // it did not want the rest
        (OwnerSource::Connect, 0, 0, Severity::Warning),
        (OwnerSource::Io, 0, 0, Severity::Warning), // who opened it was not seen
    ] {
        let mut host = Host::new();
        let place = host.add(State::Established, LOCAL, REMOTE, S);
        let socket = &mut host.sockets[place];
        (socket.receive_queue, socket.send_queue) = (unread, unacked);
        socket.owner = socket.owner.map(|owner| Owner { source, ..owner });
        host.is_reset(place, libc::ECONNRESET, S, S);
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity), (Kind::ResetByPeer, severity), "{source:?} {unread} {unacked}");
    }
}

#[test]
fn an_abort_is_told_of_at_both_ends_with_its_cause() {
    for (abort, cause) in [(Abort::LingerZero, "linger_zero"), (Abort::UnreadData, "unread_data")] {
        let mut host = Host::new();
        host.add(State::Listen, LOCAL, "0.0.0.0:0", 100 * S);
        let client = host.add(State::Established, REMOTE, LOCAL, S);
        let server = host.add(State::Established, LOCAL, REMOTE, S);
        host.owned_by(client, 900);
        (host.sockets[client].receive_queue, host.sockets[client].send_queue) = (5, 6);
        host.list();
        host.enters(client, State::Close, Some(CloseReason::Aborted(abort)));
        host.wait(MS);
        host.is_reset(server, libc::ECONNRESET, S, MS);
        let seen = host.detections();
        let kinds: Vec<_> = seen.iter().map(|seen| seen.kind).collect();
        if abort == Abort::UnreadData {
            assert_eq!(kinds, [Kind::ResetByPeer], "the client did not want the rest: the server's end tells of it");
            continue;
        }
        assert_eq!(kinds, [Kind::ResetByPeer, Kind::AbortedClose]);
        let (peer, aborted) = (&seen[0], &seen[1]);
        assert_eq!((peer.owner.unwrap().pid, peer.subject), (PID, Subject::Local(end(LOCAL))));
        assert_eq!(*evidence(peer, "peer_pid"), Value::Number(900));
        assert_eq!(*evidence(peer, "peer_command"), Value::Text("server".to_owned()));
        assert_eq!((aborted.owner.unwrap().pid, aborted.subject), (900, Subject::Remote(end(LOCAL))));
        assert_eq!(*evidence(aborted, "cause"), Value::Name(cause));
        assert_eq!(*evidence(aborted, "unread_bytes"), Value::Number(5));
        assert_eq!(*evidence(aborted, "unsent_bytes"), Value::Number(6));
    }
}

#[test]
fn an_idle_reset_tells_whether_the_other_end_did_it() {
    let with_other = |abort: bool, is_there: bool| {
        let mut host = Host::new();
        let place = host.add(State::Established, LOCAL, REMOTE, 100 * S);
        let other = host.add(State::Established, REMOTE, LOCAL, 100 * S);
        host.owned_by(other, 900);
        host.list();
        if abort {
            host.enters(other, State::Close, Some(CloseReason::Aborted(Abort::LingerZero)));
        } else if !is_there {
            host.sockets[other].state = State::Close;
        }
        host.is_reset(place, libc::ECONNRESET, MS, 70 * S);
        assert_eq!(
            host.unlisted_detections().iter().filter(|seen| seen.kind == Kind::IdleReset).count(),
            usize::from(abort)
        );
        host.wait(300 * MS);
        let found = host.detections();
        let seen = found.iter().find(|seen| seen.kind == Kind::IdleReset).unwrap();
        (seen.cause, evidence(seen, "peer_end").clone(), evidence(seen, "peer_sent_rst").clone())
    };
    let (alive, gone) = (Value::Name("alive"), Value::Name("gone"));
    assert_eq!(with_other(false, true), (Cause::SentOnPath, alive, Value::Flag(false)), "something on the path did");
    assert_eq!(with_other(false, false), (Cause::ForgottenOnPath, gone.clone(), Value::Unknown));
    assert_eq!(with_other(true, false), (Cause::PeerAbortedIdle, gone, Value::Flag(true)));
}

#[test]
fn a_reset_after_this_side_closed_is_told_where_data_was_lost() {
    for (unacked, found) in [(0, 0), (1, 0), (2, 1)] {
        let mut host = Host::new();
        let place = host.add(State::LastAck, LOCAL, REMOTE, S);
        host.sockets[place].send_queue = unacked;
        host.is_reset(place, libc::ECONNRESET, MS, MS);
        assert_eq!(host.detections().len(), found, "{unacked}: the FIN counts as one");
    }
}

#[test]
fn ends_that_are_no_trouble_are_not_told() {
    for (state, ending) in [
        (State::LastAck, CloseReason::Normal),
        (State::FinWait2, CloseReason::ResetAfterClose),
        (State::FinWait1, CloseReason::ResetAfterClose),
        (State::FinWait2, CloseReason::PeerNeverClosed),
        (State::Established, CloseReason::Aborted(Abort::Destroyed)),
        (State::Established, CloseReason::Aborted(Abort::ListenerClosed)),
        (State::Established, CloseReason::Aborted(Abort::Repair)),
        (State::Established, CloseReason::Unknown),
    ] {
        let mut host = Host::new();
        let place = host.add(state, LOCAL, REMOTE, S);
        host.fails(place, ending);
        assert_eq!(host.detections(), [], "{state} {ending:?}");
    }
}
