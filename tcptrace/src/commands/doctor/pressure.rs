//! How close TCP is to its limits now.

use crate::{
    cli::args::Area,
    commands::doctor::{
        check::{Check, Subject, Verdict},
        sysctl::Sysctls,
    },
};

/// Percentage of a limit from which it is near.
const NEAR_PERCENT: u64 = 80;

const SOURCE: &str = "net/ipv4/proc.c, sockstat_seq_show";

/// Compares `/proc/net/sockstat` with the limits in force.
pub(super) fn checks(sockstat: &str, sysctls: &Sysctls) -> Vec<Check> {
    let count = |name| count(sockstat, name);
    let pages = sysctls.numbers("tcp_mem").map(|[_, pressure, _]| pressure);
    let subject = |id, meaning| Subject { id, area: Area::Pressure, meaning, source: SOURCE };
    [
        judge(
            subject("time_wait", "connections of this network namespace in TIME_WAIT or, as orphans, in FIN_WAIT2"),
            count("tw"),
            ("tcp_max_tw_buckets", sysctls.number("tcp_max_tw_buckets")),
            "connections close without TIME_WAIT",
            "let clients keep connections open, or raise net.ipv4.tcp_max_tw_buckets; `tcptrace sockets -s TIME_WAIT --by \
             remote` shows the destinations",
        ),
        judge(
            subject("orphans", "connections on the whole host that no program holds any more but that have not ended"),
            count("orphan"),
            ("tcp_max_orphans", sysctls.number("tcp_max_orphans")),
            "connections are reset when they are closed",
            "find out why peers do not close or answer: `tcptrace sockets -s FIN_WAIT1,FIN_WAIT2,LAST_ACK`; or raise \
             net.ipv4.tcp_max_orphans",
        ),
        judge(
            subject("tcp_memory", "pages used by the buffers of all connections on the host"),
            count("mem"),
            ("the second number of tcp_mem", pages),
            "buffers shrink, and connections slow down",
            "find connections whose queues are full: `tcptrace sockets` shows RECV-Q and SEND-Q",
        ),
    ]
    .into()
}

/// A number in the line `TCP:`.
fn count(sockstat: &str, name: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

fn judge(subject: Subject, count: Option<u64>, (name, limit): (&str, Option<u64>), then: &str, remedy: &str) -> Check {
    let value = count.map(|count| count.to_string());
    let verdict = match (count, limit) {
        (None, _) => Verdict::unknown("not in /proc/net/sockstat"),
        (Some(_), None) => Verdict::unknown(format!("{name} is not known here")),
        (Some(count), Some(limit)) => {
            let percent = count.saturating_mul(100) / limit.max(1);
            let share = format!("{percent} % of {name} ({limit})");
            if count >= limit.max(1) {
                Verdict::failed(format!("{share}: {then}"), remedy)
            } else if percent >= NEAR_PERCENT {
                Verdict::warning(format!("{share}; at the limit, {then}"), remedy)
            } else {
                Verdict::ok(share)
            }
        }
    };
    subject.check(subject.id, value, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Status;

    fn limits() -> Sysctls {
        Sysctls::of(&[("tcp_max_tw_buckets", "1000"), ("tcp_max_orphans", "100"), ("tcp_mem", "1 10 20")])
    }

    fn statuses(line: &str, sysctls: &Sysctls) -> Vec<Status> {
        let sockstat = format!("sockets: used 3\n{line}\nUDP: inuse 1 mem 0\n");
        checks(&sockstat, sysctls).iter().map(|check| check.status).collect()
    }

    #[test]
    fn shares_of_the_limits() {
        use Status::{Failed, Ok, Unknown, Warning};
        assert_eq!(statuses("TCP: inuse 1 orphan 79 tw 799 alloc 1 mem 7", &limits()), [Ok; 3]);
        assert_eq!(statuses("TCP: inuse 1 orphan 80 tw 800 alloc 1 mem 8", &limits()), [Warning; 3]);
        assert_eq!(statuses("TCP: inuse 1 orphan 99 tw 999 alloc 1 mem 9", &limits()), [Warning; 3]);
        assert_eq!(statuses("TCP: inuse 1 orphan 100 tw 1000 alloc 1 mem 10", &limits()), [Failed; 3]);
        assert_eq!(
            statuses("TCP: orphan 0 tw 0 mem 0", &Sysctls::of(&[("tcp_max_orphans", "0")])),
            [Unknown, Ok, Unknown]
        );
        for odd in ["", "TCP:", "TCP: orphan", "TCP: orphan x tw -1 mem", "TCP6: tw 1 orphan 1 mem 1"] {
            assert_eq!(statuses(odd, &limits()), [Unknown; 3], "{odd}");
        }
        let most = u64::MAX;
        assert_eq!(statuses(&format!("TCP: orphan {most} tw {most} mem {most}"), &limits()), [Failed; 3]);
    }

    #[test]
    fn words_name_the_share_and_the_limit() {
        let check = &checks("TCP: tw 850", &limits())[0];
        assert_eq!(
            check.consequence,
            "85 % of tcp_max_tw_buckets (1000); at the limit, connections close without TIME_WAIT"
        );
        assert!(check.remedy.is_some());
    }
}
