//! Parsers for the values of flags, variables and keys. Their messages name the value and give an example.

pub(crate) use crate::model::number::{duration, size};
use std::{net::SocketAddr, str::FromStr, time::Duration};

use clap::ValueEnum;

use crate::{
    findings::{Kind, Severity},
    model::{
        filter::{Expr, Pid, Term},
        number::digits,
    },
    render::finding_columns::FindingOrder,
};

pub use crate::analysis::story::connection::StoryFilter;

/// One of a fixed set of values, by name.
///
/// # Errors
/// For any other text.
pub fn choice<T: ValueEnum>(text: &str) -> Result<T, String> {
    let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names = || names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ");
    T::from_str(text, false).map_err(|_| format!("unknown value `{text}`; known: {}", names()))
}

/// A whole number from 1 to `MOST`.
///
/// # Errors
/// For other text.
pub fn number<const MOST: u32>(text: &str) -> Result<u32, String> {
    let number = digits(text).filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a whole number from 1 to {MOST}"))
}

/// A whole number above 0.
///
/// # Errors
/// For other text.
pub fn count(text: &str) -> Result<u64, String> {
    let count = digits(text).filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` is not a whole number of at least 1"))
}

/// A socket cookie as `cookie:N`.
///
/// # Errors
/// For other text.
pub fn cookie(text: &str) -> Result<u64, String> {
    let cookie = text.strip_prefix("cookie:").and_then(digits).filter(|cookie| *cookie != 0);
    cookie.ok_or_else(|| format!("`{text}` is not cookie:N; `tcptrace sockets --format json` shows the cookies"))
}

/// PIDs of owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidList(pub Vec<Term<Pid>>);

impl FromStr for PidList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The value of `--where`.
#[derive(Clone, Debug, PartialEq)]
pub struct Where(pub Expr);

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Expr::parse(text, &findings()).map(Self).map_err(|error| error.to_string())
    }
}

/// The ids of all findings.
pub(super) fn findings() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.id()).collect()
}

/// Time between two polls; `None` for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollTime(pub Option<Duration>);

impl FromStr for PollTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        duration(text).map(|time| Self(Some(time))).map_err(|error| format!("{error}, or `off`"))
    }
}

impl FromStr for StoryFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("invalid filter `{text}`: give an address, ADDRESS:PORT, [ADDRESS]:PORT, a port or cookie:N");
        let port = |text: &str| digits(text).filter(|port| *port != 0).map(Self::Port);
        if let Some(number) = text.strip_prefix("cookie:") {
            return digits(number).filter(|cookie| *cookie != 0).map(Self::Cookie).ok_or_else(wrong);
        }
        let end = text.parse().ok().filter(|end: &SocketAddr| end.port() != 0).map(Self::End);
        let address = || text.parse().ok().map(Self::Address);
        end.or_else(address).or_else(|| port(text.strip_prefix(':').unwrap_or(text))).ok_or_else(wrong)
    }
}

/// Smallest ring buffer in bytes: a page.
pub const MIN_RING: u64 = 4096;
/// Largest ring buffer in bytes; the kernel's own limit is 4 GiB.
pub const MAX_RING: u64 = 1 << 30;

/// The total size of the ring buffers in bytes.
///
/// # Errors
/// For text that is not a size, and for sizes outside the bounds.
pub fn ring_size(text: &str) -> Result<u64, String> {
    let fits = |size: &u64| (MIN_RING..=MAX_RING).contains(size);
    let wrong = || format!("size `{text}` is out of range: {MIN_RING} (4KiB) to {MAX_RING} (1GiB)");
    Some(size(text)?).filter(fits).ok_or_else(wrong)
}

/// Splits `KEY`, `-KEY`, `KEY:asc` or `KEY:desc` into a name and whether the largest comes first.
///
/// # Errors
/// If something else follows the colon.
pub(crate) fn direction(text: &str) -> Result<(&str, Option<bool>), String> {
    if let Some(name) = text.strip_prefix('-') {
        return Ok((name, Some(true)));
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((name, "asc")) => Ok((name, Some(false))),
        Some((name, "desc")) => Ok((name, Some(true))),
        Some((_, other)) => Err(format!("unknown order `{other}` in `{text}`: use asc or desc")),
    }
}

/// What findings are sorted by.
///
/// # Errors
/// For other text.
pub(super) fn finding_order(text: &str) -> Result<FindingOrder, String> {
    let (name, descending) = direction(text)?;
    Ok(FindingOrder { column: name.parse()?, descending: descending.unwrap_or(false) })
}

pub(crate) fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter()
        .find(|severity| severity.name() == text)
        .ok_or_else(|| format!("unknown severity `{text}`; known: {}", all.map(Severity::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn story_filters() {
        let parsed = |text: &str| text.parse::<StoryFilter>();
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(parsed("10.0.0.1"), Ok(StoryFilter::Address(v4)));
        assert_eq!(parsed("10.0.0.1:80"), Ok(StoryFilter::End(SocketAddr::new(v4, 80))));
        assert_eq!(parsed("::1"), Ok(StoryFilter::Address(v6)));
        assert_eq!(parsed("[::1]:80"), Ok(StoryFilter::End(SocketAddr::new(v6, 80))));
        assert_eq!((parsed("80"), parsed(":80")), (Ok(StoryFilter::Port(80)), Ok(StoryFilter::Port(80))));
        assert_eq!(parsed("cookie:4711"), Ok(StoryFilter::Cookie(4711)));
        for bad in [
            "",
            "0",
            "65536",
            "10.0.0.1:0",
            "host",
            "host:80",
            "cookie:",
            "cookie:0",
            "cookie:x",
            "[::1]",
            "+80",
            "cookie:+5",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn orders_are_written_in_two_ways() {
        assert_eq!(direction("age"), Ok(("age", None)));
        assert_eq!((direction("-age"), direction("age:desc")), (Ok(("age", Some(true))), Ok(("age", Some(true)))));
        assert_eq!(direction("age:asc"), Ok(("age", Some(false))));
        assert!(direction("age:down").unwrap_err().contains("use asc or desc"));
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["", "0", "-1", "-5s", "1us", "10000000d", "1e300", "inf", "nan", "x"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("8MiB"), Ok(8 << 20));
        assert_eq!(size("1g"), Ok(1 << 30));
        assert_eq!((size("8MB"), size("8mb")), (Ok(8_000_000), Ok(8_000_000)), "decimal, as IEC has it");
        assert_eq!((size("1kB"), size("2GB")), (Ok(1000), Ok(2_000_000_000)));
        for bad in ["", "M", "-1", "8XB", "99999999999999G", "8 é", "+8M"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
