//! Names of TCP ports, from `/etc/services` (services(5)).

use std::fs;

use rustc_hash::FxHashMap;

/// Size in bytes up to which the file is read; Debian's has 13 KB, IANA's list 1 MB.
const MAX_BYTES: usize = 4 << 20;

/// Names by port.
pub type Services = FxHashMap<u16, Box<str>>;

/// The services of this host; empty if there is no such file.
#[must_use]
pub fn read() -> Services {
    let bytes = fs::read("/etc/services").unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]))
}

/// The first name of each TCP port: `http 80/tcp www # comment`.
fn parse(text: &str) -> Services {
    let mut services = Services::default();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
        if let Some(port) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) {
            services.entry(port).or_insert_with(|| name.into());
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_ports_have_their_first_name() {
        let services = parse(
            "# http 81/tcp\nhttp\t\t80/tcp\t\twww # WorldWideWeb\nwww 80/tcp\ndomain 53/udp\n\nbad\nbig 99999/tcp\nx 7/tcpx\n",
        );
        assert_eq!(services.get(&80).map(|name| &**name), Some("http"));
        assert_eq!(services.len(), 1);
    }
}
