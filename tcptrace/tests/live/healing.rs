//! What was lost is said, and the table is made right again.

use serde_json::Value;

use crate::{
    Test,
    actor::Actor,
    net::{enter_new_netns, sysctl},
    ss,
    tracer::{Tracer, socket_counts},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a gap is told, counted and healed", || gaps("6531", &[])),
    ("a gap is told, counted and healed (--no-iter)", || gaps("6532", &["--no-iter"])),
];

fn gaps(port: &str, flags: &[&str]) {
    enter_new_netns();
    sysctl("tcp_tw_reuse", 0);
    let tiny = ["--ring-size", "4KiB", "--latency", "2s", "--poll", "off"];
    let mut churn = Actor::start("t-churn", &[port]);
    let tracer = Tracer::here(&[flags, &tiny].concat());
    let is_gap = |record: &Value| record["event"] == "gap";
    tracer.wait_for_record("gap", is_gap);
    // How much is lost of one life depends on who runs when.
    tracer.wait_for_record("event after a gap", |record| record["after_gap"] == true);
    churn.go();
    assert_eq!(churn.says(), "quiet");
    // Time for a last look at the counters and a listing; whether more was lost since the last gap depends on who ran when.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let before = ss::counts();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    ss::assert_between(&socket_counts(&run.summary()), &before, &ss::counts());
    assert!(before["ESTABLISHED"] > 70, "{before:?}");

    let records = run.records();
    let end = records.last().unwrap();
    let sum = |numbers: &Value| numbers.as_array().unwrap().iter().map(|lost| lost.as_u64().unwrap()).sum::<u64>();
    let (mut ring, mut busy) = (vec![0; end["ring_buffer_by_cpu"].as_array().unwrap().len()], 0);
    let mut until_ns = 0;
    for gap in records.iter().filter(|record| is_gap(record)) {
        let ns = |field: &str| gap[field].as_u64().unwrap_or_else(|| panic!("no {field} in {gap:#}"));
        for (sum, lost) in ring.iter_mut().zip(gap["ring_buffer_by_cpu"].as_array().unwrap()) {
            *sum += lost.as_u64().unwrap();
        }
        busy += ns("program_busy");
        assert_eq!(ns("lost"), sum(&gap["ring_buffer_by_cpu"]) + ns("program_busy"), "{gap:#}");
        assert!(until_ns <= ns("after_mono_ns") && ns("after_mono_ns") < ns("mono_ns"), "{gap:#}");
        assert!(ns("healed_mono_ns") >= ns("mono_ns"), "all are healed: {gap:#}");
        assert!(gap["sockets_added"].is_u64() && gap["sockets_removed"].is_u64() && gap["sockets_changed"].is_u64());
        until_ns = ns("mono_ns");
    }
    assert_eq!(Value::from(ring), end["ring_buffer_by_cpu"]);
    assert_eq!(sum(&end["ring_buffer_by_cpu"]), end["losses"]["ring_buffer"].as_u64().unwrap());
    assert_eq!(busy, end["losses"]["program_busy"].as_u64().unwrap());
    assert!(end["losses"]["ring_buffer"].as_u64().unwrap() > 1000, "{end:#}");
    // Durations are the kernel side's own: a gap breaks none. Which of them it touched is marked.
    let transitions = || records.iter().filter(|record| record["event"] == "transition" && !record["cpu"].is_null());
    assert!(transitions().any(|event| event["after_gap"] == true));
    assert!(transitions().any(|event| event["after_gap"] == false && event["old_state"] == "ESTABLISHED"));
}
