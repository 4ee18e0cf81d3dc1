//! Loss on the path.

use crate::{
    findings::{
        Kind, Severity, Subject, Value,
        testing::{Host, MS, S, end, evidence},
    },
    model::state::State,
};

/// So many connections to one destination, of which the first ones send a segment again each.
fn host(connections: usize, lossy: usize, timeouts: u8) -> Host {
    let mut host = Host::new();
    let places: Vec<_> = (0..connections)
        .map(|number| host.add(State::SynSent, &format!("10.1.0.1:{}", 40_000 + number), "10.9.0.9:80", 0))
        .collect();
    for (number, place) in places.into_iter().enumerate() {
        if number < lossy {
            host.retransmits(place, timeouts);
        }
        host.wait(MS);
        host.enters(place, State::Established, None);
    }
    host
}

#[test]
fn loss_over_short_connections_is_counted_by_destination() {
    let mut host = host(200, 20, 1);
    let seen = host.unlisted_detections();
    let [seen] = &seen[..] else { panic!("{seen:#?}") };
    assert_eq!((seen.kind, seen.severity, seen.count), (Kind::RetransmitStorm, Severity::Warning, 20));
    assert_eq!(seen.subject, Subject::Remote(end("10.9.0.9:80")));
    assert_eq!(*evidence(seen, "connections"), Value::Number(200));
    host.wait(15 * S);
    assert_eq!(host.unlisted_detections(), [], "it is over");
}

#[test]
fn few_segments_few_connections_and_silence_are_no_loss() {
    for (connections, lossy, timeouts) in [(200, 19, 1), (19, 19, 1), (1001, 20, 1), (200, 200, 3), (200, 200, 0)] {
        assert_eq!(host(connections, lossy, timeouts).unlisted_detections(), [], "{connections} {lossy} {timeouts}");
    }
}
