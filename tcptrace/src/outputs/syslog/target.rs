//! Addresses of syslog servers.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::model::number::digits;

/// Socket of the local syslog daemon.
const LOCAL: &str = "/dev/log";

/// Port of syslog over UDP (RFC 5426, section 3.3), and by convention over TCP.
const PORT: u16 = 514;

/// A syslog server: `unix[:PATH]`, `udp:HOST[:PORT]` or `tcp:HOST[:PORT]`, with IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTarget {
    /// A unix datagram socket.
    Unix(PathBuf),
    /// A host, by name or address, and its UDP port.
    Udp(String, u16),
    /// A host, by name or address, and its TCP port.
    Tcp(String, u16),
}

/// Why a text does not name a syslog server.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("syslog target `{text}`: {reason}; expected unix[:PATH], udp:HOST[:PORT] or tcp:HOST[:PORT]")]
pub struct InvalidTarget {
    text: String,
    reason: &'static str,
}

impl FromStr for SyslogTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = |reason| InvalidTarget { text: text.to_owned(), reason };
        match text.split_once(':').unwrap_or((text, "")) {
            ("unix", "") => Ok(Self::Unix(LOCAL.into())),
            ("unix", path) => Ok(Self::Unix(path.into())),
            ("udp", end) => host_port(end).map(|(host, port)| Self::Udp(host, port)).map_err(invalid),
            ("tcp", end) => host_port(end).map(|(host, port)| Self::Tcp(host, port)).map_err(invalid),
            _ => Err(invalid("unknown transport")),
        }
    }
}

fn host_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("no `]` after the IPv6 address")?;
            match (after, after.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                _ => return Err("something other than `:PORT` after `]`"),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address must be in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.map(digits) {
        None => PORT,
        Some(Some(port)) if port > 0 => port,
        Some(_) => return Err("the port must be a number from 1 to 65535"),
    };
    if host.is_empty() { Err("the host is missing") } else { Ok((host.to_owned(), port)) }
}

impl fmt::Display for SyslogTarget {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, host, port) = match self {
            Self::Unix(path) => return write!(to, "unix:{}", path.display()),
            Self::Udp(host, port) => ("udp", host, port),
            Self::Tcp(host, port) => ("tcp", host, port),
        };
        if host.contains(':') {
            write!(to, "{transport}:[{host}]:{port}")
        } else {
            write!(to, "{transport}:{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        let all = [
            ("unix", "unix:/dev/log"),
            ("unix:", "unix:/dev/log"),
            ("unix:/run/a:b", "unix:/run/a:b"),
            ("udp:log.example", "udp:log.example:514"),
            ("udp:192.0.2.1:5514", "udp:192.0.2.1:5514"),
            ("tcp:[::1]", "tcp:[::1]:514"),
            ("tcp:[2001:db8::1]:601", "tcp:[2001:db8::1]:601"),
        ];
        for (text, shown) in all {
            let target: SyslogTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(shown.parse(), Ok(target));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let all = [
            ("", "unknown transport"),
            ("tls:a", "unknown transport"),
            ("udp", "the host is missing"),
            ("tcp:", "the host is missing"),
            ("tcp::514", "the host is missing"),
            ("tcp:[]:5", "the host is missing"),
            ("tcp:a:", "the port must be a number from 1 to 65535"),
            ("udp:a:0", "the port must be a number from 1 to 65535"),
            ("udp:a:65536", "the port must be a number from 1 to 65535"),
            ("udp:2001:db8::1", "an IPv6 address must be in brackets"),
            ("udp:[::1", "no `]` after the IPv6 address"),
            ("udp:[::1]x", "something other than `:PORT` after `]`"),
        ];
        for (text, reason) in all {
            assert_eq!(text.parse::<SyslogTarget>(), Err(InvalidTarget { text: text.to_owned(), reason }));
        }
        let said = "tls:a".parse::<SyslogTarget>().unwrap_err().to_string();
        assert_eq!(
            said,
            "syslog target `tls:a`: unknown transport; expected unix[:PATH], udp:HOST[:PORT] or tcp:HOST[:PORT]"
        );
    }
}
