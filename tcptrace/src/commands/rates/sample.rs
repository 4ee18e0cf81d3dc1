//! Reads the kernel's counters of network namespaces.

use std::{fs, io, panic::resume_unwind, thread, time::Instant};

use thiserror::Error;

use crate::{
    analysis::rates::meter::{Reading, Round},
    listing::{
        chosen_netns::ChosenNetns,
        netns::{self, EnterError, Netns},
    },
    model::{netns_choice::NetnsChoice, skipped::Skipped},
    sys::clock::now_ns,
};

/// Files of a namespace. They are not kept open between samples, because an open file keeps its namespace alive, and with it the
/// devices of a container that has ended (`fs/proc/proc_net.c`, `single_open_net`). `sockstat6` is missing if the kernel has
/// no IPv6.
const FILES: [&str; 4] = ["snmp", "netstat", "sockstat", "sockstat6"];

/// Searching for namespaces takes at most this fraction of the time (1/N).
const SEARCH_SHARE: u32 = 100;

/// Why the counters cannot be read.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Find(#[from] netns::Error),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Reads the counters of all namespaces of this host, or of the chosen one.
pub struct Sampler {
    choice: Option<NetnsChoice>,
    found: Vec<Netns>,
    skipped: Skipped,
    next_search: Instant,
}

impl Sampler {
    /// Finds the namespaces.
    ///
    /// # Errors
    /// If the chosen one does not exist.
    pub fn new(choice: Option<NetnsChoice>) -> Result<Self, Error> {
        let mut sampler = Self { choice, found: Vec::new(), skipped: Skipped::default(), next_search: Instant::now() };
        sampler.search()?;
        Ok(sampler)
    }

    fn search(&mut self) -> Result<(), netns::Error> {
        let start = Instant::now();
        (self.found, self.skipped) = netns::find(self.choice.as_ref())?;
        if let Some(chosen) = self.choice.as_ref().map(ChosenNetns::find).transpose()?.flatten() {
            self.found.iter_mut().for_each(|found| found.cookie = chosen.cookie);
        }
        self.next_search = Instant::now() + start.elapsed() * (SEARCH_SHARE - 1);
        Ok(())
    }

    /// Reads the counters of all namespaces, including new ones if it is time to search for them.
    ///
    /// # Errors
    /// If the chosen one no longer exists or cannot be entered, or no thread can be started.
    pub fn round(&mut self) -> Result<Round, Error> {
        // The chosen one is found only once: another namespace may get its name or number later.
        if self.choice.is_none() && Instant::now() >= self.next_search {
            self.search()?;
        }
        // On a separate thread, since a thread leaves the namespaces that it entered by ending.
        let round = thread::scope(|scope| {
            let reader = thread::Builder::new().spawn_scoped(scope, || self.read_all())?;
            Ok::<_, io::Error>(reader.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
        Ok(round?)
    }

    fn read_all(&self) -> Result<Round, EnterError> {
        let start_ns = now_ns();
        let mut round = Round { skipped: self.skipped, ..Round::default() };
        for found in &self.found {
            match found.enter() {
                Ok(()) => _ = round.readings.insert(found.inode, read()),
                Err(error) if self.choice.is_some() => return Err(error),
                Err(EnterError::Denied(..)) => round.skipped.namespaces_denied += 1,
                Err(_) => round.skipped.namespaces_gone += 1,
            }
        }
        round.mono_ns = start_ns.midpoint(now_ns());
        Ok(round)
    }
}

/// Reads the files of this thread's namespace.
fn read() -> Reading {
    let mut reading = Reading::default();
    for file in FILES {
        if let Ok(text) = fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            reading.take_in(&text);
        }
    }
    reading
}
