//! Why a run failed.

use std::{io, path::PathBuf};

use aya::maps::MapError;
use thiserror::Error;

use crate::{
    bpf::object,
    commands::delivery::{self},
    listing::netns::{self},
    sys::workers::WorkerState,
};

/// Why a run failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{0}")]
    Obstacle(String),
    #[error(transparent)]
    Probes(#[from] object::Error),
    #[error("cannot read the counters of the BPF programs: {0}")]
    Counters(#[from] MapError),
    #[error(transparent)]
    Delivery(#[from] delivery::Error),
    #[error("{0}")]
    Outputs(String),
    #[error("cannot create the ready file {}: {source}", path.display())]
    ReadyFile { path: PathBuf, source: io::Error },
    #[error("cannot record to {}: {source}", path.display())]
    Recording { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Netns(#[from] netns::Error),
    #[error("cannot set up {what}: {source}")]
    Setup { what: &'static str, source: io::Error },
    #[error("{0}")]
    Thread(WorkerState),
    #[error("the thread `{0}` keeps hanging or failing")]
    HangsAgain(String),
    #[error("all outputs have stopped accepting data")]
    AllHang,
}

pub(crate) fn signals(source: io::Error) -> Error {
    Error::Setup { what: "signal handling", source }
}

pub(crate) fn no_thread(source: io::Error) -> Error {
    Error::Setup { what: "the thread that lists sockets", source }
}
