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
        meaning: "may connect() take a port that waits in TIME_WAIT: 0 no, 1 yes, 2 over loopback only (the default since 4.19)",
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
                    "of several clients behind one NAT only some can connect",
                    "set net.ipv4.tcp_tw_recycle=0",
                ),
            })
        },
    },
    Setting {
        id: "tcp_rfc1337",
        shown: &["tcp_rfc1337"],
        meaning: "does TIME_WAIT withstand a RST: 0 no, 1 yes",
        source: "net/ipv4/tcp_minisocks.c, tcp_timewait_state_process",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_rfc1337")? {
                0 => "a RST that fits ends TIME_WAIT before its time (RFC 1337)",
                _ => "TIME_WAIT lasts its 1 min, also when a RST comes",
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
                    "no protection against old segments (PAWS); tcp_tw_reuse is without effect, and connections made with SYN \
                     cookies have neither window scaling nor SACK",
                    "set net.ipv4.tcp_timestamps=1",
                ),
                _ => Verdict::ok("round-trip times of all segments, and protection against old ones (PAWS)"),
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
                    "several losses in one window are repaired one round trip after the other, or by a timeout",
                    "set net.ipv4.tcp_sack=1",
                ),
                _ => Verdict::ok("only what was lost is sent again"),
            })
        },
    },
    Setting {
        id: "tcp_window_scaling",
        shown: &["tcp_window_scaling"],
        meaning: "windows of more than 64 KiB (RFC 7323)",
        source: "net/ipv4/tcp_output.c, tcp_syn_options, tcp_select_initial_window",
        judge: |sysctls| {
            Some(match sysctls.number("tcp_window_scaling")? {
                0 => Verdict::warning(
                    format!("windows of 64 KiB: {}", at_most(UNSCALED_WINDOW)),
                    "set net.ipv4.tcp_window_scaling=1",
                ),
                _ => Verdict::ok("windows are as large as the buffers"),
            })
        },
    },
    Setting {
        id: "tcp_moderate_rcvbuf",
        shown: &["tcp_moderate_rcvbuf"],
        meaning: "do receive buffers grow by what the path needs",
        source: "net/ipv4/tcp_input.c, tcp_rcv_space_adjust",
        judge: |sysctls| {
            let [_, first, _] = sysctls.numbers("tcp_rmem")?;
            Some(match sysctls.number("tcp_moderate_rcvbuf")? {
                0 => Verdict::warning(
                    format!("receive buffers stay as they are at first: {}", at_most(first)),
                    "set net.ipv4.tcp_moderate_rcvbuf=1",
                ),
                _ => Verdict::ok("receive buffers grow up to tcp_rmem's third number"),
            })
        },
    },
    Setting {
        id: "tcp_slow_start_after_idle",
        shown: &["tcp_slow_start_after_idle"],
        meaning: "does the congestion window shrink while a connection is idle (RFC 2861)",
        source: "net/ipv4/tcp_output.c, tcp_cwnd_restart",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_slow_start_after_idle")? {
                0 => "a connection that was idle goes on at its old speed",
                _ => "a connection that was idle for longer than its RTO starts slowly again",
            }))
        },
    },
    Setting {
        id: "tcp_no_metrics_save",
        shown: &["tcp_no_metrics_save"],
        meaning: "is what was learnt of a path forgotten when a connection ends: 0 no, 1 yes",
        source: "net/ipv4/tcp_metrics.c, tcp_update_metrics",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_no_metrics_save")? {
                0 => "a new connection starts with the round-trip time that others to the same host had",
                _ => "each connection learns its path anew",
            }))
        },
    },
    Setting {
        id: "tcp_mtu_probing",
        shown: &["tcp_mtu_probing"],
        meaning: "is the largest segment found by trying (RFC 4821): 0 no, 1 where large ones get lost, 2 always",
        source: "net/ipv4/tcp_timer.c, tcp_mtu_probing",
        judge: |sysctls| {
            Some(Verdict::ok(match sysctls.number("tcp_mtu_probing")? {
                0 => "where a firewall drops ICMP, connections may stop at their first large segment",
                _ => "connections get on where a firewall drops ICMP",
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
            Some(Verdict::ok(format!("connections use {name} where their program or route does not choose another")))
        },
    },
];

fn tw_reuse(sysctls: &Sysctls) -> Option<Verdict> {
    let reuse = sysctls.number("tcp_tw_reuse")?;
    if reuse == 1 && sysctls.number("tcp_timestamps") == Some(0) {
        return Some(Verdict::warning(
            "without effect: it needs timestamps, which are off",
            "set net.ipv4.tcp_timestamps=1",
        ));
    }
    let delay = words(sysctls.number("tcp_tw_reuse_delay").unwrap_or(1000));
    Some(Verdict::ok(match reuse {
        0 => "a port that connect() took is free for the same destination after 1 min in TIME_WAIT".to_owned(),
        1 => format!("connect() takes a port in TIME_WAIT again after {delay} where the peer has timestamps too"),
        2 => format!("connect() takes a port in TIME_WAIT again after {delay} over loopback, else after 1 min"),
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
