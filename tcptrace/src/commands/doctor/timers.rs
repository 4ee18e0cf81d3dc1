//! How long the kernel's retries take. All times are in ms.

/// `TCP_TIMEWAIT_LEN` of `include/net/tcp.h`, which no setting changes.
pub(super) const TIME_WAIT_MS: u64 = 60_000;
/// `TCP_RTO_MIN`, with which the kernel turns a number of retries into a time.
const RTO_MIN_MS: u64 = 200;
/// `TCP_RTO_MAX`, which is also the default of `tcp_rto_max_ms` (6.15 and later).
pub(super) const RTO_MAX_MS: u64 = 120_000;
/// `TCP_TIMEOUT_INIT`: the first timeout of a SYN or SYN-ACK (RFC 6298 section 2).
const SYN_RTO_MS: u64 = 1000;
/// Most retries that a setting allows.
const MAX_RETRIES: u64 = 255;

/// The time that this many unanswered retransmissions take (`net/ipv4/tcp_timer.c`, `tcp_model_timeout`). The connection is
/// given up at the first timeout after that.
fn model_ms(retries: u64, rto_ms: u64, rto_max_ms: u64) -> u64 {
    let retries = retries.min(MAX_RETRIES);
    let doublings = u64::from((rto_max_ms / rto_ms).max(1).ilog2());
    let doubled = |times: u64| ((2 << times) - 1) * rto_ms;
    doubled(retries.min(doublings)) + retries.saturating_sub(doublings) * rto_max_ms
}

/// The time from the first retransmission of data until the kernel gives up after `retries`, as a lower bound
/// (`net/ipv4/tcp_timer.c`, `retransmits_timed_out`).
pub(super) fn data_ms(retries: u64, rto_max_ms: u64) -> u64 {
    model_ms(retries, RTO_MIN_MS, rto_max_ms)
}

/// The time until an unanswered connect(2) fails: after `linear` retransmissions with the first timeout (6.5 and later), and
/// `retries` with doubled timeouts (`net/ipv4/tcp_timer.c`, `tcp_write_timeout` and the end of `tcp_retransmit_timer`).
pub(super) fn connect_ms(retries: u64, linear: u64, rto_max_ms: u64) -> u64 {
    let (retries, linear) = (retries.min(MAX_RETRIES), linear.min(MAX_RETRIES));
    let enough = model_ms(retries, SYN_RTO_MS, rto_max_ms);
    let (mut elapsed, mut rto) = (SYN_RTO_MS, SYN_RTO_MS);
    for sent_again in 1..=retries + linear {
        if sent_again > linear {
            rto = (rto * 2).min(rto_max_ms);
        }
        elapsed += rto;
        if elapsed >= enough {
            break;
        }
    }
    elapsed
}

/// How long an unanswered half-open request is kept (`net/ipv4/inet_connection_sock.c`,
/// `reqsk_timer_handler`).
pub(super) fn synack_ms(retries: u64) -> u64 {
    (0..=retries.min(MAX_RETRIES)).map(|sent| (SYN_RTO_MS << sent.min(7)).min(RTO_MAX_MS)).sum()
}

/// A time for people: in tenths of seconds below a minute, in whole seconds above.
pub(super) fn words(ms: u64) -> String {
    if ms < 60_000 {
        let tenths = ms / 100;
        let (seconds, tenth) = (tenths / 10, tenths % 10);
        return if tenth == 0 { format!("{seconds} s") } else { format!("{seconds}.{tenth} s") };
    }
    let seconds = ms / 1000;
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let words: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_given_up_as_the_kernels_documentation_says() {
        assert_eq!(data_ms(15, RTO_MAX_MS), 924_600); // Documentation/networking/ip-sysctl.rst, tcp_retries2
        assert_eq!(data_ms(8, RTO_MAX_MS), 102_200); // "at least 8" for RFC 1122's 100 s
        assert_eq!(data_ms(3, RTO_MAX_MS), 3000);
        assert_eq!(data_ms(0, RTO_MAX_MS), 200);
        assert_eq!(data_ms(15, 1000), (2 * 4 - 1) * 200 + 13 * 1000);
        assert!(data_ms(u64::MAX, RTO_MAX_MS) < 1 << 32);
        assert_eq!(data_ms(3, 1), 200 + 3, "a limit below the least timeout is no trouble");
    }

    #[test]
    fn connect_fails_as_the_kernels_documentation_says() {
        assert_eq!(connect_ms(6, 4, RTO_MAX_MS), 131_000); // Documentation/networking/ip-sysctl.rst, tcp_syn_retries
        assert_eq!(connect_ms(6, 0, RTO_MAX_MS), 127_000); // before 6.5
        assert_eq!(connect_ms(1, 0, RTO_MAX_MS), 3000);
        assert_eq!(connect_ms(1, 4, RTO_MAX_MS), 3000, "the time is enough before the retries are");
        assert_eq!(connect_ms(2, 4, RTO_MAX_MS), 7000);
        assert!(connect_ms(u64::MAX, u64::MAX, RTO_MAX_MS) < 1 << 32);
    }

    #[test]
    fn half_open_requests_go_as_the_kernels_documentation_says() {
        assert_eq!(synack_ms(5), 63_000); // Documentation/networking/ip-sysctl.rst, tcp_synack_retries
        assert_eq!(synack_ms(0), 1000);
        assert_eq!(synack_ms(8), 127_000 + 2 * 120_000);
    }

    #[test]
    fn times_are_written_for_people() {
        for (ms, words_of_it) in [
            (0, "0 s"),
            (600, "0.6 s"),
            (12_600, "12.6 s"),
            (60_000, "1 min"),
            (924_600, "15 min 24 s"),
            (7_875_000, "2 h 11 min 15 s"),
            (7_200_000, "2 h"),
        ] {
            assert_eq!(words(ms), words_of_it);
        }
    }
}
