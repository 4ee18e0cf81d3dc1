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
}
