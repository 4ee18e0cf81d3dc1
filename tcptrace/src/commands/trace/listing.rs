//! Listings of sockets while tracing: when they are requested, how long costly ones must rest, and where their results go.

use std::{borrow::Cow, collections::HashSet, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{
    commands::trace::{error::Error, purpose::Purpose, run::Run},
    listing::{self, ListingOptions, skipped, worker::ListingResult},
    model::{snapshot::Snapshot, state::State},
    outputs::messages::warn,
    pipeline::{
        input::{Input, ListingKind},
        listeners,
    },
    sys::clock::now_ns,
};

/// Longest wait for the listing at the end.
const LISTED_WITHIN: Duration = Duration::from_secs(5);
/// After a poll, polling rests for this many times its duration, so that it uses less than 1 % of a CPU.
const POLL_REST: u32 = 100;
/// The same factor for listings of all sockets, after which healing and summaries wait.
const LISTING_REST: u32 = 20;
/// The same factor between the listings of two summaries, which are written even if nothing happens; a summary without a
/// listing has the holders of the previous one.
const REPORT_REST: u32 = 200;

impl Run {
    /// Requests a listing unless one is in progress. Less urgent ones wait after a costly listing.
    pub(super) fn request_listing(&mut self, purpose: Purpose) {
        let must_rest = match purpose {
            Purpose::Start | Purpose::Listeners => false,
            Purpose::Poll => Instant::now() < self.next_poll,
            Purpose::Heal | Purpose::Evidence | Purpose::Services | Purpose::Namespace => Instant::now() < self.rest,
            Purpose::Report => Instant::now() < self.rest.max(self.next_report),
        };
        if self.listing.is_some() || must_rest {
            return;
        }
        let wanted = match purpose {
            Purpose::Poll => {
                let states = self.session.polled_states().unwrap_or_default();
                let (stuck, processes) = (self.session.has_findings(), self.session.awaited_processes());
                let (finds_namespaces, active) = (self.session.take_new_namespace(), self.session.take_active());
                let next_hops = self.session.unreachable();
                ListingOptions {
                    states,
                    stuck,
                    processes,
                    next_hops,
                    finds_namespaces,
                    active: Some(active),
                    ..ListingOptions::default()
                }
            }
            Purpose::Listeners => {
                ListingOptions { states: [State::Listen].into_iter().collect(), ..ListingOptions::default() }
            }
            Purpose::Namespace => ListingOptions {
                states: [State::Listen].into_iter().collect(),
                finds_namespaces: true,
                ..ListingOptions::default()
            },
            Purpose::Services => {
                let finds_namespaces = self.session.take_new_namespace();
                ListingOptions {
                    states: [State::Listen].into_iter().collect(),
                    finds_namespaces,
                    holders: true,
                    ..ListingOptions::default()
                }
            }
            Purpose::Evidence => {
                let (states, namespaces) = self.session.suspects();
                let finds_namespaces = self.session.take_new_namespace();
                let stuck = true;
                ListingOptions {
                    states,
                    namespaces,
                    stuck,
                    finds_namespaces,
                    holders: true,
                    settings: true,
                    ..ListingOptions::default()
                }
            }
            Purpose::Start | Purpose::Heal | Purpose::Report => {
                self.apply(&Input::ListingBegun);
                let new_owners = if purpose == Purpose::Start { self.new_owners } else { 0 };
                let is_report = purpose == Purpose::Report;
                let finds_namespaces = is_report && self.session.take_new_namespace();
                let active = is_report.then(|| self.session.take_active());
                ListingOptions {
                    holders: true,
                    settings: true,
                    new_owners,
                    finds_namespaces,
                    active,
                    ..ListingOptions::default()
                }
            }
        };
        self.listing = Some(purpose);
        self.worker.request(wanted);
    }

    /// Handles a finished listing; returns its purpose.
    pub(super) fn handle_listing(&mut self, answer: ListingResult) -> Result<Option<Purpose>, Error> {
        let purpose = self.listing.take();
        let start = Instant::now();
        // Polls repeat the same error, which is reported once.
        let failed = answer.as_ref().err().map(ToString::to_string);
        let is_gone = self.chosen.is_some() && answer.as_ref().is_err_and(listing::Error::is_gone);
        self.is_gone |= is_gone;
        // The names known so far may be newer than the listing.
        self.netns_names.forget();
        if let Some(error) = failed.as_ref().filter(|error| !is_gone && self.failed.as_ref() != Some(*error)) {
            warn(error);
        }
        self.failed = failed;
        // Not known if the listing failed.
        let cpu_ns = answer.as_ref().map_or(0, |snapshot| snapshot.cpu_ns);
        match (answer, purpose) {
            (Ok(_), Some(Purpose::Namespace)) => {}
            (Ok(snapshot), Some(Purpose::Poll)) => self.listed(ListingKind::Poll, &snapshot),
            (Ok(snapshot), Some(Purpose::Evidence)) => self.listed(ListingKind::Suspects, &snapshot),
            (Ok(snapshot), Some(Purpose::Services)) => self.listed(ListingKind::Listeners, &snapshot),
            (Ok(snapshot), Some(Purpose::Listeners)) => {
                let there: HashSet<_> = snapshot.sockets.iter().map(listeners::key).collect();
                self.seeded.drain().filter(|key| !there.contains(key)).for_each(|key| self.listeners.remove(key));
            }
            (Ok(snapshot), _) => {
                if purpose == Some(Purpose::Start) {
                    skipped::warnings(&snapshot.skipped).into_iter().for_each(warn);
                    for (key, listener) in self.session.listener_hints(&snapshot) {
                        if self.listeners.seed(key, listener) {
                            self.seeded.insert(key);
                        }
                    }
                }
                self.listed(ListingKind::All, &snapshot);
            }
            (
                Err(_),
                Some(Purpose::Poll | Purpose::Listeners | Purpose::Evidence | Purpose::Services | Purpose::Namespace),
            ) => {}
            (Err(_), _) => {
                self.apply(&Input::ListingFailed(purpose == Some(Purpose::Start)));
            }
        }
        let used = Duration::from_nanos(cpu_ns) + start.elapsed();
        match purpose {
            Some(Purpose::Start) => self.request_listing(Purpose::Listeners),
            Some(Purpose::Poll) => self.next_poll = Instant::now() + POLL_REST * used,
            Some(Purpose::Heal | Purpose::Evidence | Purpose::Services | Purpose::Namespace) => {
                self.rest = Instant::now() + LISTING_REST * used
            }
            Some(Purpose::Report) => {
                self.rest = Instant::now() + LISTING_REST * used;
                self.next_report = Instant::now() + REPORT_REST * used;
                self.apply(&Input::IntervalEnded(now_ns()));
            }
            Some(Purpose::Listeners) | None => {}
        }
        Ok(purpose)
    }

    fn listed(&mut self, kind: ListingKind, snapshot: &Snapshot) {
        self.apply(&Input::Listed(kind, Cow::Borrowed(snapshot)));
    }

    /// Writes the summary of an interval: after a listing of the holders, or at once if listings must rest.
    pub(super) fn summarize(&mut self) -> Result<(), Error> {
        self.check_losses()?;
        self.request_listing(Purpose::Report);
        if self.listing != Some(Purpose::Report) {
            self.apply(&Input::IntervalEnded(now_ns()));
        }
        Ok(())
    }

    /// Lists once more, to find the holders of the sockets at the end.
    pub(super) async fn list_at_the_end(&mut self) {
        let under_way = async {
            if self.listing.is_some() {
                let _ = self.worker.next_result().await; // older than the end
            }
            self.apply(&Input::ListingBegun);
            self.worker.request(ListingOptions { holders: true, ..ListingOptions::default() });
            self.worker.next_result().await
        };
        match timeout(LISTED_WITHIN, under_way).await {
            Ok(Ok(snapshot)) => self.listed(ListingKind::All, &snapshot),
            Ok(Err(error)) if !self.is_gone => warn(error),
            Ok(Err(_)) => {}
            Err(_) => warn("the sockets at the end were not listed in time: their holders may have changed"),
        }
    }
}
