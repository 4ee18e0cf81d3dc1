//! Adds up the results of several test runs, and collects why tests were skipped.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead as _, BufReader, Read, Write},
    ops::AddAssign,
};

use anyhow::{Context as _, Result};

/// How many tests passed, failed and were skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Tests that did not run: cargo calls them ignored.
    skipped: u64,
    /// How many of these for which reason.
    reasons: BTreeMap<String, u64>,
}

impl Totals {
    /// Whether no test passed or failed.
    pub(crate) fn none_ran(&self) -> bool {
        self.passed == 0 && self.failed == 0
    }

    /// A line for each reason why tests were skipped, with the command that mends it.
    pub(crate) fn skips(&self) -> String {
        let line = |(reason, count): (&String, &u64)| {
            let mend = mend(reason).map(|mend| format!(": {mend}")).unwrap_or_default();
            format!("skipped: {count}: {reason}{mend}\n")
        };
        self.reasons.iter().map(line).collect()
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
            let plain = without_colour(&String::from_utf8_lossy(&line));
            if let Some(found) = Self::parse(&plain) {
                totals += found;
            } else if let Some(reason) = skip(&plain) {
                *totals.reasons.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }

    /// Reads a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn parse(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?;
        let count =
            |word: &str| counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok());
        let (passed, failed, skipped) = (count("passed")?, count("failed")?, count("ignored")?);
        Some(Self { passed, failed, skipped, ..Self::default() })
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Why a test was skipped: `test NAME ... ignored, REASON` of libtest, `test [skipped: REASON] NAME ... ignored` of
/// tests with their own harness.
fn skip(line: &str) -> Option<&str> {
    let (test, reason) = line.strip_prefix("test ")?.trim_end().split_once(" ... ignored")?;
    let own = test.strip_prefix("[skipped: ").and_then(|rest| rest.rsplit_once("] "));
    Some(own.map_or_else(|| reason.strip_prefix(", ").unwrap_or("no reason given"), |(reason, _)| reason))
}

/// What to do so that tests skipped for this reason run; `None` if the reason says it, or nothing helps.
fn mend(reason: &str) -> Option<&'static str> {
    let has = |word| reason.contains(word);
    if has("`") {
        None
    } else if has("root") {
        Some("run `cargo xtask test` as root, or install sudo")
    } else {
        (has("install") || has("Python")).then_some("`cargo xtask setup --tests` installs it")
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
    use super::*;

    #[test]
    fn a_result_line_is_read() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 4 ignored; 0 measured; 7 filtered out; finished in 0.10s\n";
        let expected = Totals { passed: 12, failed: 3, skipped: 4, ..Totals::default() };
        assert_eq!(Totals::parse(line), Some(expected));
    }

    #[test]
    fn a_coloured_result_line_is_read() {
        let line = "test result: \x1b[32mok\x1b[m. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let expected = Totals { passed: 1, failed: 0, skipped: 2, ..Totals::default() };
        assert_eq!(Totals::follow(line.as_bytes(), &mut Vec::new()).unwrap(), expected);
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

    #[test]
    fn skipped_tests_are_counted_by_reason_with_what_mends_it() {
        let output = "test [skipped: not root] a::b ... ignored\n\
            test [\x1b[33mskipped: not installed: [\"nft\", \"x\"]\x1b[0m] c::d ... \x1b[33mignored\x1b[0m\n\
            test e ... ignored, slow: `cargo xtask interop` plays it\ntest f ... ignored\ntest g ... ok\n\
            test [skipped: not root] h ... ignored\n";
        let mut totals = Totals::follow(output.as_bytes(), &mut Vec::new()).unwrap();
        totals += Totals::follow(&b"test f ... ignored\n"[..], &mut Vec::new()).unwrap();
        assert_eq!(
            totals.skips(),
            "skipped: 2: no reason given\n\
             skipped: 1: not installed: [\"nft\", \"x\"]: `cargo xtask setup --tests` installs it\n\
             skipped: 2: not root: run `cargo xtask test` as root, or install sudo\n\
             skipped: 1: slow: `cargo xtask interop` plays it\n"
        );
    }
}
