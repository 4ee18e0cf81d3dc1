//! The flags and keys that decide what counts as a problem.

use std::{path::PathBuf, str::FromStr};

use clap::ValueEnum;

use crate::{
    findings::{Expected, Kind, ThresholdError, Thresholds},
    model::{number::duration, state::State},
};

/// The flags for findings.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Findings")]
pub struct FindingArgs {
    /// Report sockets that stay in a state longer than this (ESTABLISHED: that receive nothing), or never; e.g.
    /// CLOSE_WAIT=30s,FIN_WAIT2=never
    #[arg(long, value_name = "STATE=TIME", value_delimiter = ',')]
    pub stuck_after: Vec<StuckAfter>,

    /// Report listeners other than these: ports, ranges, or addresses with ports, e.g. 22,10.0.0.1:443
    #[arg(long, value_name = "[ADDR:]PORT", value_delimiter = ',')]
    pub expect_listener: Vec<Expected>,

    /// Do not report these findings, e.g. connect-refused,reset-by-peer
    #[arg(long, value_name = "FINDINGS", value_delimiter = ',')]
    pub ignore: Vec<Kind>,

    /// Set other thresholds (tcptrace explain thresholds), e.g. idle-reset=30s,time-wait-share=0.8
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub threshold: Vec<NamedValue>,

    /// Read settings from this TOML file, whose keys are the long names of flags (tcptrace explain config-file); flags and variables
    /// TCPTRACE_* take precedence
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Whether findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FindingsMode {
    /// Findings and events
    #[default]
    On,
    /// Events only
    Off,
    /// Findings only
    Only,
}

/// A value of `--stuck-after`: the longest normal time in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckAfter {
    state: State,
    /// In ns; 0 means never.
    ns: u64,
}

impl FromStr for StuckAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (state, time) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is not STATE=TIME, e.g. CLOSE_WAIT=30s"))?;
        let state = state.parse::<State>().map_err(|error| error.to_string())?;
        let ns = time_or_never(time)?;
        Thresholds::default().set_stuck(state, ns).map_err(|error| error.to_string())?;
        Ok(Self { state, ns })
    }
}

fn time_or_never(text: &str) -> Result<u64, String> {
    if text == "never" { Ok(0) } else { duration(text).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) }
}

/// A value of `--threshold`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    name: String,
    value: String,
}

impl FromStr for NamedValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NAME=VALUE, e.g. idle-reset=30s");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        Thresholds::default().set(name, value, time_ns).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl FindingArgs {
    /// The default thresholds, with the given ones in their place; the last value of a name wins.
    ///
    /// # Errors
    /// None in practice: each value was checked when it was parsed.
    pub fn thresholds(&self) -> Result<Thresholds, ThresholdError> {
        let mut thresholds = Thresholds::default();
        for &StuckAfter { state, ns } in &self.stuck_after {
            thresholds.set_stuck(state, ns)?;
        }
        for NamedValue { name, value } in &self.threshold {
            thresholds.set(name, value, time_ns)?;
        }
        thresholds.ignored.extend(&self.ignore);
        if !self.expect_listener.is_empty() {
            thresholds.expected.get_or_insert_default().extend(&self.expect_listener);
        }
        Ok(thresholds)
    }
}

fn time_ns(text: &str) -> Option<u64> {
    time_or_never(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        assert_eq!("CLOSE_WAIT=30s".parse(), Ok(StuckAfter { state: State::CloseWait, ns: 30_000_000_000 }));
        for bad in ["CLOSE_WAIT", "CLOSE_WAIT=", "NO=1s", "CLOSE_WAIT=-1s", "LISTEN=1s", "!CLOSE_WAIT=1s"] {
            assert!(bad.parse::<StuckAfter>().is_err(), "{bad}");
        }
        for bad in ["", "0", "x", "1:2:3", "[::1]", "10.0.0.1:", "300.0.0.1:1", "5-4"] {
            assert!(bad.parse::<Expected>().is_err(), "{bad}");
        }
        let flags = FindingArgs { stuck_after: vec!["LAST_ACK=1s".parse().unwrap()], ..FindingArgs::default() };
        assert_eq!(flags.thresholds().unwrap().stuck_after(State::LastAck), Some(1_000_000_000));
    }
}
