//! The values that all rooms share: events and how they are decoded, TCP states, sockets as listings report them,
//! namespaces, losses, filters.
//!
//! Everything here is pure: no clock, no file, no system call. The kernel's bytes become an [`event::Event`] in
//! [`decode`]; a listing produces a [`snapshot::Snapshot`] of [`socket::ListedSocket`]s; and every fact says how it was
//! determined: a time in a state, for example, carries a [`event::TimeSource`], so that a lower bound is never mistaken
//! for a measurement.
//!
//! ```
//! use tcptrace::model::{event::TimeSource, state::State};
//!
//! let state: State = "fin-wait-2".parse()?;
//! assert_eq!(state.name(), "FIN_WAIT2");
//! assert!(TimeSource::Observed.is_measured());
//! assert!(!TimeSource::LowerBound.is_measured());
//! # Ok::<(), tcptrace::model::state::UnknownState>(())
//! ```

pub mod age;
pub mod anonymous;
pub mod close_reason;
pub mod decode;
pub mod errno;
pub mod event;
pub mod event_kind;
pub mod filter;
pub mod generations;
pub mod holders;
pub mod hosts;
pub mod kernel_counts;
pub mod keyed;
pub mod losses;
pub mod names;
pub mod namespace;
pub(crate) mod nearest;
pub mod netns_choice;
pub mod notice;
pub mod number;
pub mod output_state;
pub mod place;
pub mod printable;
pub mod processes;
pub mod screen;
pub mod secrets;
pub mod skipped;
pub mod snapshot;
pub mod socket;
pub mod socket_filter;
pub mod state;
pub mod time;
