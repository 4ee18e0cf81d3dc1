//! Numbers in user input.

use std::str::FromStr;

/// Parses a number of decimal digits only; Rust's own parser also accepts `+80`.
#[must_use]
pub fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
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
