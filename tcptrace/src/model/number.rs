//! Numbers in user input.

use std::{str::FromStr, time::Duration};

use jiff::SignedDuration;

/// Parses a number of decimal digits only; Rust's own parser also accepts `+80`.
#[must_use]
pub fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A positive duration: `500ms`, `30s`, `1m30s`, `7d`, or a bare number of seconds.
///
/// # Errors
/// For other text, for nothing, and for less than a millisecond.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let days = text.strip_suffix('d').and_then(digits::<u32>);
    let parsed = match seconds.or(days.map(|days| f64::from(days) * 86_400.0)) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => text.parse::<SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok()),
    };
    // A year: far beyond what a timer is needed for, far below what would overflow one.
    const MOST: Duration = Duration::from_secs(366 * 86_400);
    parsed.filter(|duration| (Duration::from_millis(1)..=MOST).contains(duration)).ok_or_else(|| {
        format!("invalid duration `{text}`: must be 1ms to a year (examples: 500ms, 1m30s, 10 for seconds)")
    })
}

/// A number of bytes: `8MiB`, `8MB`, `512K`, or a bare number. With a `B` the unit is what IEC 80000-13 says: `MB` is
/// 1,000,000 bytes and `MiB` 1,048,576. Without, as in `dd` and systemd, `M` is `MiB`.
///
/// # Errors
/// For other text, and where it does not fit.
pub fn size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: Option<u64> = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kib" => Some(1 << 10),
        "m" | "mib" => Some(1 << 20),
        "g" | "gib" => Some(1 << 30),
        "kb" => Some(1000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    digits::<u64>(number.trim())
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| format!("invalid size `{text}` (examples: 65536, 512KiB, 8MB)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_alone_are_a_number() {
        assert_eq!((digits("0"), digits("65535")), (Some(0_u16), Some(65535)));
        for bad in ["", "+1", "-1", " 1", "1 ", "1e3", "0x1", "65536", "\u{661}"] {
            assert_eq!(digits::<u16>(bad), None, "{bad}");
        }
    }
}
