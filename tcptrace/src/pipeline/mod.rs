//! Everything between the kernel's records and the outputs as one value: records go in, rendered records come out for
//! each output.
//!
//! A [`session::Session`] owns the table of sockets, the findings and the summaries. [`session::Session::ingest`] takes
//! a record's bytes; the session decodes them, updates the table, applies the filter, and passes the event to each
//! [`route::Route`], which renders it in the format of its output. For example, one run may write text to the terminal
//! and JSON to a file: two routes, which see the same event.
//!
//! The pipeline is pure: it gets the time as an argument, so that a recording runs through it exactly as live events
//! do.

pub mod finding_watch;
mod held;
pub mod input;
pub mod listeners;
pub mod record_filter;
pub mod recording;
pub mod records;
pub mod route;
pub mod session;
pub mod settings;
pub(crate) mod user_filter;
pub mod watch;
