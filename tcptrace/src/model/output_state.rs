//! Status of an output: records delivered, waiting and lost.

/// Name of tcptrace's own log in the list of outputs.
pub const LOG: &str = "log";

/// Counts of an output's records so far, and why it is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputState {
    /// The output as configured, without secrets.
    pub name: String,
    /// Records that the receiver accepted.
    pub delivered: u64,
    /// Records dropped because the queue was full.
    pub dropped: u64,
    /// Records that the receiver refused.
    pub refused: u64,
    /// Records that exceeded the rate that the user wants; they are not lost.
    pub suppressed: u64,
    /// Records in flight. Delivered, dropped, refused, suppressed and waiting records add up to all records made.
    pub waiting: u64,
    /// Failed attempts that were repeated.
    pub retries: u64,
    /// Size of the records in the queue, in bytes.
    pub queued_bytes: u64,
    /// Why nothing is being delivered, if so.
    pub trouble: Option<String>,
    /// True if its reader went away, as `head` does once it has read enough.
    pub has_no_reader: bool,
}

impl OutputState {
    /// Records that this output lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.dropped + self.refused
    }

    /// Records that were made for this output.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.delivered + self.lost() + self.suppressed + self.waiting
    }

    /// Records that these outputs lost; log lines do not count.
    #[must_use]
    pub fn lost_records(outputs: &[Self]) -> u64 {
        outputs.iter().filter(|output| output.name != LOG).map(Self::lost).sum()
    }
}
