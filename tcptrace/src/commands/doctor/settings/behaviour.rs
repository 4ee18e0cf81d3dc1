//! Settings that are on or off.

use super::{super::timers::words, Setting, limits::at_most};
use crate::commands::doctor::{check::Verdict, sysctl::Sysctls};

/// The setting that Linux 4.12 removed.
pub(super) const TW_RECYCLE: &str = "tcp_tw_recycle";

/// The largest window without scaling (RFC 7323 section 2.2), in bytes.
const UNSCALED_WINDOW: u64 = 65_535;

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        id: "tcp_tw_reuse",
        shown: &["tcp_tw_reuse"],
        meaning: "whether connect() may reuse a port in TIME_WAIT: 0 no, 1 yes, 2 on loopback only (the default since 4.19)",
        source: "net/ipv4/tcp_ipv4.c, tcp_twsk_unique",
        judge: tw_reuse,
    },
    Setting {
        id: TW_RECYCLE,
        shown: &[TW_RECYCLE],
        meaning: "shortened TIME_WAIT by the clock of the peer's host; removed in Linux 4.12",
        source: "commit 4396e46187ca, tcp: remove tcp_tw_recycle",
        judge: |sysctls| {
            Some(match sysctls.number(TW_RECYCLE)? {
                0 => Verdict::ok("off, as it must be"),
                _ => Verdict::warning(
                    "if several clients are behind one NAT, only some of them can connect",
                    "set net.ipv4.tcp_tw_recycle=0",
                ),
            })
        },
    },
    Setting {
        id: "tcp_rfc1337",
        shown: &["tcp_rfc1337"],
        meaning: "whether TIME_WAIT ignores a RST: 0 no, 1 yes",
        source: "net/ipv4/tcp_minisocks.c, tcp_timewait_state_process",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_rfc1337")? {
                0 => "an acceptable RST ends TIME_WAIT early (RFC 1337)",
                _ => "TIME_WAIT lasts 1 min even if a RST comes",
            }))
        },
    },
    Setting {
        id: "tcp_timestamps",
        shown: &["tcp_timestamps"],
        meaning: "timestamps (RFC 7323): 0 off, 1 on, 2 on without a random offset",
        source: "net/ipv4/tcp_output.c, tcp_syn_options; net/ipv4/syncookies.c, cookie_timestamp_decode",
        judge: |sysctls| {
            Some(match sysctls.number("tcp_timestamps")? {
                0 => Verdict::warning(
                    "no protection against old segments (PAWS); tcp_tw_reuse has no effect, and connections made with SYN \
                     cookies have neither window scaling nor SACK",
                    "set net.ipv4.tcp_timestamps=1",
                ),
                _ => Verdict::ok("every segment gives a round-trip time, and old segments are rejected (PAWS)"),
            })
        },
    },
    Setting {
        id: "tcp_sack",
        shown: &["tcp_sack"],
        meaning: "selective acknowledgments (RFC 2018)",
        source: "net/ipv4/tcp_output.c, tcp_syn_options; net/ipv4/tcp_input.c, tcp_sacktag_write_queue",
        judge: |sysctls| {
            Some(match sysctls.number("tcp_sack")? {
                0 => Verdict::warning(
                    "each of several losses in one window takes a round trip or a timeout to repair",
                    "set net.ipv4.tcp_sack=1",
                ),
                _ => Verdict::ok("only lost segments are retransmitted"),
            })
        },
    },
    Setting {
        id: "tcp_window_scaling",
        shown: &["tcp_window_scaling"],
        meaning: "windows larger than 64 KiB (RFC 7323)",
        source: "net/ipv4/tcp_output.c, tcp_syn_options, tcp_select_initial_window",
        judge: |sysctls| {
            Some(match sysctls.number("tcp_window_scaling")? {
                0 => Verdict::warning(
                    format!("windows of at most 64 KiB: {}", at_most(UNSCALED_WINDOW)),
                    "set net.ipv4.tcp_window_scaling=1",
                ),
                _ => Verdict::ok("windows can be as large as the buffers"),
            })
        },
    },
    Setting {
        id: "tcp_moderate_rcvbuf",
        shown: &["tcp_moderate_rcvbuf"],
        meaning: "whether receive buffers grow as the path needs",
        source: "net/ipv4/tcp_input.c, tcp_rcv_space_adjust",
        judge: |sysctls| {
            let [_, first, _] = sysctls.numbers("tcp_rmem")?;
            Some(match sysctls.number("tcp_moderate_rcvbuf")? {
                0 => Verdict::warning(
                    format!("receive buffers stay at their initial size: {}", at_most(first)),
                    "set net.ipv4.tcp_moderate_rcvbuf=1",
                ),
                _ => Verdict::ok("receive buffers grow up to the third number of tcp_rmem"),
            })
        },
    },
    Setting {
        id: "tcp_slow_start_after_idle",
        shown: &["tcp_slow_start_after_idle"],
        meaning: "whether the congestion window shrinks while a connection is idle (RFC 2861)",
        source: "net/ipv4/tcp_output.c, tcp_cwnd_restart",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_slow_start_after_idle")? {
                0 => "a connection that was idle continues at its old speed",
                _ => "a connection that was idle for longer than its RTO starts slowly again",
            }))
        },
    },
    Setting {
        id: "tcp_no_metrics_save",
        shown: &["tcp_no_metrics_save"],
        meaning: "whether path metrics are discarded when a connection ends: 0 no, 1 yes",
        source: "net/ipv4/tcp_metrics.c, tcp_update_metrics",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_no_metrics_save")? {
                0 => "a new connection starts with the round-trip time of earlier ones to the same host",
                _ => "each connection measures its path anew",
            }))
        },
    },
    Setting {
        id: "tcp_mtu_probing",
        shown: &["tcp_mtu_probing"],
        meaning: "whether the largest segment size is found by probing (RFC 4821): 0 no, 1 if large ones get lost, 2 always",
        source: "net/ipv4/tcp_timer.c, tcp_mtu_probing",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_mtu_probing")? {
                0 => "if a firewall drops ICMP, connections may hang at their first large segment",
                _ => "connections work even if a firewall drops ICMP",
            }))
        },
    },
    Setting {
        id: "tcp_congestion_control",
        shown: &["tcp_congestion_control"],
        meaning: "congestion control of new connections",
        source: "net/ipv4/tcp_cong.c, tcp_assign_congestion_control",
        judge: |sysctls| {
            let name = sysctls.text("tcp_congestion_control")?;
            Some(Verdict::ok(format!("connections use {name} unless their program or route chooses another")))
        },
    },
];

fn tw_reuse(sysctls: &Sysctls) -> Option<Verdict> {
    let reuse = sysctls.number("tcp_tw_reuse")?;
    if reuse == 1 && sysctls.number("tcp_timestamps") == Some(0) {
        return Some(Verdict::warning(
            "no effect: it needs timestamps, which are off",
            "set net.ipv4.tcp_timestamps=1",
        ));
    }
    let delay = words(sysctls.number("tcp_tw_reuse_delay").unwrap_or(1000));
    Some(Verdict::ok(match reuse {
        0 => "connect() can reuse a port for the same destination after 1 min in TIME_WAIT".to_owned(),
        1 => format!("connect() can reuse a port in TIME_WAIT after {delay} if the peer also uses timestamps"),
        2 => format!("connect() can reuse a port in TIME_WAIT after {delay} over loopback, otherwise after 1 min"),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{DEFAULTS, assert_warns, judged},
        *,
    };
    use crate::commands::doctor::{check::Status, settings::checks};

    #[test]
    fn warnings_come_at_their_thresholds() {
        assert_warns("tcp_timestamps", &["1", "2"], &["0"]);
        for name in ["tcp_sack", "tcp_window_scaling", "tcp_moderate_rcvbuf"] {
            assert_warns(name, &["1"], &["0"]);
        }
        for name in ["tcp_rfc1337", "tcp_slow_start_after_idle", "tcp_no_metrics_save"] {
            assert_warns(name, &["0", "1"], &[]);
        }
        assert_warns("tcp_tw_reuse", &["0", "1", "2"], &[]);
        assert_warns(TW_RECYCLE, &["0"], &["1"]);
    }

    #[test]
    fn reuse_needs_timestamps() {
        let off = judged("tcp_tw_reuse", &[("tcp_tw_reuse", "1"), ("tcp_timestamps", "0")]);
        assert_eq!(off.status, Status::Warning);
        let delay = judged("tcp_tw_reuse", &[("tcp_tw_reuse_delay", "2500")]);
        assert!(delay.consequence.contains("after 2.5 s over loopback"), "{delay:?}");
    }

    #[test]
    fn what_was_removed_is_told_of_only_where_it_is() {
        assert!(checks(&Sysctls::of(DEFAULTS)).iter().all(|check| check.id != TW_RECYCLE));
    }
}
