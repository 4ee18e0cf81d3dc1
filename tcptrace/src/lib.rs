//! tcptrace: every TCP state transition of a machine, how long it took, and the process responsible.
//!
//! Data flows one way, and a module uses only what stands before it:
//! records ([`tcptrace_common::record`]) → [`event`] → [`decode`] → [`table`] → [`findings`], [`report`] → [`summary`], [`story`] →
//! [`render`] → [`route`] → [`session`], with [`metrics`] beside the summary. What a session gives is
//! [`outputs::Records`], for the outputs. A listing goes another way: [`snapshot`] → [`select`] → [`sockets`] →
//! [`render`]; a check-up a third: [`doctor`] → [`render`]; what the programs counted a fourth: [`aggregate`] →
//! [`report`].
//! What others choose the characters of goes through [`printable`] in all of them.
//! All of these are pure: they touch no clock, file or kernel, so recorded bytes run through them as live ones do.
//! The edges are [`bpf`] (the kernel), [`listing`], [`cgroup`], [`mountinfo`], [`pids`], [`descriptors`], [`now`],
//! [`heap`], [`runtime`], [`watch`], [`usage`], [`files`], [`outputs`], [`http`], [`delivery`], [`skipped`], [`service`],
//! [`tell`], [`workers`] and [`cli`]; [`app`] and [`commands`] alone know both sides.

pub mod analysis;
pub mod bpf;
pub mod cli;
pub mod commands;
pub mod findings;
pub mod listing;
pub mod model;
pub mod outputs;
pub mod pipeline;
pub mod render;
pub mod sys;
pub mod table;
