//! What the run of a kernel came to.

use std::collections::BTreeMap;

/// What a kernel's run came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// As `uname -r` names it.
    pub(super) release: String,
    /// What `tcptrace doctor` says of the machine and of each hook: name, status and value.
    pub(super) checks: Vec<[String; 3]>,
    /// Tests that passed, and that were ignored, by suite.
    pub(super) suites: BTreeMap<String, (u64, u64)>,
    /// What failed: tests, or the machine itself.
    pub(super) failed: Vec<String>,
}

impl Outcome {
    /// A machine that did not run.
    pub(super) fn broken(why: String) -> Self {
        Self { failed: vec![why], ..Self::default() }
    }

    pub(super) fn summary(&self) -> String {
        let (passed, ignored) = self.totals();
        format!("{}: {passed} passed, {} failed, {ignored} ignored", self.release, self.failed.len())
    }

    pub(super) fn totals(&self) -> (u64, u64) {
        self.suites.values().fold((0, 0), |(passed, ignored), (more, others)| (passed + more, ignored + others))
    }
}
