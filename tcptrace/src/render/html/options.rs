//! What a page says besides what happened.

/// What a page says about the recording that it is made from.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Version of the tcptrace that recorded.
    pub recorded_by: String,
    /// True if names and addresses were replaced.
    pub is_anonymous: bool,
    /// True if a filter chose a part of what was recorded.
    pub is_filtered: bool,
    /// True if only a part of the time was chosen.
    pub is_part: bool,
    /// TCP settings of the network namespace in which tcptrace ran, as they were when the recording began.
    pub settings: Vec<HostSetting>,
}

/// A TCP setting.
#[derive(Clone, Debug)]
pub struct HostSetting {
    /// Its name; without a dot, below `net.ipv4`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What it is for.
    pub meaning: &'static str,
    /// Why the value is harmful, if it is.
    pub harm: Option<String>,
}
