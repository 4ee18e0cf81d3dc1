//! Thresholds: the times and counts beyond which something is a problem.

use std::{net::IpAddr, str::FromStr};

use crate::{
    findings::{detection::MAX_EXAMPLES, kind::Kind},
    model::{number::digits, state::State},
};

const S: u64 = 1_000_000_000;

/// The thresholds of all findings; times are in ns. The defaults are meant to report nothing that an experienced operator
/// would call noise; `docs/findings.md` explains each.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Longest normal time in a state, by the state's number (`include/net/tcp_states.h`); for ESTABLISHED the time without
    /// a segment. 0 means never.
    stuck_after_ns: [u64; 16],
    /// `peer-dead`: timeouts in a row.
    pub peer_dead_timeouts: u8,
    /// `idle-reset`: silence before the RST.
    pub idle_reset_ns: u64,
    /// `retransmit-storm`: retransmissions of one connection within 10 to 15 s.
    pub storm_retransmits: u32,
    /// `syn-flood`: half-open connections of one listener, if they also fill half of its backlog.
    pub half_open_requests: u64,
    /// `time-wait-pressure`: share of the local ports.
    pub time_wait_share: f64,
    /// `accept-stalled`: time that a connection waits to be accepted.
    pub accept_stalled_ns: u64,
    /// `read-stalled`: time that data is unread.
    pub read_stalled_ns: u64,
    /// `zero-window`: time that a sender waits for its peer's window.
    pub zero_window_ns: u64,
    /// Shortest time between two updates of a finding that has been open for a while.
    pub update_every_ns: u64,
    /// Time after the last failure until its finding closes.
    pub quiet_after_ns: u64,
    /// Most live sockets that a finding gives as examples.
    pub examples: usize,
    /// Findings that are not reported.
    pub ignored: Vec<Kind>,
    /// The expected listeners; `None` if all are.
    pub expected: Option<Vec<Expected>>,
}

impl Default for Thresholds {
    fn default() -> Self {
        let mut thresholds = Self {
            stuck_after_ns: [0; 16],
            // The RTO is at least 200 ms and doubles: five timeouts are 6 s without an answer.
            peer_dead_timeouts: 5,
            idle_reset_ns: 60 * S,
            storm_retransmits: 20,
            half_open_requests: 64,
            time_wait_share: 0.5,
            accept_stalled_ns: 3 * S,
            read_stalled_ns: 5 * S,
            zero_window_ns: 5 * S,
            update_every_ns: 30 * S,
            quiet_after_ns: 60 * S,
            examples: MAX_EXAMPLES,
            ignored: Vec::new(),
            expected: None,
        };
        let defaults = [
            // By then the third SYN (sent after 1 s and 2 s more) is unanswered too.
            (State::SynSent, 5),
            (State::CloseWait, 60),
            (State::FinWait1, 15),
            // Three quarters of the default tcp_fin_timeout: clients that keep a connection for a while have closed by then.
            (State::FinWait2, 45),
            (State::Closing, 15),
            (State::LastAck, 15),
            // The default of tcp_keepalive_time.
            (State::Established, 7200),
        ];
        defaults.into_iter().for_each(|(state, s)| thresholds.set_stuck_after(state, s * S));
        thresholds
    }
}

/// Why a threshold was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ThresholdError {
    #[error("unknown threshold `{0}`; known: {names}", names = Thresholds::NAMES.join(", "))]
    Name(String),
    #[error("invalid value `{value}` of {name}: give {wanted}")]
    Value { name: &'static str, value: String, wanted: &'static str },
    #[error(
        "no finding has a threshold for the time in {0}: give SYN_SENT, ESTABLISHED (time without a segment), FIN_WAIT1, \
             FIN_WAIT2, CLOSING, CLOSE_WAIT or LAST_ACK"
    )]
    State(State),
}

impl Thresholds {
    /// The names for [`Thresholds::set`].
    pub const NAMES: [&str; 10] = [
        "peer-dead-timeouts",
        "idle-reset",
        "storm-retransmits",
        "half-open-requests",
        "time-wait-share",
        "accept-stalled",
        "read-stalled",
        "zero-window",
        "update-every",
        "quiet-after",
    ];

    /// The time in `state` after which a socket is stuck, in ns; `None` for never.
    #[must_use]
    pub fn stuck_after(&self, state: State) -> Option<u64> {
        Some(self.stuck_after_ns[state as usize & 15]).filter(|ns| *ns > 0)
    }

    fn set_stuck_after(&mut self, state: State, ns: u64) {
        self.stuck_after_ns[state as usize & 15] = ns;
    }

    /// Sets the time in `state` after which a socket is stuck, in ns; 0 means never.
    ///
    /// # Errors
    /// If no finding depends on the time in this state.
    pub fn set_stuck(&mut self, state: State, ns: u64) -> Result<(), ThresholdError> {
        use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynSent};
        if !matches!(state, SynSent | Established | FinWait1 | FinWait2 | Closing | CloseWait | LastAck) {
            return Err(ThresholdError::State(state));
        }
        self.set_stuck_after(state, ns);
        Ok(())
    }

    /// Sets a threshold by name from text; `time` parses durations to ns.
    ///
    /// # Errors
    /// If the name is unknown or the value invalid.
    pub fn set(&mut self, name: &str, value: &str, time: impl Fn(&str) -> Option<u64>) -> Result<(), ThresholdError> {
        let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) else {
            return Err(ThresholdError::Name(name.to_owned()));
        };
        let wrong = |wanted| ThresholdError::Value { name, value: value.to_owned(), wanted };
        let count = |most: u64| {
            let wanted = "a whole number of at least 1";
            digits::<u64>(value).filter(|count| (1..=most).contains(count)).ok_or_else(|| wrong(wanted))
        };
        let time = || time(value).filter(|ns| *ns > 0).ok_or_else(|| wrong("a duration, e.g. 500ms, 30s or 5m"));
        match name {
            "peer-dead-timeouts" => self.peer_dead_timeouts = count(u8::MAX.into())? as u8,
            "idle-reset" => self.idle_reset_ns = time()?,
            "storm-retransmits" => self.storm_retransmits = count(u32::MAX.into())? as u32,
            "half-open-requests" => self.half_open_requests = count(u64::MAX)?,
            "time-wait-share" => {
                let share = value.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
                self.time_wait_share = share.ok_or_else(|| wrong("a number above 0 and at most 1"))?;
            }
            "accept-stalled" => self.accept_stalled_ns = time()?,
            "read-stalled" => self.read_stalled_ns = time()?,
            "zero-window" => self.zero_window_ns = time()?,
            "update-every" => self.update_every_ns = time()?,
            _ => self.quiet_after_ns = time()?,
        }
        Ok(())
    }

    /// True if a listener at this address and port is expected.
    #[must_use]
    pub fn expects(&self, address: IpAddr, port: u16) -> bool {
        self.expected.as_ref().is_none_or(|expected| expected.iter().any(|listener| listener.is(address, port)))
    }
}

/// An expected listener: `[ADDRESS:]PORT` or a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its address; `None` for any.
    pub address: Option<IpAddr>,
    /// Its first and last port.
    pub ports: (u16, u16),
}

impl Expected {
    fn is(&self, address: IpAddr, port: u16) -> bool {
        self.address.is_none_or(|expected| expected == address) && (self.ports.0..=self.ports.1).contains(&port)
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "invalid listener `{text}` ({what}): give PORT, FIRST-LAST, ADDRESS:PORT or [IPV6]:PORT, e.g. 22,10.0.0.1:443"
            )
        };
        let (address, ports) = match text.rsplit_once(':') {
            None => (None, text),
            Some((address, ports)) => {
                let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
                (Some(bare.parse::<IpAddr>().map_err(|_| wrong("bad address"))?), ports)
            }
        };
        let port = |text: &str| digits::<u16>(text).filter(|port| *port > 0).ok_or_else(|| wrong("bad port"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let ports = (port(first)?, port(last)?);
        if ports.0 > ports.1 {
            return Err(wrong("the range is empty"));
        }
        Ok(Self { address: address.map(|address| address.to_canonical()), ports })
    }
}
