//! The fields of the language, with their types.

/// Which state of a transition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Either; of a socket its state.
    Either,
    /// The state that was left.
    Old,
    /// The state that was entered.
    New,
}

/// Which end of a connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Either of the two.
    Either,
    /// This host's end.
    Local,
    /// The other end.
    Remote,
}

/// What a field holds, which decides its operators and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    State(Which),
    Port(End),
    Address(End),
    Family,
    Netns,
    Number(Number),
    /// A user by name, which is resolved to its UID.
    User,
    Text(Text),
    Event,
    Finding,
    Severity,
}

/// Fields that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Time in the state in ns; of a transition, in the state that was left.
    Age,
    /// PID of a process.
    Pid,
    /// UID of a process.
    Uid,
    /// Socket cookie.
    Cookie,
    /// Bytes received and not read.
    ReceiveQueue,
    /// Bytes written and not acknowledged.
    SendQueue,
    /// Segments retransmitted since the connection began.
    Retransmits,
    /// Smoothed round-trip time in ns.
    Rtt,
}

impl Number {
    /// True if its values are times in ns.
    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::Age | Self::Rtt)
    }

    /// True if its values are bytes.
    pub(super) const fn is_size(self) -> bool {
        matches!(self, Self::ReceiveQueue | Self::SendQueue)
    }

    /// True if it is a property of a process.
    #[must_use]
    pub const fn is_of_process(self) -> bool {
        matches!(self, Self::Pid | Self::Uid)
    }

    /// Its name in the language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Pid => "pid",
            Self::Uid => "uid",
            Self::Cookie => "cookie",
            Self::ReceiveQueue => "recvq",
            Self::SendQueue => "sendq",
            Self::Retransmits => "retrans",
            Self::Rtt => "rtt",
        }
    }
}

/// Fields that are texts: properties of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Command name, at most 15 bytes.
    Comm,
    /// Path of the executable.
    Exe,
    /// Name of the user. Resolved to the UID before anything is evaluated.
    User,
    /// Path of the cgroup in the v2 hierarchy.
    Cgroup,
    /// systemd unit.
    Unit,
    /// Container, by id, the first 12 digits of it, or name.
    Container,
    /// Kubernetes pod, by UID or name.
    Pod,
}

impl Text {
    /// True if it is read from `/proc` and the files of the node.
    pub(super) const fn is_read(self) -> bool {
        matches!(self, Self::Exe | Self::Unit | Self::Container | Self::Pod)
    }

    /// Its name in the language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Comm => "comm",
            Self::Exe => "exe",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }
}

/// Kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum EventName {
    Transition,
    Retransmit,
    Reset,
    Owner,
    /// A socket that was listed.
    Socket,
    Finding,
}

impl EventName {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Transition, Self::Retransmit, Self::Reset, Self::Owner, Self::Socket, Self::Finding];

    /// Its name in the language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Retransmit => "retransmit",
            Self::Reset => "reset",
            Self::Owner => "owner",
            Self::Socket => "socket",
            Self::Finding => "finding",
        }
    }
}

/// Severity of a finding, as in [`Severity`](crate::findings::Severity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Info,
    Warning,
    Critical,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Its name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The fields by name. Of several names for one field, the first is its own; `sport`, `dport`, `src` and `dst` are ss's.
const FIELDS: [(&str, Field); 39] = [
    ("state", Field::State(Which::Either)),
    ("old", Field::State(Which::Old)),
    ("new", Field::State(Which::New)),
    ("age", Field::Number(Number::Age)),
    ("port", Field::Port(End::Either)),
    ("lport", Field::Port(End::Local)),
    ("rport", Field::Port(End::Remote)),
    ("addr", Field::Address(End::Either)),
    ("laddr", Field::Address(End::Local)),
    ("raddr", Field::Address(End::Remote)),
    ("family", Field::Family),
    ("netns", Field::Netns),
    ("pid", Field::Number(Number::Pid)),
    ("uid", Field::Number(Number::Uid)),
    ("user", Field::User),
    ("comm", Field::Text(Text::Comm)),
    ("exe", Field::Text(Text::Exe)),
    ("cgroup", Field::Text(Text::Cgroup)),
    ("unit", Field::Text(Text::Unit)),
    ("container", Field::Text(Text::Container)),
    ("pod", Field::Text(Text::Pod)),
    ("recvq", Field::Number(Number::ReceiveQueue)),
    ("sendq", Field::Number(Number::SendQueue)),
    ("retrans", Field::Number(Number::Retransmits)),
    ("rtt", Field::Number(Number::Rtt)),
    ("cookie", Field::Number(Number::Cookie)),
    ("event", Field::Event),
    ("finding", Field::Finding),
    ("severity", Field::Severity),
    // Other names.
    ("old_state", Field::State(Which::Old)),
    ("new_state", Field::State(Which::New)),
    ("sport", Field::Port(End::Local)),
    ("dport", Field::Port(End::Remote)),
    ("local_port", Field::Port(End::Local)),
    ("remote_port", Field::Port(End::Remote)),
    ("address", Field::Address(End::Either)),
    ("src", Field::Address(End::Local)),
    ("dst", Field::Address(End::Remote)),
    ("host", Field::Address(End::Either)),
];

/// Number of fields that have names of their own.
const OWN: usize = 29;

impl Field {
    /// The field with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// The names of all fields, without other names for the same ones.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().take(OWN).map(|(name, _)| *name)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        FIELDS.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| *name)
    }

    /// The operators that it takes, for messages.
    pub(super) const fn operators(self) -> &'static str {
        match self {
            Self::State(_) | Self::Family | Self::Netns | Self::Event | Self::Finding => "== != in",
            Self::Address(_) => "== != in",
            Self::Port(_) | Self::Number(_) | Self::Severity => "== != < <= > >= in",
            Self::User => "== != in",
            Self::Text(_) => "== != =~ !~ in",
        }
    }

    /// What its values look like, for messages.
    pub(super) const fn values(self) -> &'static str {
        match self {
            Self::State(_) => "a state, e.g. CLOSE_WAIT or {FIN_WAIT1, FIN_WAIT2}",
            Self::Port(_) => "a port, e.g. 443, 8000-8099 or {80, 443}",
            Self::Address(_) => "an address or network, e.g. 10.0.0.0/8, ::1 or [::1]:443",
            Self::Family => "ipv4 or ipv6",
            Self::Netns => "a network namespace: a name (ip netns) or an inode number",
            Self::Number(number) if number.is_time() => "a duration, e.g. 500ms, 30s or 5m",
            Self::Number(number) if number.is_size() => "a number of bytes, e.g. 1000 or 64KiB",
            Self::Number(Number::Pid) => "a PID, e.g. 1234 or {1234, 5678}",
            Self::Number(Number::Uid) => "a UID, e.g. 0",
            Self::Number(_) => "a whole number",
            Self::User => "a user, e.g. \"www-data\"",
            Self::Text(_) => "a text, e.g. \"java\"",
            Self::Event => "transition, retransmit, reset, owner, socket or finding",
            Self::Finding => "a finding, e.g. close-wait-leak (tcptrace explain lists all)",
            Self::Severity => "info, warning or critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_are_unique_and_have_one_field_each() {
        for (index, (name, field)) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..index].iter().all(|(other, _)| other != name), "{name}");
            let is_first = FIELDS[..index].iter().all(|(_, other)| other != field);
            assert_eq!(is_first, index < OWN, "{name}");
            assert_eq!(Field::named(&name.to_uppercase()), Some(*field));
        }
    }
}
