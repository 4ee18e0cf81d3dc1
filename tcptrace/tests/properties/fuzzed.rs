//! The fuzz targets, on their corpus and on mutated files of it.

#[path = "../../../fuzz/targets.rs"]
mod targets;

use targets::{TARGETS, Target};

/// TCPTRACE_FUZZ_RUNS mutated files for each target, else a thousand.
#[test]
fn the_fuzz_targets_find_nothing() {
    let runs = std::env::var("TCPTRACE_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1000_u64);
    TARGETS.iter().for_each(|target| fuzz(*target, runs));
}

fn fuzz((name, target): Target, runs: u64) {
    let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let corpus: Vec<_> = corpus.collect();
    assert!(!corpus.is_empty(), "{name}");
    corpus.iter().for_each(|bytes| target(bytes));
    let seed = std::env::var("TCPTRACE_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    for run in 0..runs {
        // SplitMix64: a run can be repeated by its number alone.
        let mut state = seed << 40 | run;
        let mut random = |below: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ mixed >> 31) as usize % below.max(1)
        };
        let mut bytes = corpus[random(corpus.len())].clone();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            match random(6) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = 0xff,
                2 => bytes[at] ^= 1 << random(8),
                3 => bytes.insert(at, random(256) as u8),
                4 => {
                    let part = bytes[at..(at + random(64)).min(bytes.len())].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, part);
                }
                _ => bytes[at] = random(256) as u8,
            }
        }
        target(&bytes);
    }
}
