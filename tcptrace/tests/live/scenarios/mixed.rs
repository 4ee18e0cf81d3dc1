//! All scenarios at the same time, among connections that are well: what is found, and what is invented.

use super::{
    FLAGS, Scenario,
    env::Env,
    expect::{Verdict, Watch},
    healthy::Healthy,
};
use crate::{net, tracer::Tracer};

/// Namespaces of healthy connections, and how many are in each.
const HEALTHY: (usize, usize) = (2, 1000);

/// All of them load the machine: what is found may be found later than alone, with less evidence at first.
const PATIENCE_MS: u64 = 15_000;

/// Scenarios with a finding that names one end while the other is out of sight: this tracer sees both.
const ALONE: [&str; 1] = ["zero-window-far"];

fn all() -> impl Iterator<Item = &'static Scenario> {
    super::all().filter(|scenario| !ALONE.contains(&scenario.name))
}

/// One tracer for the host: only findings in namespaces of this test count.
pub(crate) fn run() {
    let healthy: Vec<_> = (0..HEALTHY.0).map(|_| Healthy::start(HEALTHY.1)).collect();
    let tracer = Tracer::start(&[&["--format", "json"], &FLAGS[..]].concat());
    let played: Vec<_> = std::thread::scope(|scope| {
        let tracer = &tracer;
        let play = |scenario: &'static Scenario| {
            move || {
                let mut env = Env::new(false);
                env.play(scenario.setup);
                Watch::new(tracer, &env).play(scenario, env, PATIENCE_MS)
            }
        };
        let threads: Vec<_> = all().map(|scenario| (scenario, scope.spawn(play(scenario)))).collect();
        threads.into_iter().map(|(scenario, thread)| (scenario, thread.join())).collect()
    });
    let of_healthy: Vec<_> = healthy.iter().map(|healthy| Watch::of_netns(&tracer, vec![healthy.netns])).collect();
    let (renewed, _places): (Vec<u64>, Vec<_>) = healthy.into_iter().map(Healthy::stop).unzip();
    net::settle();

    let mut total = Verdict::default();
    for (scenario, played) in played {
        let Ok((watch, mut env, mut verdict)) = played else {
            total.wrong.push(format!("{}: it broke off", scenario.name));
            total.expected += scenario.findings.len();
            continue;
        };
        watch.end(scenario.findings, Some(&mut env), &mut verdict);
        total.add(scenario.name, verdict);
    }
    for watch in of_healthy {
        let mut verdict = Verdict::default();
        watch.end(&[], None, &mut verdict);
        total.add("healthy connections", verdict);
    }
    let run = tracer.stop();
    let (found, invented) = (total.found, total.invented);
    println!(
        "findings: {} expected, {found} found, {invented} invented: precision {:.3}, recall {:.3} \
         ({} scenarios among {} healthy connections, {} of them opened anew)",
        total.expected,
        share(found, found + invented),
        share(found, total.expected),
        all().count(),
        HEALTHY.0 * HEALTHY.1,
        renewed.iter().sum::<u64>(),
    );
    println!(
        "late, with less evidence, or not closed in time: {}; events lost: {}",
        total.faults.len(),
        run.records().last().unwrap()["losses"],
    );
    assert!(run.status.success(), "{}: {}", run.status, run.stderr);
    assert!(total.wrong.is_empty(), "{}", total.wrong.join("\n"));
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 1.0 } else { part as f64 / of as f64 }
}
