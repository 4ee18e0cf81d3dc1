//! Reads the counters and settings of the calling thread's network namespace. The text is untrusted.

use std::{fs, str::FromStr};

use crate::model::namespace::{NetCounters, NetSettings, reserved_ports};

/// Reads the counters; `None` if they cannot be read.
#[must_use]
pub(super) fn counters() -> Option<NetCounters> {
    counters_in(&fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// Number of TCP segments received; `None` if it cannot be read.
#[must_use]
pub(super) fn segments() -> Option<u64> {
    value_in(&fs::read_to_string("/proc/thread-self/net/snmp").ok()?, "Tcp: ", "InSegs")
}

/// Reads the settings. `/proc/sys/net` shows the namespace of the thread that opens it (`net/sysctl_net.c`,
/// `net_ctl_header_lookup`).
#[must_use]
pub(super) fn settings() -> NetSettings {
    settings_of(|name| fs::read_to_string(format!("/proc/sys/net/{name}")).ok())
}

/// Each line of names is followed by a line of values (`net/ipv4/proc.c`, `snmp_seq_show`, `netstat_seq_show`).
fn value_in(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) = names.split(' ').zip(values.split(' ')).find(|(other, _)| *other == name)?;
    value.parse().ok()
}

fn counters_in(text: &str) -> Option<NetCounters> {
    let count = |name: &str| value_in(text, "TcpExt: ", name);
    Some(NetCounters {
        listen_overflows: count("ListenOverflows")?,
        listen_drops: count("ListenDrops")?,
        syncookies_sent: count("SyncookiesSent")?,
        syncookies_failed: count("SyncookiesFailed")?,
        request_queue_full_cookies: count("TCPReqQFullDoCookies")?,
        request_queue_full_drops: count("TCPReqQFullDrop")?,
        time_wait_overflows: count("TCPTimeWaitOverflow")?,
        aborts_on_memory: count("TCPAbortOnMemory")?,
    })
}

fn settings_of(read: impl Fn(&str) -> Option<String>) -> NetSettings {
    let number = |name: &str| one(&read(name)?);
    let local_ports: Option<(u16, u16)> = read("ipv4/ip_local_port_range").and_then(|text| two(&text));
    let reserved_ports = |(first, last): (u16, u16)| {
        Some(reserved_ports(&read("ipv4/ip_local_reserved_ports")?, first.into(), last.into()))
    };
    NetSettings {
        local_ports,
        reserved_ports: local_ports.and_then(reserved_ports),
        timestamps: number("ipv4/tcp_timestamps"),
        tw_reuse: number("ipv4/tcp_tw_reuse"),
        max_tw_buckets: number("ipv4/tcp_max_tw_buckets"),
        syncookies: number("ipv4/tcp_syncookies"),
        max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
        somaxconn: number("core/somaxconn"),
        fin_timeout: number("ipv4/tcp_fin_timeout"),
        retries2: number("ipv4/tcp_retries2"),
        orphan_retries: number("ipv4/tcp_orphan_retries"),
        syn_retries: number("ipv4/tcp_syn_retries"),
        synack_retries: number("ipv4/tcp_synack_retries"),
        keepalive_time: number("ipv4/tcp_keepalive_time"),
        keepalive_interval: number("ipv4/tcp_keepalive_intvl"),
        keepalive_probes: number("ipv4/tcp_keepalive_probes"),
    }
}

fn one<T: FromStr>(text: &str) -> Option<T> {
    text.trim_end().parse().ok()
}

fn two<T: FromStr>(text: &str) -> Option<(T, T)> {
    let (first, last) = text.split_once('\t')?;
    Some((one(first)?, one(last)?))
}

/// Number of full and TIME_WAIT TCP sockets in the calling thread's namespace; `None` if unknown. If it is 0 there are
/// no requests either, since a request has a listener.
#[must_use]
pub(crate) fn tcp_sockets() -> Option<usize> {
    let count = |file: &str| count(&fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?);
    Some(count("sockstat")? + count("sockstat6")?)
}

/// The count in `/proc/net/sockstat` or `sockstat6` (`net/ipv4/proc.c`, `sockstat_seq_show`).
pub(crate) fn count(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: ").or_else(|| line.strip_prefix("TCP6: ")))?;
    let words: Vec<_> = line.split(' ').collect();
    let number = |name: &str| Some(words.windows(2).find(|pair| pair[0] == name)?[1].parse::<usize>());
    number("inuse")?.ok()?.checked_add(number("tw").unwrap_or(Ok(0)).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::net::TcpListener;

    use super::*;
    use crate::listing::netns::in_fresh_netns;

    const COUNTERS: &str = "TcpExt: SyncookiesSent SyncookiesFailed X ListenOverflows ListenDrops TCPTimeWaitOverflow \
                            TCPReqQFullDoCookies TCPReqQFullDrop TCPAbortOnMemory\n\
                            TcpExt: 1 2 99 3 4 5 6 7 8\nIpExt: ListenDrops\nIpExt: 9\n";

    #[test]
    fn counters_are_read_by_name() {
        let expected = NetCounters {
            listen_overflows: 3,
            listen_drops: 4,
            syncookies_sent: 1,
            syncookies_failed: 2,
            request_queue_full_cookies: 6,
            request_queue_full_drops: 7,
            time_wait_overflows: 5,
            aborts_on_memory: 8,
        };
        assert_eq!(counters_in(COUNTERS), Some(expected));
        for bad in
            ["", "TcpExt: A\n", "TcpExt: A\nTcpExt: 1\n", &COUNTERS.replace(" 7 8", " 7"), &COUNTERS.replace('8', "x")]
        {
            assert_eq!(counters_in(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_not_known() {
        assert_eq!(settings_of(|_| None), NetSettings::default());
        let read = |name: &str| match name {
            "ipv4/ip_local_port_range" => Some("1024\t65535\n".to_owned()),
            "ipv4/tcp_tw_reuse" => Some("2\n".to_owned()),
            "ipv4/tcp_retries2" => Some("-1\n".to_owned()),
            _ => Some(String::new()),
        };
        let expected = NetSettings {
            local_ports: Some((1024, 65535)),
            reserved_ports: Some(0),
            tw_reuse: Some(2),
            ..NetSettings::default()
        };
        assert_eq!(settings_of(read), expected);
        for bad in ["", "1", "1 2", "1\t", "1\t65536", "\t2"] {
            assert_eq!(settings_of(|_| Some(bad.to_owned())).local_ports, None, "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_has_its_own() {
        let outside = settings();
        assert!(outside.local_ports.is_some() && outside.keepalive_time.is_some(), "{outside:?}");
        in_fresh_netns(|| {
            let zero = NetCounters::default();
            assert_eq!(counters(), Some(zero));
            fs::write("/proc/sys/net/ipv4/tcp_keepalive_time", "77").unwrap();
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "3000 3009").unwrap();
            fs::write("/proc/sys/net/core/somaxconn", "5").unwrap();
            let settings = settings();
            assert_eq!((settings.keepalive_time, settings.local_ports), (Some(77), Some((3000, 3009))));
            assert_eq!((settings.somaxconn, settings.fin_timeout), (Some(5), Some(60)), "{settings:?}");
        });
        assert_eq!(settings(), outside);
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in ".{0,80}", values in "[ 0-9a-z-]{0,80}") {
            counters_in(&text);
            counters_in(&format!("TcpExt: {text}\nTcpExt: {values}"));
            settings_of(|_| Some(text.clone()));
        }
    }

    #[test]
    fn the_sockets_of_a_namespace_are_counted() {
        let empty = "sockets: used 3\nTCP: inuse 0 orphan 7 tw 0 alloc 9 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!((count(empty), count("TCP6: inuse 0\nUDP6: inuse 0\n")), (Some(0), Some(0)));
        assert_eq!((count("TCP: inuse 1 orphan 0 tw 2\n"), count("TCP6: inuse 1\n")), (Some(3), Some(1)));
        for text in ["", "TCP: x\n", "TCP: inuse\n", "TCP: inuse x tw 0\n", "TCP: inuse 0 orphan 0 tw x\n"] {
            assert_eq!(count(text), None, "{text:?}");
        }
        in_fresh_netns(|| {
            assert_eq!(tcp_sockets(), Some(0));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_eq!(tcp_sockets(), Some(1));
            drop(listener);
        });
    }
}
