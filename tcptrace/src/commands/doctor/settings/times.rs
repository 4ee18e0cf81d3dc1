//! Settings that decide on times.

use super::{
    super::timers::{RTO_MAX_MS, connect_ms, data_ms, synack_ms, words},
    Setting,
};
use crate::commands::doctor::{check::Verdict, sysctl::Sysctls};

/// How long a NAT must remember an idle connection (RFC 5382 REQ-5: 2 h 4 min), in s.
const NAT_S: u64 = 7440;
/// Shortest time to retransmit data before a connection is given up (RFC 1122 section 4.2.3.5), in ms.
const RFC1122_MS: u64 = 100_000;
/// A common short outage, such as a route change or a rebooting switch, in ms.
const SHORT_OUTAGE_MS: u64 = 3000;
/// The number of retries that 0 stands for (`net/ipv4/tcp_timer.c`, `tcp_orphan_retries`).
const ORPHAN_RETRIES: u64 = 8;
/// Keeping half-open requests longer than this makes a SYN flood cheap, in ms. The default is 63 s.
const LONG_HALF_OPEN_MS: u64 = 300_000;

fn rto_max_ms(sysctls: &Sysctls) -> u64 {
    sysctls.number("tcp_rto_max_ms").unwrap_or(RTO_MAX_MS).min(RTO_MAX_MS)
}

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        id: "tcp_keepalive",
        shown: &["tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes"],
        meaning: "for sockets with SO_KEEPALIVE: idle time in s before the first probe, time between probes in s, and the \
                  number of unanswered probes that ends the connection",
        source: "net/ipv4/tcp_timer.c, tcp_keepalive_timer",
        judge: keepalive,
    },
    Setting {
        id: "tcp_fin_timeout",
        shown: &["tcp_fin_timeout"],
        meaning: "time in s that a connection stays in FIN_WAIT2 after its program closed it, if the peer does not close; \
                  it does not affect TIME_WAIT",
        source: "net/ipv4/tcp.c, __tcp_close; include/net/tcp.h, tcp_fin_time, TCP_TIMEWAIT_LEN",
        judge: fin_timeout,
    },
    Setting {
        id: "tcp_retries1",
        shown: &["tcp_retries1"],
        meaning: "number of unanswered retransmits after which the kernel looks up the route again",
        source: "net/ipv4/tcp_timer.c, tcp_write_timeout",
        judge: |sysctls| {
            let after = words(data_ms(sysctls.number("tcp_retries1")?, rto_max_ms(sysctls)));
            Some(Verdict::ok(format!("the route to a silent peer is looked up again after {after}")))
        },
    },
    Setting {
        id: "tcp_retries2",
        shown: &["tcp_retries2"],
        meaning: "number of unanswered retransmits after which a connection fails (ETIMEDOUT)",
        source: "net/ipv4/tcp_timer.c, retransmits_timed_out, tcp_model_timeout; RFC 1122 section 4.2.3.5",
        judge: retries2,
    },
    Setting {
        id: "tcp_orphan_retries",
        shown: &["tcp_orphan_retries"],
        meaning: "number of unanswered retransmits of a connection that its program has closed; 0 means 8",
        source: "net/ipv4/tcp_timer.c, tcp_orphan_retries",
        judge: orphan_retries,
    },
    Setting {
        id: "tcp_syn_retries",
        shown: &["tcp_syn_retries"],
        meaning: "how often an unanswered SYN is retransmitted; since 6.5 plus tcp_syn_linear_timeouts",
        source: "net/ipv4/tcp_timer.c, tcp_write_timeout, tcp_retransmit_timer",
        judge: |sysctls| {
            let linear = sysctls.number("tcp_syn_linear_timeouts").unwrap_or(0);
            let after = words(connect_ms(sysctls.number("tcp_syn_retries")?, linear, rto_max_ms(sysctls)));
            Some(Verdict::ok(format!("connect() to a silent host fails after {after} (ETIMEDOUT)")))
        },
    },
    Setting {
        id: "tcp_synack_retries",
        shown: &["tcp_synack_retries"],
        meaning: "how often an unanswered SYN-ACK is retransmitted",
        source: "net/ipv4/inet_connection_sock.c, reqsk_timer_handler",
        judge: synack_retries,
    },
];

fn keepalive(sysctls: &Sysctls) -> Option<Verdict> {
    let seconds = |name| sysctls.number(name).map(|seconds| seconds.min(u32::MAX.into()));
    let time = seconds("tcp_keepalive_time")?;
    let (intvl, probes) = (seconds("tcp_keepalive_intvl")?, seconds("tcp_keepalive_probes")?);
    let noticed = words(intvl.saturating_mul(probes).saturating_add(time).saturating_mul(1000));
    Some(if probes < 2 {
        Verdict::warning(
            format!("a single lost probe ends a healthy idle connection, after {noticed}"),
            "set net.ipv4.tcp_keepalive_probes to 3 or more",
        )
    } else if time > NAT_S {
        Verdict::warning(
            format!(
                "a dead peer is noticed after {noticed}; a NAT may forget an idle connection before the first probe"
            ),
            "set net.ipv4.tcp_keepalive_time to 7200 or less: RFC 5382 lets NATs forget after 2 h 4 min",
        )
    } else {
        Verdict::ok(format!(
            "a dead peer is noticed after {noticed} if the program sets SO_KEEPALIVE, otherwise only when data is sent"
        ))
    })
}

fn fin_timeout(sysctls: &Sysctls) -> Option<Verdict> {
    let seconds = sysctls.number("tcp_fin_timeout")?;
    let time = words(seconds.saturating_mul(1000));
    Some(if seconds > 60 {
        Verdict::warning(
            format!(
                "a connection that only this side closed is dropped after {time}; beyond 60 s it stays a full socket, \
                 which counts as an orphan"
            ),
            "set net.ipv4.tcp_fin_timeout to 60 or less",
        )
    } else {
        Verdict::ok(format!("a connection that only this side closed is dropped after {time}; TIME_WAIT stays 1 min"))
    })
}

fn retries2(sysctls: &Sysctls) -> Option<Verdict> {
    let limit = data_ms(sysctls.number("tcp_retries2")?, rto_max_ms(sysctls));
    let consequence = format!(
        "if a peer does not acknowledge data, the connection fails {} after the first retransmit or later",
        words(limit)
    );
    Some(if limit < RFC1122_MS {
        Verdict::warning(
            format!("{consequence}: connections do not survive an outage of that length"),
            "set net.ipv4.tcp_retries2 to 8 or more (RFC 1122 asks for 100 s), and use TCP_USER_TIMEOUT in programs that \
             need a shorter time",
        )
    } else {
        Verdict::ok(consequence)
    })
}

fn orphan_retries(sysctls: &Sysctls) -> Option<Verdict> {
    let retries = sysctls.number("tcp_orphan_retries")?;
    let effective = if retries == 0 { ORPHAN_RETRIES } else { retries };
    let limit = data_ms(effective, rto_max_ms(sysctls));
    let consequence = format!("unsent data of a closed connection is given up after {}", words(limit));
    Some(if limit < SHORT_OUTAGE_MS {
        Verdict::warning(
            format!("{consequence}: a short outage loses the end of the data"),
            "set net.ipv4.tcp_orphan_retries to 0 (which means 8) or to 3 or more",
        )
    } else {
        Verdict::ok(consequence)
    })
}

fn synack_retries(sysctls: &Sysctls) -> Option<Verdict> {
    let retries = sysctls.number("tcp_synack_retries")?;
    let limit = synack_ms(retries);
    let consequence = format!("a half-open connection is dropped after {}", words(limit));
    Some(if retries == 0 {
        Verdict::warning(
            format!("{consequence}: clients whose ACK takes longer cannot connect"),
            "set net.ipv4.tcp_synack_retries to 2 or more",
        )
    } else if limit > LONG_HALF_OPEN_MS {
        Verdict::warning(
            format!("{consequence}, and takes a place in its listener's queue until then"),
            "set net.ipv4.tcp_synack_retries to 5",
        )
    } else {
        Verdict::ok(consequence)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_warns, judged};

    #[test]
    fn times_are_those_of_the_kernel() {
        let told = |id: &str, values: &[(&str, &str)], words: &str| {
            let check = judged(id, values);
            assert!(check.consequence.contains(words), "{check:?}");
        };
        told("tcp_keepalive", &[], "after 2 h 11 min 15 s");
        told("tcp_keepalive", &[("tcp_keepalive_time", "60"), ("tcp_keepalive_intvl", "10")], "after 2 min 30 s");
        told("tcp_fin_timeout", &[("tcp_fin_timeout", "15")], "dropped after 15 s; TIME_WAIT stays 1 min");
        told("tcp_retries1", &[], "after 3 s");
        told("tcp_retries2", &[], "fails 15 min 24 s after");
        told("tcp_retries2", &[("tcp_rto_max_ms", "1000")], "fails 14.4 s after");
        told("tcp_orphan_retries", &[], "after 1 min 42 s");
        told("tcp_orphan_retries", &[("tcp_orphan_retries", "7")], "after 51 s");
        told("tcp_syn_retries", &[], "after 2 min 11 s");
        told("tcp_syn_retries", &[("tcp_syn_linear_timeouts", "0")], "after 2 min 7 s");
        told("tcp_synack_retries", &[], "after 1 min 3 s");
        assert_eq!(judged("tcp_keepalive", &[]).value.unwrap(), "time 7200, intvl 75, probes 9");
    }

    #[test]
    fn warnings_come_at_their_thresholds() {
        assert_warns("tcp_fin_timeout", &["0", "60"], &["61"]);
        assert_warns("tcp_retries2", &["8", "15"], &["0", "7"]);
        assert_warns("tcp_orphan_retries", &["0", "3"], &["1", "2"]);
        assert_warns("tcp_synack_retries", &["1", "7"], &["0", "8"]);
        let warns = |name, value| judged("tcp_keepalive", &[(name, value)]).remedy.is_some();
        assert!(!warns("tcp_keepalive_probes", "2") && warns("tcp_keepalive_probes", "1"));
        assert!(!warns("tcp_keepalive_time", "7440") && warns("tcp_keepalive_time", "7441"));
    }
}
