//! How times, numbers, processes and ends of connections are written on the page.

use std::net::{IpAddr, SocketAddr};

use jiff::tz::TimeZone;

use crate::{
    findings::{Detection, Subject},
    model::{
        anonymous::host,
        event::{Command, Owner},
        names::Names,
        time::{WallFormat, WallOffset},
    },
    render::text::words::age_words,
};

/// Writes times and ends of connections.
pub(super) struct Words {
    pub(super) wall: WallOffset,
    is_anonymous: bool,
}

impl Words {
    pub(super) const fn new(wall: WallOffset, is_anonymous: bool) -> Self {
        Self { wall, is_anonymous }
    }

    /// Date and time in UTC of CLOCK_MONOTONIC in ns.
    pub(super) fn date(&self, mono_ns: u64) -> String {
        let mut text = Vec::new();
        WallFormat::rfc3339().write(&mut text, self.wall.wall_ns(mono_ns), 3);
        String::from_utf8_lossy(&text).replace('T', " ")
    }

    /// Time of day in UTC of CLOCK_MONOTONIC in ns.
    pub(super) fn time(&self, mono_ns: u64) -> String {
        time_of_day(self.wall.wall_ns(mono_ns), 3)
    }

    /// One end of a connection.
    pub(super) fn end(&self, end: SocketAddr) -> String {
        let host = self.host(end.ip());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        match end.port() {
            0 => format!("{host}:*"),
            port => format!("{host}:{port}"),
        }
    }

    fn host(&self, address: IpAddr) -> String {
        let name = if self.is_anonymous { host(address) } else { None };
        name.unwrap_or_else(|| address.to_string())
    }

    /// Owner, place and count of a finding.
    pub(super) fn headline(&self, detection: &Detection) -> String {
        let mut text =
            format!("{} {}: {}", owners(detection), self.place(detection.subject), thousands(detection.count));
        text += if detection.count == 1 { " case" } else { " cases" };
        if let Some(age) = detection.oldest {
            text += &format!(", oldest {}", age_words(age));
        }
        text
    }

    pub(super) fn place(&self, subject: Subject) -> String {
        match subject {
            Subject::Local(local) => format!("at {}", self.end(local)),
            Subject::Remote(remote) => format!("to {}", self.end(remote)),
            Subject::Path(local, remote) => format!("from {} to {}", self.host(local.ip()), self.end(remote)),
            Subject::Several => "at several ends".to_owned(),
        }
    }
}

/// The owners of a finding.
pub(super) fn owners(detection: &Detection) -> String {
    match (detection.owner, detection.processes.len()) {
        (None, _) => "owner unknown".to_owned(),
        (Some(owner), 0 | 1) => owner.to_string(),
        (Some(owner), count) => {
            let more = if detection.processes.is_more { "+" } else { "" };
            format!("{} ({count}{more} processes)", owner.command.to_text())
        }
    }
}

/// Time of day in UTC.
pub(super) fn time_of_day(wall_ns: i64, digits: usize) -> String {
    let mut text = Vec::new();
    WallFormat::time_of_day(TimeZone::UTC).write(&mut text, wall_ns, digits);
    String::from_utf8_lossy(&text).into_owned()
}

/// A process as `command[PID]`.
pub(super) fn process(process: Option<(u32, Command)>) -> String {
    process.map_or_else(|| "owner unknown".to_owned(), |(pid, command)| format!("{}[{pid}]", command.to_text()))
}

/// Where a process runs, and what it runs.
pub(super) fn place_and_executable(owner: Option<&Owner>, names: &mut Names) -> (String, String) {
    let Some(owner) = owner else { return Default::default() };
    let (known, place) = names.of(owner);
    let place = place.filter(|place| &*place.cgroup != "/").map(ToString::to_string);
    let executable = known.and_then(|known| known.executable(owner.command)).map(str::to_owned);
    (place.unwrap_or_default(), executable.unwrap_or_default())
}

/// A number with commas between its thousands.
pub(super) fn thousands(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with a noun.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}
