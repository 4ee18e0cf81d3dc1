//! Parses listen addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use thiserror::Error;

use crate::model::number::digits;

/// Why a text is not a listen address.
#[derive(Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("`{0}` has no port: give PORT, :PORT (both on loopback), or ADDRESS:PORT")]
    NoPort(String),
    #[error("`{0}` is not a port: give a number from 0 (any free one) to 65535")]
    Port(String),
    #[error("`{0}` is not an IP address: give one, IPv6 in brackets, or none for loopback")]
    Host(String),
}

/// Parses a listen address: `9437`, `:9437` and `localhost:9437` listen on loopback; to be reachable from other hosts,
/// give an address of this host, `0.0.0.0:9437` or `[::]:9437`.
///
/// # Errors
/// If it is not an address.
pub fn parse_address(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => ("", text),
        _ => return Err(AddressError::NoPort(text.to_owned())),
    };
    let port = digits(port).ok_or_else(|| AddressError::Port(port.to_owned()))?;
    match host {
        "" | "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        _ => Err(AddressError::Host(host.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_address_is_on_loopback() {
        for (text, want) in [
            ("9437", "127.0.0.1:9437"),
            (":9437", "127.0.0.1:9437"),
            ("localhost:0", "127.0.0.1:0"),
            ("0.0.0.0:9437", "0.0.0.0:9437"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::]:9437", "[::]:9437"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(parse_address(text).map(|address| address.to_string()), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused_with_the_reason() {
        let no_port = |text: &str| AddressError::NoPort(text.to_owned());
        let port = |text: &str| AddressError::Port(text.to_owned());
        let host = |text: &str| AddressError::Host(text.to_owned());
        for (text, want) in [
            ("", port("")),
            (":", port("")),
            ("65536", port("65536")),
            (":-1", port("-1")),
            (":+1", port("+1")),
            ("0.0.0.0:http", port("http")),
            ("0.0.0.0", no_port("0.0.0.0")),
            ("::1", no_port("::1")),
            ("::1:9437:x", no_port("::1:9437:x")),
            ("[::1]", no_port("[::1]")),
            ("[::1]:", port("")),
            ("example.org:80", host("example.org")),
            ("http://0.0.0.0:80", no_port("http://0.0.0.0:80")),
            ("[::g]:80", host("[::g]")),
        ] {
            assert_eq!(parse_address(text), Err(want), "{text}");
        }
    }
}
