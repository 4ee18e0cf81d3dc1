//! Values as users write them, for flags and for expressions.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::model::{number::digits, socket_filter::Prefix};

/// A value of a list, or one that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term<T> {
    /// True for `!VALUE`.
    pub is_negated: bool,
    /// The value.
    pub value: T,
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Term<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (is_negated, value) = text.strip_prefix('!').map_or((false, text), |value| (true, value.trim_start()));
        match value.parse() {
            Ok(value) => Ok(Self { is_negated, value }),
            Err(error) if text.starts_with(['~', '^']) => {
                Err(format!("{error}; to exclude a value write an exclamation mark before it: '!{}'", &text[1..]))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uid(pub u32);

impl FromStr for Uid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        digits(text).map(Self).ok_or_else(|| format!("invalid user id `{text}` (example: 1000; --user takes names)"))
    }
}

/// A range of ports, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange(pub u16, pub u16);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |part: &str| {
            digits::<u16>(part.trim())
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("invalid port `{part}`: ports are 1 to 65535, e.g. 80,443 or 8000-8099"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(format!("the range `{text}` is empty: give the lower port first"));
        }
        Ok(Self(first, last))
    }
}

/// A PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub u32);

impl FromStr for Pid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // PID_MAX_LIMIT of `include/linux/threads.h` is 4,194,304.
        let pid = digits::<u32>(text.trim()).filter(|pid| (1..=4_194_304).contains(pid));
        pid.map(Self).ok_or_else(|| format!("invalid PID `{text}` (example: 1234,5678)"))
    }
}

/// An address or a network, perhaps with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address or network.
    pub prefix: Prefix,
    /// The port, if given.
    pub port: Option<PortRange>,
}

impl From<IpAddr> for Place {
    fn from(address: IpAddr) -> Self {
        let (v6, bits) = (mapped(address), 128);
        Self { prefix: Prefix::new(v6, bits), port: None }
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl FromStr for Place {
    type Err = String;

    /// `10.0.0.1`, `10.0.0.0/8`, `::1`, `[::1]`, `10.0.0.1:80`, `[::1]:80`; `*:80` is any address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, port) = split_port(text)?;
        let (address, bits) = match address.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (address, None),
        };
        let address: IpAddr = address.parse().map_err(|_| {
            format!("invalid address `{text}`: give IPv4 or IPv6, with or without /BITS or :PORT; names do not work")
        })?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => digits::<u32>(bits)
                .filter(|bits| *bits <= width)
                .ok_or_else(|| format!("invalid prefix length `/{bits}` in `{text}`: it is 0 to {width}"))?,
        };
        Ok(Self { prefix: Prefix::new(mapped(address), 128 - width + bits), port })
    }
}

/// Splits the port off: after the bracket of an IPv6 address, or after the only colon.
fn split_port(text: &str) -> Result<(&str, Option<PortRange>), String> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or_else(|| format!("`{text}` has no closing bracket"))?;
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err(format!("`{text}`: after the bracket comes :PORT or nothing")),
            }
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') && address.contains('.') => (address, Some(port)),
            _ => (text, None),
        },
    };
    Ok((address, port.map(str::parse).transpose()?))
}

/// A regular expression, compared by its text.
#[derive(Clone, Debug)]
pub struct Regex(regex::Regex);

impl Regex {
    /// Largest compiled expression, in bytes.
    const MAX_SIZE: usize = 256 << 10;

    /// Compiles a regular expression.
    ///
    /// # Errors
    /// If its syntax is wrong, or it is too large.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = regex::RegexBuilder::new(text).size_limit(Self::MAX_SIZE).nest_limit(16).build();
        built.map(Self).map_err(|error| format!("invalid regular expression: {error}"))
    }

    /// Whether it matches somewhere in the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let parsed =
            |text: &str| text.parse::<Term<PortRange>>().map(|term| (term.is_negated, term.value.0, term.value.1));
        assert_eq!(parsed("80"), Ok((false, 80, 80)));
        assert_eq!(parsed(" 8000-8099"), Ok((false, 8000, 8099)));
        assert_eq!(parsed("!22"), Ok((true, 22, 22)));
        for bad in ["", "0", "65536", "90-80", "a", "-80", "80-", "1-2-3", "+80", "80-+90", "8 0", "!!80", "~80"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places() {
        let parsed = |text: &str| {
            text.parse::<Place>().map(|place| (place.prefix.to_string(), place.port.map(|range| (range.0, range.1))))
        };
        for (text, prefix, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.0/8", "10.0.0.0/8", None),
            ("0.0.0.0/0", "0.0.0.0/0", None),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("fe80::/10", "fe80::/10", None),
            ("[fe80::/10]", "fe80::/10", None),
            ("::/0", "::/0", None),
            ("[::1]:7801", "::1", Some((7801, 7801))),
            ("10.0.0.1:80", "10.0.0.1", Some((80, 80))),
            ("10.0.0.0/8:80-90", "10.0.0.0/8", Some((80, 90))),
        ] {
            assert_eq!(parsed(text), Ok((prefix.to_owned(), port)), "{text}");
        }
        for bad in [
            "",
            "10.0.0/8",
            "10.0.0.0/33",
            "::/129",
            "host",
            "1.2.3.4/",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "!1.2.3.4",
            "[::1",
            "[::1]80",
            "[::1]:0",
            "10.0.0.1:x",
            "host:80",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pids() {
        assert_eq!("22".parse::<Pid>(), Ok(Pid(22)));
        for bad in ["", "0", "x", "1,", "4294967296", "-1", "+5", "4194305"] {
            assert!(bad.parse::<Pid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn regular_expressions_are_bounded() {
        assert!(Regex::new("^java").is_ok_and(|regex| regex.matches("java-17") && !regex.matches("a java")));
        for bad in ["(", "a{1000}{1000}{1000}", &"(".repeat(40)] {
            assert!(Regex::new(bad).is_err(), "{bad}");
        }
    }
}
