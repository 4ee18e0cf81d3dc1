//! Parses the kernel's counters of a network namespace from the files in `/proc/PID/net`.

use std::str::Split;

use serde::{Deserialize, Serialize};

macro_rules! values {
    ($(#[$meta:meta])* $name:ident: $($variant:ident = $field:literal ($protocol:literal $kernel:literal),)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names say it, and docs/json.md")]
        pub enum $name {
            $($variant),*
        }

        impl $name {
            /// All variants.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The name in machine-readable outputs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $field),*
                }
            }

            /// Finds a variant by the first word of the line and the kernel's name.
            fn find(protocol: &str, kernel: &str) -> Option<Self> {
                match (protocol, kernel) {
                    $(($protocol, $kernel) => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

values! {
    /// Counters of a namespace, which only grow: `Tcp` of `snmp` and `TcpExt` of `netstat` (`net/ipv4/proc.c`,
    /// `snmp4_tcp_list` and `snmp4_net_list`). They include both IPv4 and IPv6.
    Counter:
    ActiveOpens = "active_opens" ("Tcp" "ActiveOpens"),
    PassiveOpens = "passive_opens" ("Tcp" "PassiveOpens"),
    AttemptFails = "attempt_fails" ("Tcp" "AttemptFails"),
    EstabResets = "estab_resets" ("Tcp" "EstabResets"),
    OutRsts = "out_rsts" ("Tcp" "OutRsts"),
    InSegs = "in_segs" ("Tcp" "InSegs"),
    OutSegs = "out_segs" ("Tcp" "OutSegs"),
    RetransSegs = "retrans_segs" ("Tcp" "RetransSegs"),
    SynRetrans = "syn_retrans" ("TcpExt" "TCPSynRetrans"),
    Timeouts = "timeouts" ("TcpExt" "TCPTimeouts"),
    InErrs = "in_errs" ("Tcp" "InErrs"),
    InCsumErrors = "in_csum_errors" ("Tcp" "InCsumErrors"),
    ListenOverflows = "listen_overflows" ("TcpExt" "ListenOverflows"),
    ListenDrops = "listen_drops" ("TcpExt" "ListenDrops"),
    SynCookiesSent = "syncookies_sent" ("TcpExt" "SyncookiesSent"),
    SynCookiesReceived = "syncookies_recv" ("TcpExt" "SyncookiesRecv"),
    AbortsOnTimeout = "aborts_on_timeout" ("TcpExt" "TCPAbortOnTimeout"),
    AbortsOnMemory = "aborts_on_memory" ("TcpExt" "TCPAbortOnMemory"),
    TimeWaitOverflows = "time_wait_overflows" ("TcpExt" "TCPTimeWaitOverflow"),
    TimeWaits = "time_waits" ("TcpExt" "TW"),
}

values! {
    /// Current numbers: `CurrEstab` of `snmp`, which counts ESTABLISHED and CLOSE_WAIT (`net/ipv4/tcp.c`, `tcp_set_state`; only
    /// ESTABLISHED before 6.10 and in stable kernels before it), and `sockstat` and `sockstat6` (`net/ipv4/proc.c`,
    /// `sockstat_seq_show`; `net/ipv6/proc.c`).
    Gauge:
    CurrEstab = "curr_estab" ("Tcp" "CurrEstab"),
    TimeWait = "time_wait" ("TCP" "tw"),
    InUseIpv4 = "in_use_ipv4" ("TCP" "inuse"),
    InUseIpv6 = "in_use_ipv6" ("TCP6" "inuse"),
    HostOrphans = "host_orphans" ("TCP" "orphan"),
    HostSockets = "host_sockets" ("TCP" "alloc"),
    HostMemoryPages = "host_memory_pages" ("TCP" "mem"),
}

impl Gauge {
    /// True if the number is for the whole host, whichever namespace it is read in. `sockstat_seq_show` prints the global
    /// `tcp_orphan_count`, `tcp_sockets_allocated` and `tcp_memory_allocated`; `inuse` (`sock_prot_inuse_get`) and `tw`
    /// (`net->ipv4.tcp_death_row`) belong to the namespace.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::HostOrphans | Self::HostSockets | Self::HostMemoryPages)
    }
}

/// The values of one namespace; `None` for those that the kernel does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// By [`Counter`].
    pub counters: [Option<u64>; Counter::ALL.len()],
    /// By [`Gauge`].
    pub gauges: [Option<u64>; Gauge::ALL.len()],
}

impl Reading {
    /// Parses the text of one of the files. A last line without a line break was cut off and is ignored.
    pub fn take_in(&mut self, text: &str) {
        let mut heading: Option<(&str, Split<'_, char>)> = None;
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some((protocol, rest)) = line.split_once(": ") else { continue };
            let words = rest.split(' ');
            if matches!(protocol, "TCP" | "TCP6") {
                // Pairs of name and value.
                let words: Vec<_> = words.collect();
                words.chunks_exact(2).for_each(|pair| self.set(protocol, pair[0], pair[1]));
                continue;
            }
            // A line of names, followed by a line of values.
            heading = match heading.take() {
                Some((above, names)) if above == protocol => {
                    if names.clone().count() == words.clone().count() {
                        names.zip(words).for_each(|(name, value)| self.set(protocol, name, value));
                    }
                    None
                }
                _ => Some((protocol, words)),
            };
        }
    }

    fn set(&mut self, protocol: &str, name: &str, value: &str) {
        let value = value.parse().ok();
        if let Some(counter) = Counter::find(protocol, name) {
            self.counters[counter as usize] = value;
        } else if let Some(gauge) = Gauge::find(protocol, name) {
            // A sum over CPUs may briefly be below 0, but is printed unsigned.
            self.gauges[gauge as usize] = value.filter(|value| i64::try_from(*value).is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Reading {
        let mut reading = Reading::default();
        reading.take_in(text);
        reading
    }

    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoAlgorithm MaxConn ActiveOpens CurrEstab OutRsts\n\
        Tcp: 1 -1 427262 3 98\nUdp: InDatagrams\nUdp: 4\n";
    const SOCKSTAT: &str = "sockets: used 17\nTCP: inuse 11 orphan 5 tw 3 alloc 15 mem 53\nUDP: inuse 0 mem 0\n";

    fn counter(reading: &Reading, counter: Counter) -> Option<u64> {
        reading.counters[counter as usize]
    }

    fn gauge(reading: &Reading, gauge: Gauge) -> Option<u64> {
        reading.gauges[gauge as usize]
    }

    #[test]
    fn files_add_to_one_reading() {
        let mut reading = read(SNMP);
        reading.take_in("TcpExt: SyncookiesSent TW\nTcpExt: 2 7\nIpExt: TW\nIpExt: 9\n");
        reading.take_in(SOCKSTAT);
        reading.take_in("TCP6: inuse 2\n");
        let counters = [Counter::ActiveOpens, Counter::OutRsts, Counter::SynCookiesSent, Counter::TimeWaits];
        assert_eq!(counters.map(|which| counter(&reading, which)), [427_262, 98, 2, 7].map(Some));
        assert_eq!(Gauge::ALL.map(|which| gauge(&reading, which)), [3, 3, 11, 2, 5, 15, 53].map(Some));
    }

    #[test]
    fn what_a_kernel_lacks_is_unknown() {
        let reading = read(SNMP);
        assert_eq!(counter(&reading, Counter::InCsumErrors), None);
        assert_eq!(counter(&reading, Counter::ListenDrops), None);
        assert_eq!(gauge(&reading, Gauge::InUseIpv6), None);
        assert_eq!(read(""), Reading::default());
    }

    #[test]
    fn a_cut_line_is_not_believed() {
        let cut = SNMP.find(" 98").unwrap() + 2; // 9 of 98
        assert_eq!(read(&SNMP[..cut]), Reading::default());
        assert_eq!(read(&SOCKSTAT[..SOCKSTAT.find(" mem 53").unwrap() + 6]), Reading::default());
    }

    #[test]
    fn lines_that_do_not_fit_together_are_passed_over() {
        for text in [
            "Tcp: ActiveOpens OutRsts\nTcp: 1\n",
            "Tcp: ActiveOpens\nTcp: 1 2\n",
            "Tcp: ActiveOpens\nUdp: 1\nTcp: 1\n",
            "Tcp: ActiveOpens\nTcp: -1\n",
            "Tcp: ActiveOpens\nTcp: 18446744073709551616\n",
            "Tcp: ActiveOpens\nTcp: x\n",
            "TCP: tw\nTCP: tw x\nTCP:\n: \n\n",
        ] {
            assert_eq!(read(text), Reading::default(), "{text:?}");
        }
    }

    #[test]
    fn a_gauge_below_zero_is_unknown() {
        let reading = read("Tcp: CurrEstab ActiveOpens\nTcp: 18446744073709551615 18446744073709551615\n");
        assert_eq!(
            (gauge(&reading, Gauge::CurrEstab), counter(&reading, Counter::ActiveOpens)),
            (None, Some(u64::MAX))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), words in "(Tcp(Ext)?: ([A-Z]{2}|[0-9]{1,22}| ){0,9}\n?){0,6}") {
            read(&text);
            read(&words);
        }
    }
}
