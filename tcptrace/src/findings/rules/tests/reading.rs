//! What nobody accepts, and what nobody reads.

use crate::{
    findings::{
        Cause, Kind, Severity, Subject, Value,
        testing::{Host, LISTENER, PID, S, end, evidence, in_state},
    },
    model::{holders::Holder, snapshot::ProcessState},
};

#[test]
fn requests_that_lie_unread_are_good_to_know_and_a_trouble_where_the_process_is_stopped() {
    for (letter, severity, cause) in
        [(b'S', Severity::Info, Cause::RequestsUnread), (b'T', Severity::Warning, Cause::ReaderStopped)]
    {
        let mut host = Host::new();
        let place = host.unread(5 * S - 1);
        let handle = host.sockets[place].handle;
        host.holders.push(Holder { handle, fd: 7, ..host.holders[0] });
        host.processes.push(ProcessState { read_ns: host.now_ns, ..in_state(letter) });
        assert_eq!(host.detections(), []);
        host.wait(1);
        host.sockets[place].connection.as_mut().unwrap().last_received_ns += 1;
        let seen = host.only();
        assert_eq!((seen.kind, seen.severity, seen.cause), (Kind::ReadStalled, severity, cause));
        assert_eq!((seen.owner.unwrap().pid, seen.subject), (PID, Subject::Local(end(LISTENER))));
        assert_eq!(*evidence(&seen, "unread_bytes"), Value::Number(18));
        assert_eq!(*evidence(&seen, "unread_for_ns"), Value::Number(5 * S));
    }
}

#[test]
fn who_reads_slowly_or_waits_for_an_answer_is_healthy() {
    let mut host = Host::new();
    let place = host.unread(60 * S);
    assert_eq!(host.detections().len(), 1);
    // A byte less.
    host.sockets[place].receive_queue -= 1;
    assert_eq!(host.detections(), []);
    host.wait(5 * S);
    assert_eq!(host.detections().len(), 1, "and no more since then");
    // A long poll: all was read.
    host.sockets[place].receive_queue = 0;
    assert_eq!(host.detections(), []);
    // A client's.
    let mut host = Host::new();
    let place = host.unread(60 * S);
    host.sockets.swap_remove(place - 1);
    assert_eq!(host.detections(), []);
}
