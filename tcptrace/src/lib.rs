//! tcptrace: every TCP state transition of a machine, how long it took, and the process responsible.
//!
//! This library is the program's own, split into rooms. Each uses only the rooms before it, and no two files use each
//! other (kept by `tests/structure.rs`):
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`model`] | the values that all rooms share: events and their decoding, states, sockets, losses, filters |
//! | [`sys`] | the operating system apart from TCP and BPF: clocks, signals, threads, files, cgroups |
//! | [`bpf`] | the kernel side: loads and attaches the programs, reads their rings and maps |
//! | [`listing`] | what exists now: sockets, the processes that hold them, network namespaces |
//! | [`table`] | the sockets that are alive, from events and listings |
//! | [`findings`] | what is wrong, with its cause, evidence and remedy |
//! | [`analysis`] | what a run amounts to: summaries, stories, metrics |
//! | [`render`] | all of this as text, JSON, CSV and metrics |
//! | [`pipeline`] | the rooms above as one value: records go in, rendered records come out for each output |
//! | [`outputs`] | where records go: files, journald, syslog, OTLP, Kafka, HTTP, programs |
//! | [`cli`] | flags, variables and the config file, as data |
//! | [`commands`] | each command; the only room that connects the others |
//!
//! Data flows one way, from the probes to the outputs. `model`, `table`, `findings`, `analysis`, `render` and `pipeline`
//! are pure: they get the time as an argument and touch no clock, file or system call, so that recorded bytes run through
//! them as live ones do: [`pipeline::input`] is all that they are told, and [`pipeline::recording`] its form in files.

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
