//! What tests of the pure middle share: streams of records made as the BPF programs make them, and sessions that read
//! them with a fixed clock and fixed names, so that the same bytes always give the same output.

pub(crate) mod listing;
pub(crate) mod records;
pub(crate) mod replay;
pub(crate) mod rfc4180;
pub(crate) mod schema;
