//! Nothing is lost without being counted.

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
    let count = |run: &crate::tracer::Run, place: &str| run.records().last().unwrap()[place].as_u64().unwrap();
    let lost = |run: &crate::tracer::Run| run.records().last().unwrap()["losses"]["ring_buffer"].as_u64().unwrap();
    // What polls found came by no ring buffer, and on no CPU.
    let events = |run: &crate::tracer::Run| run.records().iter().filter(|event| !event["cpu"].is_null()).count() as u64;
    assert_eq!(lost(&roomy), 0);
    assert!(lost(&tiny) > 1000, "{} lost", lost(&tiny));
    assert_eq!(count(&tiny, "sent"), count(&tiny, "received"), "all that was sent arrives");
    assert_eq!(events(&tiny), count(&tiny, "received"), "and all that arrives is told");
    let busy = |run: &crate::tracer::Run| run.records().last().unwrap()["losses"]["program_busy"].as_u64().unwrap();
    let difference = (count(&tiny, "sent") + lost(&tiny)).abs_diff(count(&roomy, "sent"));
    assert!(difference <= busy(&tiny) + busy(&roomy), "the rest is counted, but for {difference}");
    assert!(tiny.stderr.contains(&format!("ring buffer {}", lost(&tiny))), "{}", tiny.stderr);
    assert!(tiny.status.success());
    let by_cpu: u64 = tiny.records().last().unwrap()["ring_buffer_by_cpu"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|cpu| cpu.as_u64())
        .sum();
    assert_eq!(by_cpu, lost(&tiny));
    // Durations come from the kernel's own memory: a lost event breaks none of those that arrive.
    for event in tiny.records().iter().filter(|event| event["old_state"] == "CLOSE_WAIT") {
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
    connections(port, "2000");
    settle();
    let run = tracer.stop();
    let end = run.records().pop().unwrap();
    assert_eq!(end["losses"]["ring_buffer"], 0, "{end:#}");
    assert!(end["received"].as_u64().unwrap() >= 20_000, "{end:#}");
}
