//! Headers of HTTP requests, which may hold secrets.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};

/// Why headers cannot be used. Contains no values.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum HeaderError {
    #[error("header {number} {reason}; expected NAME=VALUE,NAME=VALUE, with commas in values as %2C")]
    Part { number: usize, reason: &'static str },
    #[error("{}, line {number} {reason}; expected NAME: VALUE", path.display())]
    Line { path: PathBuf, number: usize, reason: &'static str },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Headers of requests. Their values are secret: `Debug` hides them.
#[derive(Clone, Debug, Default)]
pub struct Headers(HeaderMap);

/// Most bytes of a file that are read.
const MOST_BYTES: u64 = 64 << 10;

impl Headers {
    /// Parses headers in the format of `OTEL_EXPORTER_OTLP_HEADERS`: `api-key=abc,other=x%2Cy`, the form of W3C
    /// Baggage.
    ///
    /// # Errors
    /// If they are malformed, or include a header that tcptrace sets itself.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let mut headers = HeaderMap::new();
        for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            let wrong = |reason| HeaderError::Part { number: index + 1, reason };
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("has no ="))?;
            let value = decoded(value.trim()).ok_or_else(|| wrong("has a % without two hexadecimal digits"))?;
            add(&mut headers, name, &value).map_err(wrong)?;
        }
        Ok(Self(headers))
    }

    /// Reads headers from a file: `NAME: VALUE` in each line, without empty lines and those that begin with `#`.
    ///
    /// # Errors
    /// If the file cannot be read or is too large, or a line is wrong. The error does not contain the values.
    pub fn read(path: &Path) -> Result<Self, HeaderError> {
        let file = |source| HeaderError::File { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)).map_err(file)?;
        let mut headers = HeaderMap::new();
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong = |reason| HeaderError::Line { path: path.to_owned(), number, reason };
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("has no colon"))?;
            add(&mut headers, name, value.trim().as_bytes()).map_err(wrong)?;
        }
        Ok(Self(headers))
    }

    /// Adds those of `others`.
    #[must_use]
    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }

    pub(super) fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// Adds a header.
fn add(headers: &mut HeaderMap, name: &str, value: &[u8]) -> Result<(), &'static str> {
    let name: HeaderName = name.trim().parse().map_err(|_| "has a name that HTTP does not allow")?;
    if OWN.contains(&name) {
        return Err("is one that tcptrace sets itself");
    }
    let mut value = HeaderValue::from_bytes(value).map_err(|_| "has a value that HTTP does not allow")?;
    value.set_sensitive(true);
    headers.append(name, value);
    Ok(())
}

/// Headers that describe the request.
const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
];

/// Decodes percent-encoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_in_the_environment_and_never_shown() {
        let headers = Headers::parse("api-key=top%2Csecret, Authorization=Basic%20c2VjcmV0,").unwrap();
        assert_eq!(headers.0["api-key"], "top,secret");
        assert_eq!(headers.0["authorization"], "Basic c2VjcmV0");
        let shown = format!("{headers:?}");
        assert!(shown.contains("api-key") && !shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(Headers::parse("").unwrap().0.is_empty());
        for text in ["secret", "a=b,secret", "a b=secret", "a=secret%2", "a=secret%zz", "a=secret%0A", "host=secret"] {
            let error = Headers::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn headers_are_read_from_a_file() {
        let path = std::env::temp_dir().join(format!("tcptrace-headers-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Headers::read(&path)
        };
        let headers = read("# a token\nAuthorization: Bearer secret:1\n\nX-Scope-OrgID:7\n").unwrap();
        assert_eq!(
            (headers.0["authorization"].as_bytes(), headers.0["x-scope-orgid"].as_bytes()),
            (&b"Bearer secret:1"[..], &b"7"[..])
        );
        for text in ["secret", "a: b\nsecret", "a b: secret", "host: secret"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("secret"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = Headers::read(&path).unwrap_err().to_string();
        assert!(error.contains("tcptrace-headers") && error.contains("No such file"), "{error}");
    }
}
