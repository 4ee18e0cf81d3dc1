//! The edge that looks at the kernel's counters.

use std::{fs, io, panic::resume_unwind, thread, time::Instant};

use thiserror::Error;

use crate::{
    commands::rates::meter::{Reading, Round},
    listing::{
        chosen_netns::ChosenNetns,
        netns::{self, EnterError, Netns},
    },
    model::{netns_choice::NetnsChoice, skipped::Skipped},
    sys::clock::now_ns,
};

/// Files of a namespace. None is kept open from one look to the next: an open one keeps its namespace alive, and with
/// it the devices of a container that has ended (`fs/proc/proc_net.c`, `single_open_net`). `sockstat6` is missing where
/// the kernel has no IPv6.
const FILES: [&str; 4] = ["snmp", "netstat", "sockstat", "sockstat6"];

/// Looking for namespaces takes at most one part in so many of the time.
const SEARCH_SHARE: u32 = 100;

/// Why nothing can be read.
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

/// Looks at the namespaces of this host, or at the one that is chosen.
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
    /// Where there is none like the one that is chosen.
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

    /// Reads the counters of all namespaces; of those that came meanwhile too, where it is time to look for them.
    ///
    /// # Errors
    /// Where the one that is chosen is no more or may not be entered, and where no thread can be started.
    pub fn round(&mut self) -> Result<Round, Error> {
        // What is chosen is found once: another that gets its name or number is not it.
        if self.choice.is_none() && Instant::now() >= self.next_search {
            self.search()?;
        }
        // On a thread of its own, which leaves the namespaces that it entered by ending.
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
