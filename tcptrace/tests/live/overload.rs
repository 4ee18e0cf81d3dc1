//! Nothing is lost without being counted.

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, listen, pair, settle},
    tracer::Tracer,
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a full ring buffer loses what it counts", || full_ring("6101", &[])),
    ("a full ring buffer loses what it counts (--shared-ring)", || full_ring("6103", &["--shared-ring"])),
    ("full tables are counted, and tracing goes on", full_tables),
    ("a flood wakes the reader before its timer", || flood("6102", &[])),
    ("a flood wakes the reader before its timer (--shared-ring)", || flood("6104", &["--shared-ring"])),
];

fn connections(port: &str, count: &str) {
    let server = Actor::start("t-server", &[port, count, "0"]);
    Actor::start("t-client", &[port, count, "1"]).wait();
    server.wait();
}

fn full_ring(port: &str, flags: &[&str]) {
    enter_new_netns();
    // Both see the same events; the second has room for all of them.
    let tiny = Tracer::json(&[flags, &["--port", port, "--ring-size", "4KiB", "--latency", "2s"]].concat());
    let roomy = Tracer::json(&[flags, &["--port", port]].concat());
    connections(port, "3000");
    settle();
    let (tiny, roomy) = (tiny.stop(), roomy.stop());
    assert!(tiny.status.success());
    let (told, told_by_roomy) = (tiny.records(), roomy.records());
    let (end, end_of_roomy) = (told.last().unwrap(), told_by_roomy.last().unwrap());
    let number = |value: &Value| value.as_u64().unwrap();
    let lost = number(&end["losses"]["ring_buffer"]);
    assert_eq!(end_of_roomy["losses"]["ring_buffer"], 0);
    assert!(lost > 1000, "{lost} lost");
    assert_eq!(end["sent"], end["received"], "all that was sent arrives");
    // What polls found came by no ring buffer, and on no CPU.
    let events = told.iter().filter(|event| !event["cpu"].is_null()).count() as u64;
    assert_eq!(events, number(&end["received"]), "and all that arrives is told");
    let busy = |end: &Value| number(&end["losses"]["program_busy"]);
    let difference = (number(&end["sent"]) + lost).abs_diff(number(&end_of_roomy["sent"]));
    assert!(difference <= busy(end) + busy(end_of_roomy), "the rest is counted, but for {difference}");
    assert!(tiny.stderr.contains(&format!("ring buffer {lost}")), "{}", tiny.stderr);
    let by_cpu: u64 = end["ring_buffer_by_cpu"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(by_cpu, lost);
    // Durations come from the kernel's own memory: a lost event breaks none of those that arrive.
    for event in told.iter().filter(|event| event["old_state"] == "CLOSE_WAIT") {
        assert!(event["time_in_old_state_ns"].is_u64(), "{event:#}");
    }
}

fn full_tables() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let tracer = Tracer::json(&["--port", &to.port().to_string(), "--max-sockets", "16", "--kernel-sockets", "16"]);
    let pairs: Vec<_> = (0..100).map(|_| pair(&listener, to)).collect();
    drop(pairs);
    let (client, server) = pair(&listener, to);
    drop(client);
    net::wait_for_fin(&server);
    drop(server);
    settle();
    let run = tracer.stop();
    assert!(run.status.success());
    let records = run.records();
    let end = records.last().unwrap();
    assert!(end["losses"]["kernel_table"].as_u64().unwrap() > 0, "{end:#}");
    assert!(end["losses"]["evicted"].as_u64().unwrap() > 0, "{end:#}");
    assert_eq!(end["losses"]["ring_buffer"], 0);
    assert_eq!(end["sent"], end["received"]);
    let closed = records.iter().filter(|event| event["new_state"] == "LAST_ACK" || event["old_state"] == "ESTABLISHED");
    assert!(closed.count() >= 200, "all transitions are told");
}

fn flood(port: &str, flags: &[&str]) {
    enter_new_netns();
    // At this latency the timer would come once in 10 s, and there is room for 12,000 events at most of 20,000.
    let tracer = Tracer::json(&[flags, &["--port", port, "--ring-size", "2MiB", "--latency", "20s"]].concat());
    for _ in 0..10 {
        connections(port, "200");
        settle(); // the reader may be late where the host is busy
    }
    let run = tracer.stop();
    let end = run.records().pop().unwrap();
    assert_eq!(end["losses"]["ring_buffer"], 0, "{end:#}");
    assert!(end["received"].as_u64().unwrap() >= 20_000, "{end:#}");
}
