//! TCP states and their spellings.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tcptrace_common::state as raw;
use thiserror::Error;

/// A state of a TCP connection (RFC 9293 section 3.3.2, names as the kernel spells them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the states of RFC 9293")]
pub enum State {
    Established = raw::ESTABLISHED,
    SynSent = raw::SYN_SENT,
    SynRecv = raw::SYN_RECV,
    FinWait1 = raw::FIN_WAIT1,
    FinWait2 = raw::FIN_WAIT2,
    TimeWait = raw::TIME_WAIT,
    Close = raw::CLOSE,
    CloseWait = raw::CLOSE_WAIT,
    LastAck = raw::LAST_ACK,
    Listen = raw::LISTEN,
    Closing = raw::CLOSING,
}

impl State {
    /// All states, in the order of a connection's life.
    pub const ALL: [Self; 11] = [
        Self::Listen,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::Closing,
        Self::TimeWait,
        Self::CloseWait,
        Self::LastAck,
        Self::Close,
    ];

    /// Converts the kernel's number; a request socket (`TCP_NEW_SYN_RECV`) counts as SYN_RECV.
    #[must_use]
    pub fn from_raw(number: u8) -> Option<Self> {
        if number == raw::NEW_SYN_RECV {
            return Some(Self::SynRecv);
        }
        Self::ALL.into_iter().find(|state| *state as u8 == number)
    }

    /// Its index in [`State::ALL`], for arrays with one entry per state.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|state| *state == self).unwrap_or_default()
    }

    /// The name as the kernel and `netstat` spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// Numbers by state, in the order of [`State::ALL`].
pub type StateCounts = [u64; State::ALL.len()];

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is not a TCP state.
#[derive(Debug, Error)]
#[error("`{0}` is not a TCP state; the states are {names}", names = State::ALL.map(State::name).join(", "))]
pub struct UnknownState(String);

/// The spellings of the kernel, `ss`, `netstat` and RFC 9293, in capitals and with `_` between the parts.
const SPELLINGS: [(&str, State); 19] = [
    ("ESTABLISHED", State::Established),
    ("ESTAB", State::Established),
    ("SYN_SENT", State::SynSent),
    ("SYN_RECV", State::SynRecv),
    ("SYN_RECEIVED", State::SynRecv),
    ("SYN_RCVD", State::SynRecv),
    ("FIN_WAIT1", State::FinWait1),
    ("FIN_WAIT_1", State::FinWait1),
    ("FIN_WAIT2", State::FinWait2),
    ("FIN_WAIT_2", State::FinWait2),
    ("TIME_WAIT", State::TimeWait),
    ("CLOSE", State::Close),
    ("CLOSED", State::Close),
    ("UNCONN", State::Close),
    ("CLOSE_WAIT", State::CloseWait),
    ("LAST_ACK", State::LastAck),
    ("LISTEN", State::Listen),
    ("LISTENING", State::Listen),
    ("CLOSING", State::Closing),
];

/// The state with this spelling, in any case, with `_`, `-`, a space or nothing between the parts.
fn spelled(word: &str) -> Option<State> {
    let word = word.trim().to_ascii_uppercase().replace(['-', ' '], "_");
    let word = word.strip_prefix("TCP_").unwrap_or(&word);
    let is_it = |(spelling, _): &&(&str, State)| *spelling == word || spelling.replace('_', "") == word;
    SPELLINGS.iter().find(is_it).map(|(_, state)| *state)
}

impl FromStr for State {
    type Err = UnknownState;

    /// Accepts the spellings of the kernel, `ss`, `netstat` and RFC 9293, in any case, with `_`, `-`, a space or
    /// nothing between the parts.
    fn from_str(word: &str) -> Result<Self, UnknownState> {
        spelled(word).ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// A set of TCP states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSet(u16);

impl StateSet {
    /// Bits as in [`tcptrace_common::state::bit`].
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// True if the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates in the order of a connection's life.
    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| self.contains(*state))
    }

    /// True if `state` is in the set.
    #[must_use]
    pub const fn contains(self, state: State) -> bool {
        self.0 & raw::bit(state as u8) != 0
    }
}

impl FromIterator<State> for StateSet {
    fn from_iter<I: IntoIterator<Item = State>>(states: I) -> Self {
        Self(states.into_iter().fold(0, |bits, state| bits | raw::bit(state as u8)))
    }
}

#[cfg(test)]
mod tests {
    use tcptrace_common::state::timed_states;

    use super::*;

    #[test]
    fn times_are_kept_of_what_leads_to_the_wanted_states() {
        use State::*;
        let bits = |states: &[State]| states.iter().copied().collect::<StateSet>().bits();
        assert_eq!(timed_states(0), u16::MAX, "all are wanted");
        assert_eq!(timed_states(bits(&[Close])), u16::MAX, "all lead there");
        for (wanted, want) in [
            (&[Closing][..], &[Closing, FinWait1][..]),
            (&[CloseWait], &[CloseWait, Established, SynRecv]),
            (&[TimeWait], &[TimeWait, FinWait1, FinWait2, Closing]),
            (&[Established], &[Established, SynSent, SynRecv]),
            (&[LastAck, Listen], &[LastAck, CloseWait, Listen, Close]),
        ] {
            assert_eq!(timed_states(bits(wanted)), bits(want), "{wanted:?}");
        }
    }

    #[test]
    fn all_usual_spellings_are_taken() {
        for word in ["CLOSE_WAIT", "close-wait", "CLOSE-WAIT", "closewait", "Close Wait", "TCP_CLOSE_WAIT"] {
            assert_eq!(word.parse::<State>().unwrap(), State::CloseWait, "{word}");
        }
        let of_ss = [
            ("estab", State::Established),
            ("syn-sent", State::SynSent),
            ("syn-recv", State::SynRecv),
            ("fin-wait-1", State::FinWait1),
            ("fin-wait-2", State::FinWait2),
            ("time-wait", State::TimeWait),
            ("unconn", State::Close),
            ("last-ack", State::LastAck),
            ("syn-received", State::SynRecv),
            ("closed", State::Close),
        ];
        for (word, state) in of_ss {
            assert_eq!(word.parse::<State>().unwrap(), state, "{word}");
        }
        for state in State::ALL {
            assert_eq!(state.name().parse::<State>().unwrap(), state);
            assert_eq!(State::from_raw(state as u8), Some(state));
        }
    }

    #[test]
    fn other_words_are_refused_with_the_list() {
        let odd =
            ["LISTEN!", "LISTEN?", "C-L-O-S-E", "CLOSE__WAIT", "_LISTEN", "LISTEN-", "CLOSE.WAIT", "LI\u{200b}STEN"];
        for word in ["", "CLOSEWAITT", "8", "tcp", "!", "!8", "!!LISTEN"].into_iter().chain(odd) {
            let message = word.parse::<State>().unwrap_err().to_string();
            assert!(message.contains(&format!("`{word}`")) && message.contains("CLOSE_WAIT"), "{message}");
        }
        assert_eq!(State::from_raw(0), None);
        assert_eq!(State::from_raw(13), None);
    }
}
