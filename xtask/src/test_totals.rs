//! Adds up what several test runs say, so that one line tells the whole result.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Read, Write},
    ops::AddAssign,
};

use anyhow::{Context as _, Result};

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that did not run, which cargo calls ignored.
    pub(crate) skipped: u64,
}

impl Totals {
    /// Whether no test passed or failed.
    pub(crate) fn none_ran(&self) -> bool {
        self.passed == 0 && self.failed == 0
    }

    /// Copies `output` to `screen` line by line as it comes, and adds up its results.
    pub(crate) fn follow(output: impl Read, screen: &mut impl Write) -> Result<Self> {
        let mut totals = Self::default();
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            // Tests may print bytes that are no text.
            let read = reader.read_until(b'\n', &mut line).context("cannot read the tests' output")?;
            if read == 0 {
                return Ok(totals);
            }
            screen.write_all(&line).and_then(|()| screen.flush()).context("cannot print the tests' output")?;
            if let Some(found) = Self::parse(&String::from_utf8_lossy(&line)) {
                totals += found;
            }
        }
    }

    /// Reads a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn parse(line: &str) -> Option<Self> {
        let plain = without_colour(line);
        let counts = plain.strip_prefix("test result: ")?;
        let count =
            |word: &str| counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The text without the escape sequences that colour it.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // A sequence ends with its first letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn a_result_line_is_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 7 filtered out; finished in 0.10s\n";
        let expected = Totals { passed: 12, failed: 3, skipped: 4 };
        assert_eq!(Totals::parse(line), Some(expected));
    }

    #[test]
    fn a_coloured_result_line_is_read() {
        let line = "test result: \x1b[32mok\x1b[m. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let expected = Totals { passed: 1, failed: 0, skipped: 2 };
        assert_eq!(Totals::parse(line), Some(expected));
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in ["", "test a ... ok", "test result: ok", "x test result: ok. 1 passed; 0 failed; 0 ignored"] {
            assert_eq!(Totals::parse(line), None, "{line}");
        }
    }

    #[test]
    fn runs_are_added_up() {
        let output = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\u{1f600}\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n";
        let mut screen = Vec::new();
        let totals = Totals::follow(output.as_bytes(), &mut screen).unwrap();
        assert_eq!(screen, output.as_bytes());
        assert_eq!(totals.to_string(), "3 passed, 1 failed, 1 skipped");
    }
}
