//! How an output is doing: what it delivered, what waits, and what it lost.

/// Name of tcptrace's own log among the outputs.
pub const LOG: &str = "log";

/// What became of an output's records up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputState {
    /// The output, as it was asked for, without secrets.
    pub name: String,
    /// See [`Counters`].
    pub delivered: u64,
    /// See [`Counters`].
    pub dropped: u64,
    /// See [`Counters`].
    pub refused: u64,
    /// Records that are still on their way: with those that are delivered, dropped and refused these are all.
    pub waiting: u64,
    /// See [`Counters`].
    pub retries: u64,
    /// See [`Counters`].
    pub queued_bytes: u64,
    /// Why nothing is delivered now, if it is so.
    pub trouble: Option<String>,
    /// Did its reader go, as one that has seen enough (`| head`)?
    pub has_no_reader: bool,
}

impl OutputState {
    /// Records that were lost here.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.dropped + self.refused
    }

    /// Records that were made for it.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.delivered + self.lost() + self.waiting
    }

    /// Records that these lost; lines of the log are none.
    #[must_use]
    pub fn lost_records(outputs: &[Self]) -> u64 {
        outputs.iter().filter(|output| output.name != LOG).map(Self::lost).sum()
    }
}
