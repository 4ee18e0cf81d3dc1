//! The words of `ss` (ss(8), FILTER) and `tcpdump` (pcap-filter(7)) on the command line: `state close-wait sport = :80`,
//! `dst 10.0.0.0/8`, `port 80`.

use super::{
    error::Error,
    expr::{Expr, Test},
    fields::{End, Which},
    lexer::Token,
    reader::Reader,
    values::PortRange,
};
use crate::model::state::{State, StateSet};

/// The names that `ss` has for several states.
const GROUPS: [(&str, &[State]); 4] = [
    ("all", &State::ALL),
    (
        "connected",
        &[
            State::SynSent,
            State::SynRecv,
            State::Established,
            State::FinWait1,
            State::FinWait2,
            State::Closing,
            State::TimeWait,
            State::CloseWait,
            State::LastAck,
        ],
    ),
    (
        "synchronized",
        &[
            State::SynRecv,
            State::Established,
            State::FinWait1,
            State::FinWait2,
            State::Closing,
            State::TimeWait,
            State::CloseWait,
            State::LastAck,
        ],
    ),
    ("bucket", &[State::TimeWait, State::SynRecv]),
];

/// A test in the words of `ss` or `tcpdump`; `None` if it is one of the language, or these words are not taken.
pub(super) fn primitive(reader: &mut Reader<'_>) -> Result<Option<Expr>, Error> {
    if !reader.takes_words || is_followed_by_operator(reader) {
        return Ok(None);
    }
    if reader.take_word(&["state"]) {
        return group(reader).map(|states| Some(Expr::Test(Test::State(Which::Either, states))));
    }
    if reader.take_word(&["exclude"]) {
        return group(reader).map(|states| Some(Expr::Test(Test::State(Which::Either, states)).negated()));
    }
    if reader.take_word(&["tcp"]) {
        return Ok(Some(Expr::everything()));
    }
    for (word, family) in [("ip", tcptrace_common::record::AF_INET), ("ip6", tcptrace_common::record::AF_INET6)] {
        if reader.take_word(&[word]) {
            return Ok(Some(Expr::Test(Test::Family(family))));
        }
    }
    for (words, end) in [
        (&["src"][..], End::Local),
        (&["dst"], End::Remote),
        (&["host", "net", "addr", "address"], End::Either),
        (&["laddr"], End::Local),
        (&["raddr"], End::Remote),
    ] {
        if reader.take_word(words) {
            if reader.take_word(&["port", "portrange"]) {
                return port_of(reader, end).map(Some);
            }
            reader.take_word(&["host", "net"]);
            let value = reader.value("an address or network, e.g. 10.0.0.0/8 or [::1]:443")?;
            return reader.places(end, &[value]).map(Some);
        }
    }
    for (words, end) in [
        (&["sport", "lport"][..], End::Local),
        (&["dport", "rport"], End::Remote),
        (&["port", "portrange"], End::Either),
    ] {
        if reader.take_word(words) {
            return port_of(reader, end).map(Some);
        }
    }
    Ok(None)
}

fn is_followed_by_operator(reader: &Reader<'_>) -> bool {
    let is_sign = |sign: &str| !["(", ")", "{", "}", ",", "!", "&", "|", "&&", "||"].contains(&sign);
    let words = ["in", "eq", "ne", "neq", "lt", "le", "leq", "gt", "ge", "geq"];
    match reader.second() {
        Some(Token::Sign(sign)) => is_sign(sign),
        Some(Token::Word(word)) => words.iter().any(|known| known.eq_ignore_ascii_case(word.as_str())),
        _ => false,
    }
}

fn port_of(reader: &mut Reader<'_>, end: End) -> Result<Expr, Error> {
    let (text, span) = reader.value("a port, e.g. 443 or 8000-8099")?;
    let number = text.trim_start_matches('*').trim_start_matches(':');
    let range: PortRange = number.parse().map_err(|error: String| reader.wrong_at(span, error))?;
    Ok(Expr::Test(Test::Port(end, vec![(range.0, range.1)])))
}

/// One or more states, separated by commas, or a name of `ss` for several.
fn group(reader: &mut Reader<'_>) -> Result<StateSet, Error> {
    let mut values = vec![reader.value("a state, e.g. close-wait")?];
    while reader.take_sign(&[","]) {
        values.push(reader.value("a state, e.g. close-wait")?);
    }
    let mut states = Vec::new();
    for value in values {
        match GROUPS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value.0)) {
            Some((_, group)) => states.extend(group.iter().copied()),
            None => states.extend(reader.states(&[value])?.iter()),
        }
    }
    Ok(states.into_iter().collect())
}
