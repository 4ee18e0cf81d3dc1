//! Too much of something.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "syn-flood",
        about: "clients whose third ACK never comes",
        setup: "server> listen L 127.0.0.1:7000 64
                near! tcp dport 7000 tcp flags & syn != syn drop",
        trouble: "flooder> connect C*40 127.0.0.1:7000
                  flooder> vanish C*40
                  near? SYN_RECV == 40",
        stays_ms: 0,
        cure: "server> close L",
        findings: &[Expected::new(
            "syn-flood",
            "server",
            3000,
            &[
                "half_open == 40",
                "synack_retransmitted >= 1",
                "syn_cookies_sent == 0",
                "backlog == 64",
                "max_syn_backlog > 0",
                "local_port == 7000",
            ],
        )],
    },
    Scenario {
        name: "syn-flood-raw",
        about: "SYNs from an address that never answers",
        setup: "server> listen L 127.0.0.1:7000 64
                near! ip daddr 127.0.9.9 drop",
        trouble: "flooder> syns 127.0.9.9 to 127.0.0.1:7000 times 40
                  near? SYN_RECV == 40",
        stays_ms: 0,
        cure: "server> close L",
        findings: &[Expected::new(
            "syn-flood",
            "server",
            3000,
            &["half_open == 40", "syn_cookies_sent == 0", "backlog == 64", "local_port == 7000"],
        )],
    },
    Scenario {
        name: "syn-flood-cookies",
        about: "more SYNs than the backlog has room for: the kernel answers with SYN cookies",
        setup: "near$ sysctl -qw net.ipv4.tcp_syncookies=1
                server> listen L 127.0.0.1:7000 8
                near! ip daddr 127.0.9.9 drop",
        trouble: "flooder> flood 127.0.9.9 to 127.0.0.1:7000 times 60
                  near? TcpExtSyncookiesSent >= 40
                  near? SYN_RECV >= 8",
        stays_ms: 0,
        cure: "flooder! SIGKILL
               server> close L",
        findings: &[Expected::new(
            "syn-flood",
            "server",
            3000,
            &["half_open >= 8", "syn_cookies_sent >= 40", "backlog == 8"],
        )],
    },
    Scenario {
        name: "accept-queue-full",
        about: "a server does not accept: clients believe that they are connected, others get no answer",
        setup: "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
                slow-server> listen L 127.0.0.1:7000 1",
        trouble: "client> connect C*2 127.0.0.1:7000
                  client> begin D*4 127.0.0.1:7000
                  near? SYN_SENT == 4
                  near? TcpExtListenOverflows >= 4",
        // The unanswered SYNs are part of it, and no finding of their own.
        stays_ms: 3200,
        cure: "client> close D*4
               client> close C*2
               slow-server> accept S*2 L
               slow-server> close S*2",
        findings: &[Expected::new(
            "accept-queue-full",
            "slow-server",
            2000,
            &["queue == 2", "limit == 1", "listen_overflows >= 4", "somaxconn > 1", "local_port == 7000"],
        )],
    },
    Scenario {
        name: "time-wait-pressure",
        about: "short connections to one destination: their ports stay in TIME_WAIT",
        // On loopback they would be used again; and where an ACK comes late, a RST would end them (RFC 1337).
        setup: "near$ sysctl -qw net.ipv4.ip_local_port_range='20000 20099' net.ipv4.tcp_tw_reuse=0
                near$ sysctl -qw net.ipv4.tcp_rfc1337=1
                server> listen L 127.0.0.1:7000",
        trouble: "client> connect C*60 127.0.0.1:7000
                  server> accept S*60 L
                  client> close C*60
                  server> eof S*60
                  server> close S*60
                  near? TIME_WAIT == 60",
        stays_ms: 0,
        cure: "near$ ss -K state time-wait",
        findings: &[Expected::new(
            "time-wait-pressure",
            "client",
            2000,
            &[
                "ports == 60",
                "share == 0.6",
                "remote_port == 7000",
                "max_tw_buckets > 0",
                "tw_reuse == 0",
                "severity == warning",
            ],
        )],
    },
    Scenario {
        name: "retransmit-storm",
        about: "a path that loses every fourth packet",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                near! tcp dport 7000 numgen inc mod 4 0 drop",
        trouble: "client> trickle C 150 10ms
                  near? TcpRetransSegs >= 12",
        stays_ms: 0,
        cure: "near! flush
               server> read S 150
               client> close C
               server> eof S
               server> close S",
        findings: &[Expected::new(
            "retransmit-storm",
            "client",
            2000,
            &["retransmits >= 12", "srtt_us > 0", "state == ESTABLISHED", "total_retrans >= 12"],
        )],
    },
    Scenario {
        name: "foreign-listener",
        about: "a listener that nobody expected (IPv6, all addresses)",
        setup: "server> listen L 127.0.0.1:7000",
        trouble: "intruder> listen L [::]:6666
                  near? LISTEN == 2",
        stays_ms: 0,
        cure: "intruder> close L",
        findings: &[Expected::new(
            "foreign-listener",
            "intruder",
            1000,
            &["address != null", "owner.executable != null", "local_port == 6666"],
        )],
    },
];
