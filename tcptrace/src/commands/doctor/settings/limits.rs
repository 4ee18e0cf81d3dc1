//! Settings that limit a number or a size.

use super::{
    super::timers::{TIME_WAIT_MS, words},
    Setting,
};
use crate::commands::doctor::{check::Verdict, sysctl::Sysctls};

/// The backlog that common servers pass to listen(2) (nginx, Apache httpd, Redis).
const COMMON_BACKLOG: u64 = 511;
/// The lowest value that the kernel itself chooses for `tcp_max_syn_backlog`.
const LEAST_SYN_BACKLOG: u64 = 128;
/// Number of dynamic ports, 49152 to 65535 (RFC 6335 section 6).
const DYNAMIC_PORTS: u64 = 16_384;
/// Smaller buffers are slow over long distances: 84 Mbit/s at 100 ms.
const SMALL_BUFFER_BYTES: u64 = 1 << 20;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        id: "somaxconn",
        shown: &["net.core.somaxconn"],
        meaning: "largest backlog that listen() grants: connections that wait for accept()",
        source: "net/socket.c, __sys_listen_socket; net/ipv4/tcp_input.c, tcp_conn_request",
        judge: somaxconn,
    },
    Setting {
        id: "tcp_syncookies",
        shown: &["tcp_syncookies"],
        meaning: "what happens when a listener has more half-open connections than its backlog: 1 answers with SYN \
                  cookies, 0 drops the SYN, 2 always answers with cookies",
        source: "net/ipv4/tcp_input.c, tcp_conn_request, tcp_syn_flood_action",
        judge: syncookies,
    },
    Setting {
        id: "tcp_max_syn_backlog",
        shown: &["tcp_max_syn_backlog"],
        meaning: "most half-open connections of a listener if SYN cookies are off",
        source: "net/ipv4/tcp_input.c, tcp_conn_request",
        judge: max_syn_backlog,
    },
    Setting {
        id: "tcp_abort_on_overflow",
        shown: &["tcp_abort_on_overflow"],
        meaning: "what a client gets if the accept queue is full: 0 nothing, so that it retries, 1 a RST",
        source: "net/ipv4/tcp_minisocks.c, tcp_check_req",
        judge: |sysctls| {
            Some(match sysctls.number("tcp_abort_on_overflow")? {
                0 => Verdict::ok("a client that finds the accept queue full retries, and gets in after a burst"),
                _ => Verdict::warning(
                    "a client that finds the accept queue full is reset, even in a short burst",
                    "set net.ipv4.tcp_abort_on_overflow=0",
                ),
            })
        },
    },
    Setting {
        id: "ip_local_port_range",
        shown: &["ip_local_port_range"],
        meaning: "ports that connect() chooses from, except those in ip_local_reserved_ports",
        source: "net/ipv4/inet_hashtables.c, __inet_hash_connect",
        judge: port_range,
    },
    Setting {
        id: "tcp_max_tw_buckets",
        shown: &["tcp_max_tw_buckets"],
        meaning: "most connections of this network namespace in TIME_WAIT or, as orphans, in FIN_WAIT2",
        source: "net/ipv4/inet_timewait_sock.c, inet_twsk_alloc; net/ipv4/tcp_ipv4.c, tcp_set_hashinfo",
        judge: |sysctls| {
            at_least_default(
                sysctls,
                "tcp_max_tw_buckets",
                "further ones close without it: late segments may reach a new connection, and a retransmitted FIN gets a RST",
            )
        },
    },
    Setting {
        id: "tcp_max_orphans",
        shown: &["tcp_max_orphans"],
        meaning: "most orphans on the whole host: connections that no program holds any more but that have not ended",
        source: "net/ipv4/tcp.c, tcp_check_oom, tcp_init",
        judge: |sysctls| {
            at_least_default(
                sysctls,
                "tcp_max_orphans",
                "further ones are reset and lose their unsent data; stuck ones count up to four times",
            )
        },
    },
    Setting {
        id: "tcp_mem",
        shown: &["tcp_mem"],
        meaning: "memory for the buffers of all connections on the host, in pages: no limits below the first number, memory \
                  pressure from the second, a hard limit at the third",
        source: "net/core/sock.c, __sk_mem_raise_allocated",
        judge: memory,
    },
    Setting {
        id: "tcp_rmem",
        shown: &["tcp_rmem"],
        meaning: "receive buffer of a connection in bytes: minimum, initial size, maximum",
        source: "net/ipv4/tcp_input.c, tcp_rcv_space_adjust",
        judge: |sysctls| buffer(sysctls, "tcp_rmem"),
    },
    Setting {
        id: "tcp_wmem",
        shown: &["tcp_wmem"],
        meaning: "send buffer of a connection in bytes: minimum, initial size, maximum",
        source: "net/ipv4/tcp_input.c, tcp_sndbuf_expand",
        judge: |sysctls| buffer(sysctls, "tcp_wmem"),
    },
];

fn somaxconn(sysctls: &Sysctls) -> Option<Verdict> {
    let limit = sysctls.number("net.core.somaxconn")?;
    let consequence = format!(
        "a listener's backlog is at most {limit}: that many connections may wait for accept(), and that many may be half-open"
    );
    Some(if limit < COMMON_BACKLOG {
        Verdict::warning(
            format!("{consequence}: less than common servers ask for ({COMMON_BACKLOG})"),
            "set net.core.somaxconn=4096 (the default), and restart the servers",
        )
    } else {
        Verdict::ok(consequence)
    })
}

fn syncookies(sysctls: &Sysctls) -> Option<Verdict> {
    Some(match sysctls.number("tcp_syncookies")? {
        0 => Verdict::warning(
            "a SYN flood fills a listener's queue and keeps everybody else out",
            "set net.ipv4.tcp_syncookies=1",
        ),
        1 => Verdict::ok("a SYN flood does not keep others out; cookies are sent only during one"),
        2 => Verdict::warning(
            "every connection is made with a cookie: without TCP options if timestamps are off, and without retransmitted \
             SYN-ACKs",
            "set net.ipv4.tcp_syncookies=1: 2 is for tests",
        ),
        _ => return None,
    })
}

fn max_syn_backlog(sysctls: &Sysctls) -> Option<Verdict> {
    let limit = sysctls.number("tcp_max_syn_backlog")?;
    if sysctls.number("tcp_syncookies")? != 0 {
        return Some(Verdict::ok("no effect while SYN cookies are on: a listener's limit is its backlog"));
    }
    let consequence =
        format!("a listener has up to {} half-open connections from hosts without recorded metrics", limit - limit / 4);
    Some(if limit < LEAST_SYN_BACKLOG {
        Verdict::warning(consequence, "set net.ipv4.tcp_max_syn_backlog to 128 or more, or net.ipv4.tcp_syncookies=1")
    } else {
        Verdict::ok(consequence)
    })
}

fn port_range(sysctls: &Sysctls) -> Option<Verdict> {
    let [first, last] = sysctls.numbers("ip_local_port_range")?;
    if !(first <= last && last <= u16::MAX.into()) {
        return None;
    }
    let reserved = crate::model::namespace::reserved_ports(
        &sysctls.text("ip_local_reserved_ports").unwrap_or_default(),
        first,
        last,
    );
    let ports = (last - first + 1).saturating_sub(reserved);
    let reused = sysctls.number("tcp_tw_reuse") == Some(1) && sysctls.number("tcp_timestamps") != Some(0);
    let each = if reused {
        let delay = words(sysctls.number("tcp_tw_reuse_delay").unwrap_or(1000));
        format!("a port in TIME_WAIT is reused after {delay} (tcp_tw_reuse)")
    } else {
        let rate = ports * 1000 / TIME_WAIT_MS;
        format!("at most {rate} connections per second to one destination, since each stays 1 min in TIME_WAIT")
    };
    let consequence = format!("{ports} ports: {each}");
    Some(if ports < DYNAMIC_PORTS {
        Verdict::warning(
            consequence,
            "set net.ipv4.ip_local_port_range=\"32768 60999\" (the default), and reserve the ports that must stay free in \
             net.ipv4.ip_local_reserved_ports",
        )
    } else {
        Verdict::ok(consequence)
    })
}

/// Checks a limit whose default is computed from the size of the kernel's socket table, and that must not be lowered
/// (Documentation/networking/ip-sysctl.rst).
fn at_least_default(sysctls: &Sysctls, name: &str, beyond: &str) -> Option<Verdict> {
    let limit = sysctls.number(name)?;
    let consequence = format!("up to {limit}; {beyond}");
    let default = sysctls.table_buckets().map_or(1, |buckets| buckets / 2);
    Some(if limit < default {
        Verdict::warning(
            format!("{consequence}; the limit was lowered"),
            format!("set net.ipv4.{name} to at least {default}, the kernel's default for this machine"),
        )
    } else {
        Verdict::ok(consequence)
    })
}

fn memory(sysctls: &Sysctls) -> Option<Verdict> {
    let [_, pressure, most] = sysctls.numbers("tcp_mem")?;
    let bytes = |pages: u64| pages.saturating_mul(sysctls.page_bytes);
    let consequence = format!("memory pressure from {}, at most {}", size(bytes(pressure)), size(bytes(most)));
    Some(match sysctls.memory_bytes {
        Some(memory) if bytes(most) > memory => Verdict::warning(
            format!("{consequence}: more than this machine's {}; the numbers are pages, not bytes", size(memory)),
            "remove the setting from the sysctl files: the kernel chooses it from the machine's memory",
        ),
        _ => Verdict::ok(consequence),
    })
}

fn buffer(sysctls: &Sysctls, name: &str) -> Option<Verdict> {
    let [_, _, most] = sysctls.numbers(name)?;
    let consequence = format!("up to {}: {}", size(most), at_most(most));
    Some(if most < SMALL_BUFFER_BYTES {
        Verdict::warning(
            consequence,
            format!("set the third number of net.ipv4.{name} to 4194304 or more; unused buffers take no memory"),
        )
    } else {
        Verdict::ok(consequence)
    })
}

/// The rate that a window of this size allows.
pub(super) fn at_most(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(8) / 10_000; // of Mbit/s, at ten round trips a second
    format!("at most {}.{} Mbit/s at a round-trip time of 100 ms", tenths / 10, tenths % 10)
}

fn size(bytes: u64) -> String {
    let (unit, name) = if bytes < 1 << 20 { (1 << 10, "KiB") } else { (1 << 20, "MiB") };
    let tenths = bytes / unit * 10 + bytes % unit * 10 / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{assert_warns, judged},
        *,
    };

    fn told(id: &str, values: &[(&str, &str)], words: &str) {
        let check = judged(id, values);
        assert!(check.consequence.contains(words), "{check:?}");
    }

    #[test]
    fn warnings_come_at_their_thresholds() {
        assert_warns("net.core.somaxconn", &["511", "65535"], &["0", "128", "510"]);
        assert_warns("tcp_syncookies", &["1"], &["0", "2"]);
        assert_warns("tcp_abort_on_overflow", &["0"], &["1"]);
        assert_warns("ip_local_port_range", &["49152 65535", "1024 65535"], &["49153 65535", "40000 40000"]);
        assert_warns("tcp_max_tw_buckets", &["65536", "2000000"], &["65535", "0"]);
        assert_warns("tcp_max_orphans", &["65536"], &["65535", "0"]);
        assert_warns("tcp_mem", &["1 2 2097152"], &["8388608 8388608 8388608", "1 2 2097153"]);
        assert_warns("tcp_rmem", &["4096 131072 1048576"], &["4096 87380 1048575"]);
        assert_warns("tcp_wmem", &["4096 16384 1048576"], &["4096 16384 65536"]);
    }

    #[test]
    fn the_backlog_counts_where_cookies_are_off() {
        told("tcp_max_syn_backlog", &[("tcp_max_syn_backlog", "1")], "no effect");
        told("tcp_max_syn_backlog", &[("tcp_syncookies", "0")], "up to 768 half-open");
        let small = [("tcp_syncookies", "0"), ("tcp_max_syn_backlog", "127")];
        assert!(judged("tcp_max_syn_backlog", &small).remedy.is_some());
    }

    #[test]
    fn ports_are_counted_with_what_frees_them() {
        told("ip_local_port_range", &[], "28232 ports: at most 470 connections per second");
        told("ip_local_port_range", &[("ip_local_reserved_ports", "8080,32768-32777,60999-61010")], "28221 ports");
        told("ip_local_port_range", &[("tcp_tw_reuse", "1")], "28232 ports: a port in TIME_WAIT is reused after 1 s");
        told("ip_local_port_range", &[("tcp_tw_reuse", "1"), ("tcp_timestamps", "0")], "at most 470");
        for odd in ["2 1", "1 65536", "1", "1 2 3"] {
            assert_eq!(judged("ip_local_port_range", &[("ip_local_port_range", odd)]).consequence, "not understood");
        }
        for odd in ["x", "5-", "-", ",,", "9-1"] {
            assert_eq!(crate::model::namespace::reserved_ports(odd, 1, 65535), 0, "{odd}");
        }
    }

    #[test]
    fn without_the_size_of_the_table_only_zero_is_low() {
        let judge = |value| at_least_default(&Sysctls::of(&[("tcp_max_orphans", value)]), "tcp_max_orphans", "");
        assert!(judge("0").unwrap().remedy.is_some() && judge("1").unwrap().remedy.is_none());
    }

    #[test]
    fn sizes_and_what_they_let_through() {
        told("tcp_mem", &[], "pressure from 978.3 MiB, at most 1467.5 MiB");
        told("tcp_wmem", &[], "up to 4.0 MiB: at most 335.5 Mbit/s");
        told("tcp_wmem", &[("tcp_wmem", "4096 16384 65536")], "up to 64.0 KiB: at most 5.2 Mbit/s");
        assert_eq!((size(u64::MAX), size(0)), ("17592186044415.9 MiB".to_owned(), "0.0 KiB".to_owned()));
        assert_eq!(at_most(65_535), "at most 5.2 Mbit/s at a round-trip time of 100 ms");
    }
}
