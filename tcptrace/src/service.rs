//! What a service manager is told, and the log of a service.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Tells systemd (sd_notify(3)) how a run is; without one, nobody.
#[derive(Debug, Default)]
pub struct Service {
    /// Is this run a service at all?
    pub is_one: bool,
}

impl Service {
    /// All is attached, and what was there at the start is known.
    pub fn ready(&self) {
        self.notify(&[NotifyState::Ready]);
    }

    /// The run goes on, and is so.
    pub fn alive(&self, status: &str) {
        self.notify(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// Files are opened again, which takes no time to speak of.
    pub fn reloaded(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
        self.notify(&[NotifyState::Ready]);
    }

    /// It ends, which may take this long.
    pub fn stopping(&self, within: Duration) {
        let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        self.notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)]);
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if self.is_one {
            let _ = sd_notify::notify(states); // nobody listens, or no more
        }
    }
}

/// Makes [`crate::tell`] write to a log from now on: to journald where that is what reads stderr, else to stderr. `level` is
/// the least that is written.
pub fn start_log(level: LevelFilter) {
    // What it is made of may tell more than may be told.
    let filter = || Targets::new().with_target("tcptrace", level);
    let to_journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let log = tracing_subscriber::registry();
    // A second log of one process is none: the first stays.
    let _ = match to_journal {
        Some(journal) => log.with(journal.with_syslog_identifier("tcptrace".into()).with_filter(filter())).try_init(),
        None => log.with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(filter())).try_init(),
    };
}
