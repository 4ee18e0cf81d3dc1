//! What is called trouble, from flags and the config file.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::ValueEnum;
use serde::Deserialize;
use thiserror::Error;

use super::parse::duration;
use crate::{
    findings::{Expected, Kind, ThresholdError, Thresholds},
    state::State,
};

/// Findings.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Findings")]
pub struct FindingArgs {
    /// Time in a state from which on a socket is stuck (for ESTABLISHED: without a segment), or never; e.g.
    /// CLOSE_WAIT=30s,FIN_WAIT2=never
    #[arg(long, value_name = "STATE=TIME", value_delimiter = ',')]
    pub stuck_after: Vec<StuckAfter>,

    /// Report listeners other than these: ports, ranges, or addresses with ports, e.g. 22,10.0.0.1:443
    #[arg(long, value_name = "[ADDR:]PORT", value_delimiter = ',')]
    pub expect_listener: Vec<Expected>,

    /// Leave these findings out, e.g. connect-refused,reset-by-peer
    #[arg(long, value_name = "FINDINGS", value_delimiter = ',')]
    pub ignore: Vec<Kind>,

    /// Other thresholds (docs/findings.md), e.g. idle-reset=30s,time-wait-share=0.8
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    pub threshold: Vec<NamedValue>,

    /// Read thresholds and expected listeners from this TOML file; flags go before it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Are findings written, and events?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FindingsMode {
    /// Findings among the events
    #[default]
    On,
    /// Events alone
    Off,
    /// Findings alone
    Only,
}

/// A time in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckAfter {
    state: State,
    /// In ns; 0: never.
    ns: u64,
}

impl FromStr for StuckAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (state, time) =
            text.split_once('=').ok_or_else(|| format!("`{text}` is no STATE=TIME, as in CLOSE_WAIT=30s"))?;
        let state = state.parse::<State>().map_err(|error| error.to_string())?;
        Ok(Self { state, ns: time_or_never(time)? })
    }
}

fn time_or_never(text: &str) -> Result<u64, String> {
    if text == "never" { Ok(0) } else { duration(text).map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) }
}

/// A name with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedValue {
    name: String,
    value: String,
}

impl FromStr for NamedValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no NAME=VALUE, as in idle-reset=30s");
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Why there are no thresholds.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("--config {}: cannot read it: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--config {}: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    #[error("--stuck-after: {0}")]
    StuckAfter(ThresholdError),
    #[error("--threshold: {0}")]
    Threshold(ThresholdError),
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    #[serde(default)]
    stuck_after: BTreeMap<String, String>,
    #[serde(default)]
    thresholds: BTreeMap<String, toml::Value>,
    expected_listeners: Option<Vec<String>>,
    #[serde(default)]
    ignore: Vec<String>,
}

/// More than any config file has, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

impl FindingArgs {
    /// The thresholds: the defaults, then the config file, then the flags.
    ///
    /// # Errors
    /// That name the flag, or the file and the place in it.
    pub fn thresholds(&self) -> Result<Thresholds, Error> {
        let mut thresholds = Thresholds::default();
        if let Some(path) = &self.config {
            let text = read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            configure(&mut thresholds, &text).map_err(|reason| Error::Config { path: path.clone(), reason })?;
        }
        for &StuckAfter { state, ns } in &self.stuck_after {
            thresholds.set_stuck(state, ns).map_err(Error::StuckAfter)?;
        }
        for NamedValue { name, value } in &self.threshold {
            thresholds.set(name, value, time_ns).map_err(Error::Threshold)?;
        }
        thresholds.ignored.extend(&self.ignore);
        if !self.expect_listener.is_empty() {
            thresholds.expected.get_or_insert_default().extend(&self.expect_listener);
        }
        Ok(thresholds)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, MAX_CONFIG), &mut text)?;
    Ok(text)
}

fn time_ns(text: &str) -> Option<u64> {
    time_or_never(text).ok()
}

fn configure(thresholds: &mut Thresholds, text: &str) -> Result<(), String> {
    let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
    for (state, time) in &config.stuck_after {
        let place = |error: String| format!("[stuck-after] {state}: {error}");
        let state = state.parse::<State>().map_err(|error| place(error.to_string()))?;
        let ns = time_or_never(time).map_err(place)?;
        thresholds.set_stuck(state, ns).map_err(|error| place(error.to_string()))?;
    }
    for (name, value) in &config.thresholds {
        let value = value.as_str().map_or_else(|| plain(value), str::to_owned);
        thresholds.set(name, &value, time_ns).map_err(|error| format!("[thresholds]: {error}"))?;
    }
    for id in &config.ignore {
        thresholds.ignored.push(id.parse().map_err(|error| format!("ignore: {error}"))?);
    }
    if let Some(listeners) = config.expected_listeners {
        let parsed: Result<Vec<Expected>, _> = listeners.iter().map(|text| text.parse()).collect();
        thresholds.expected = Some(parsed.map_err(|error| format!("expected-listeners: {error}"))?);
    }
    Ok(())
}

/// A number as a flag would have it; what is neither text nor number is no value of any threshold.
fn plain(value: &toml::Value) -> String {
    let number = value.as_integer().map(|number| number.to_string());
    number.or_else(|| value.as_float().map(|number| number.to_string())).unwrap_or_else(|| value.type_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_sets_all_of_it() {
        let mut thresholds = Thresholds::default();
        let text = "expected-listeners = [\"22\", \"[::1]:8000-8010\"]\nignore = [\"connect-refused\"]\n\
                    [stuck-after]\nCLOSE_WAIT = \"30s\"\nfin-wait-2 = \"never\"\n\
                    [thresholds]\npeer-dead-timeouts = 3\ntime-wait-share = 0.8\nidle-reset = \"10s\"\n";
        configure(&mut thresholds, text).unwrap();
        assert_eq!(thresholds.stuck_after(State::CloseWait), Some(30_000_000_000));
        assert_eq!(thresholds.stuck_after(State::FinWait2), None);
        assert_eq!(thresholds.stuck_after(State::LastAck), Thresholds::default().stuck_after(State::LastAck));
        assert_eq!((thresholds.peer_dead_timeouts, thresholds.time_wait_share), (3, 0.8));
        assert_eq!(thresholds.idle_reset_ns, 10_000_000_000);
        assert_eq!(thresholds.ignored, [Kind::ConnectRefused]);
        assert!(thresholds.expects("10.0.0.1".parse().unwrap(), 22));
        assert!(thresholds.expects("::1".parse().unwrap(), 8010));
        assert!(!thresholds.expects("::2".parse().unwrap(), 8010));
    }

    #[test]
    fn errors_name_the_place() {
        let told = |text: &str| configure(&mut Thresholds::default(), text).unwrap_err();
        assert!(told("[stuck-after]\nLISTEN = \"1s\"").contains("LISTEN"), "no finding is about it");
        assert!(told("[stuck-after]\nCLOSE_WAIT = \"soon\"").contains("soon"));
        assert!(told("[thresholds]\nno-such = 1").contains("no-such"));
        assert!(told("[thresholds]\ntime-wait-share = 2").contains("time-wait-share"));
        assert!(told("expected-listeners = [\"0\"]").contains("expected-listeners"));
        assert!(told("ignore = [\"all\"]").contains("close-wait-leak"), "it says which there are");
        assert!(told("stuck = 1").contains("stuck"));
        assert!(told("[stuck-after").contains("line 1"));
    }

    #[test]
    fn flags_are_read() {
        assert_eq!("CLOSE_WAIT=30s".parse(), Ok(StuckAfter { state: State::CloseWait, ns: 30_000_000_000 }));
        for bad in ["CLOSE_WAIT", "CLOSE_WAIT=", "NO=1s", "CLOSE_WAIT=-1s"] {
            assert!(bad.parse::<StuckAfter>().is_err(), "{bad}");
        }
        for bad in ["", "0", "x", "1:2:3", "[::1]", "10.0.0.1:", "300.0.0.1:1", "5-4"] {
            assert!(bad.parse::<Expected>().is_err(), "{bad}");
        }
        let flags = FindingArgs { stuck_after: vec!["LAST_ACK=1s".parse().unwrap()], ..FindingArgs::default() };
        assert_eq!(flags.thresholds().unwrap().stuck_after(State::LastAck), Some(1_000_000_000));
    }
}
