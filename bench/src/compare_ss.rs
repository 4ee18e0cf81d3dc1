//! Whether `tcptrace sockets` lists the same sockets as `ss`, in the same states and with the same holders.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask::programs;

/// State and holders (PID and descriptor) of a socket.
type Socket = (String, BTreeSet<(u64, u64)>);
/// By their cookies.
type Sockets = BTreeMap<u64, Socket>;

/// Returns how many sockets are the same, or fails if one differs. Sockets come and go all the time, so `ss` lists them
/// before and after: tcptrace must list what both have, and only what one of them has.
pub(crate) fn check(tracer: &Path, ss: &Path, options: &[&str]) -> Result<usize> {
    /// A connection that began and ended between two listings is a difference as well, but hardly ever a second time.
    const ATTEMPTS: u32 = 3;
    let mut different = Vec::new();
    for _ in 0..ATTEMPTS {
        let before = by_ss(ss)?;
        let ours = by_tcptrace(tracer, options)?;
        let after = by_ss(ss)?;
        let is_as = |all: &Sockets, (cookie, socket): (&u64, _)| all.get(cookie) == Some(socket);
        let missed = before.iter().filter(|socket| is_as(&after, *socket) && !is_as(&ours, *socket));
        let invented = ours.iter().filter(|socket| !is_as(&before, *socket) && !is_as(&after, *socket));
        // A socket that differs between the two listings of ss may have had a third state between them.
        let invented = invented.filter(|(cookie, _)| before.get(cookie) == after.get(cookie));
        different = missed
            .map(|socket| ("ss", socket))
            .chain(invented.map(|socket| ("tcptrace", socket)))
            .map(|(who, socket)| format!("{who}: {socket:x?}"))
            .collect();
        if different.is_empty() {
            return Ok(ours.len());
        }
    }
    bail!(
        "{} sockets differ from those of ss, for example\n{}",
        different.len(),
        different[..different.len().min(5)].join("\n")
    )
}

fn by_ss(ss: &Path) -> Result<Sockets> {
    let text = programs::stdout_of(Command::new(ss).arg("-tanpeOH"))?;
    text.lines().map(|line| ss_line(line).with_context(|| format!("ss says `{line}`"))).collect()
}

fn ss_line(line: &str) -> Option<(u64, Socket)> {
    let state = match line.split_whitespace().next()? {
        "ESTAB" => "ESTABLISHED".to_owned(),
        "UNCONN" => "CLOSE".to_owned(),
        state => state.replace("WAIT-", "WAIT").replace('-', "_"),
    };
    let cookie = line.split_once(" sk:")?.1.split_whitespace().next()?;
    let number = |text: &str| text.split([',', ')']).next()?.parse().ok();
    let holder = |user: &str| Some((number(user)?, number(user.split_once("fd=")?.1)?));
    let holders = line.split(",pid=").skip(1).map(holder).collect::<Option<_>>()?;
    Some((u64::from_str_radix(cookie, 16).ok()?, (state, holders)))
}

fn by_tcptrace(tracer: &Path, options: &[&str]) -> Result<Sockets> {
    let mut command = Command::new(tracer);
    command.args(["sockets", "--netns", "self", "--format", "json"]).args(options);
    let text = programs::stdout_of(&mut command)?;
    let mut sockets = Sockets::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).context("tcptrace sockets: not JSON")?;
        if row["event"] == "socket" {
            let (cookie, socket) = tcptrace_row(&row).with_context(|| format!("tcptrace says `{line}`"))?;
            sockets.insert(cookie, socket);
        }
    }
    Ok(sockets)
}

fn tcptrace_row(row: &Value) -> Option<(u64, Socket)> {
    let holder = |holder: &Value| Some((holder["pid"].as_u64()?, holder["fd"].as_u64()?));
    let holders = row["holders"].as_array()?.iter().map(holder).collect::<Option<_>>()?;
    Some((row["cookie"].as_u64()?, (row["state"].as_str()?.to_owned(), holders)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_alike() {
        let line =
            "FIN-WAIT-2 0 0 10.0.0.1:1 10.0.0.2:2 users:((\"a b\",pid=7,fd=3),(\"c\",pid=8,fd=4)) ino:9 sk:1f <->";
        let row = serde_json::json!({
            "cookie": 31, "state": "FIN_WAIT2", "holders": [{"pid": 7, "fd": 3}, {"pid": 8, "fd": 4}],
        });
        assert_eq!(ss_line(line), tcptrace_row(&row));
        assert!(ss_line(line).is_some());
        assert_eq!(
            ss_line("TIME-WAIT 0 0 10.0.0.1:1 10.0.0.2:2 timer:(timewait,1sec,0) ino:0 sk:20").unwrap().1.0,
            "TIME_WAIT"
        );
        assert_eq!(ss_line("ESTAB 0 0 10.0.0.1:1 10.0.0.2:2"), None);
    }
}
