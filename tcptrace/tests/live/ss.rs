//! What ss(8) says of the sockets of this thread's network namespace, to compare with.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use tcptrace::model::state::State;

/// A socket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Socket {
    /// Its state.
    pub state: &'static str,
    /// Bytes, or connections, that wait to be taken, and those on the way out, or their limit.
    pub queues: (u64, u64),
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Its cookie.
    pub cookie: u64,
    /// Processes and their descriptors.
    pub holders: BTreeSet<(u32, u32)>,
    /// Kind of the timer that runs, and what is left of it.
    pub timer: Option<(String, Duration)>,
}

/// How many sockets there are in each state.
pub(crate) type Counts = BTreeMap<String, u64>;

/// All of them.
pub(crate) fn list() -> Vec<Socket> {
    let output = Command::new("ss").arg("-tanpoeOH").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(parse).collect()
}

/// How many there are in each state.
pub(crate) fn counts() -> Counts {
    let mut counts = BTreeMap::new();
    // Without the processes, which ss takes long to find.
    let output = Command::new("ss").arg("-tanH").output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        *counts.entry(state(line.split_whitespace().next().unwrap()).to_owned()).or_default() += 1;
    }
    counts
}

/// Checks counts that were made between two of [`counts`]: TIME_WAIT ends meanwhile.
pub(crate) fn assert_between(told: &Counts, before: &Counts, after: &Counts) {
    let states: BTreeSet<_> = told.keys().chain(before.keys()).chain(after.keys()).collect();
    for state in states {
        let [told, before, after] = [told, before, after].map(|counts| counts.get(state).copied().unwrap_or(0));
        let truth = before.min(after)..=before.max(after);
        assert!(truth.contains(&told), "{told} in {state}, of {before} before and {after} after");
    }
}

/// Destroys those that match an expression of ss.
pub(crate) fn kill(expression: &[&str]) {
    let output = Command::new("ss").arg("-KtanH").args(expression).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn state(text: &str) -> &'static str {
    text.parse::<State>().unwrap().name()
}

fn parse(line: &str) -> Socket {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
    let state = state(word());
    let queues = (word().parse().unwrap(), word().parse().unwrap());
    let (local, remote) = (end(word()), end(word()));
    let after = |name: &str| line.split_once(name).map(|(_, rest)| rest);
    let cookie = after(" sk:").and_then(|rest| rest.split_whitespace().next());
    let timer = after("timer:(").and_then(|rest| rest.split_once(')')).map(|(fields, _)| {
        let mut fields = fields.split(',');
        (fields.next().unwrap().to_owned(), duration(fields.next().unwrap()))
    });
    let users = after("users:((").and_then(|rest| rest.split_once("))")).map_or("", |(users, _)| users);
    let number = |text: &str| text.split([',', ')']).next().unwrap().parse().unwrap();
    let holders = users.split(",pid=").skip(1).map(|user| (number(user), number(user.split_once("fd=").unwrap().1)));
    let cookie = u64::from_str_radix(cookie.unwrap_or_else(|| panic!("{line}")), 16).unwrap();
    Socket { state, queues, local, remote, cookie, holders: holders.collect(), timer }
}

fn end(text: &str) -> SocketAddr {
    let (address, port) = text.rsplit_once(':').unwrap();
    let address = match address.trim_matches(['[', ']']) {
        "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        address => address.parse::<IpAddr>().unwrap().to_canonical(),
    };
    SocketAddr::new(address, if port == "*" { 0 } else { port.parse().unwrap() })
}

/// As `print_ms_timer` of iproute2 writes it: `1min30sec`, `59sec`, `1.944ms` (1 s and 944 ms), `200ms`.
fn duration(text: &str) -> Duration {
    let (minutes, rest) = text.split_once("min").unwrap_or(("0", text));
    let (seconds, ms) = match rest.strip_suffix("ms") {
        Some(ms) => ms.split_once('.').unwrap_or(("0", ms)),
        None => (rest.trim_end_matches("sec"), "0"),
    };
    let number = |text: &str| if text.is_empty() { 0 } else { text.parse::<u64>().unwrap() };
    Duration::from_millis((number(minutes) * 60 + number(seconds)) * 1000 + number(ms))
}
