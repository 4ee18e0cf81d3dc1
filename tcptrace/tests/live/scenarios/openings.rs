//! Connections that do not come to be.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "syn-sent-unanswered",
        about: "a SYN that is filtered",
        setup: "near! tcp dport 7000 tcp flags syn drop",
        trouble: "client> begin C 127.0.0.1:7000
                  near? SYN_SENT == 1",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[Expected::new(
            "syn-sent-unanswered",
            "client",
            3000,
            &[
                "syn_retransmits >= 1",
                "destinations == 1",
                "scan_like == false",
                "remote_port == 7000",
                "examples.*.state == SYN_SENT",
                "examples.*.holders.*.fd == @client.C",
            ],
        )],
    },
    Scenario {
        name: "syn-scan",
        about: "SYNs to many addresses from one process, none answered",
        setup: "near! ip daddr 127.0.1.0/24 drop",
        trouble: "scanner> begin C*30 127.0.1.?:7000
                  near? SYN_SENT == 30",
        stays_ms: 0,
        cure: "scanner> close C*30",
        findings: &[Expected::new(
            "syn-sent-unanswered",
            "scanner",
            3000,
            &["scan_like == true", "destinations == 30", "count == 30"],
        )],
    },
    Scenario {
        name: "connect-refused",
        about: "connections to a closed port",
        setup: "",
        trouble: "client> connect C 127.0.0.1:7001 = ECONNREFUSED
                  client> connect C 127.0.0.1:7001 = ECONNREFUSED",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-refused",
            "client",
            1000,
            &["errno == ECONNREFUSED", "latency_ns > 0", "remote_port == 7001", "count == 2"],
        )],
    },
    Scenario {
        name: "connect-refused-v6",
        about: "the same over IPv6",
        setup: "",
        trouble: "client> connect C [::1]:7001 = ECONNREFUSED",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-refused",
            "client",
            1000,
            &["errno == ECONNREFUSED", "latency_ns > 0", "remote_address == ::1", "count == 1"],
        )],
    },
    Scenario {
        name: "given-up",
        about: "attempts that a pool gives up after a second each, as nobody answers",
        setup: "near! tcp dport 7000 tcp flags syn drop",
        trouble: "client> begin C*2 127.0.0.1:7000
                  sleep 1100ms
                  client> close C*2",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "syn-sent-unanswered",
            "client",
            1000,
            &["count == 2", "given_up_after_ns >= 1s", "cause == syn_unanswered", "scan_like == false"],
        )],
    },
    Scenario {
        name: "connect-rejected",
        about: "a firewall rejects a connection by ICMP: no RST comes",
        setup: "near! tcp dport 7000 reject with icmp type port-unreachable",
        trouble: "client> connect C 127.0.0.1:7000 = ECONNREFUSED",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new("connect-refused", "client", 1000, &["cause == rejected_by_icmp"])],
    },
    Scenario {
        name: "listens-elsewhere",
        about: "a client tries ::1 where the server listens on 127.0.0.1",
        setup: "server> listen L 127.0.0.1:7000",
        trouble: "client> connect C [::1]:7000 = ECONNREFUSED",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-refused",
            "client",
            1000,
            &["cause == listens_elsewhere", "listens_at == 127.0.0.1:7000", "peer_pid == @server"],
        )],
    },
    Scenario {
        name: "pair-in-use",
        about: "a client binds a port, and has a connection from there to the same destination already",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000 from 127.0.0.1:5555
                server> accept S L",
        trouble: "client> connect D 127.0.0.1:7000 from 127.0.0.1:5555 = EADDRNOTAVAIL",
        stays_ms: 0,
        cure: "client> close C
               server> eof S
               server> close S",
        findings: &[Expected::new(
            "connect-failed",
            "client",
            1000,
            &["errno == EADDRNOTAVAIL", "cause == pair_in_use", "severity == warning"],
        )],
    },
    Scenario {
        name: "self-connect",
        about: "a socket that connects to its own port",
        setup: "",
        trouble: "client> connect C 127.0.0.1:7000 from 127.0.0.1:7000",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[Expected::new("self-connect", "client", 1000, &["port == 7000", "severity == warning"])],
    },
    Scenario {
        name: "connect-timeout",
        about: "a connection that is given up, as nobody answers",
        setup: "near! tcp dport 7000 tcp flags syn drop",
        trouble: "client> connect C 127.0.0.1:7000 within 1200ms = ETIMEDOUT",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-failed",
            "client",
            1000,
            &["errno == ETIMEDOUT", "latency_ns >= 1s", "syn_retransmits >= 1", "remote_port == 7000"],
        )],
    },
    Scenario {
        name: "connect-unreachable",
        about: "a connection that a router calls impossible, by ICMP",
        setup: "near! ip daddr 127.0.1.1 reject with icmp type host-unreachable",
        trouble: "client> connect C 127.0.1.1:7000 = EHOSTUNREACH",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-failed",
            "client",
            2500,
            &["errno == EHOSTUNREACH", "remote_address == 127.0.1.1", "cause == unreachable"],
        )],
    },
    Scenario {
        name: "neighbour-silent",
        about: "a connection to an address on the host's own link that nobody has",
        setup: "join far
                near$ sysctl -qw net.ipv4.neigh.near.retrans_time_ms=100",
        trouble: "client> connect C 10.77.0.9:7000 = EHOSTUNREACH",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "connect-failed",
            "client",
            2500,
            &[
                "errno == EHOSTUNREACH",
                "remote_address == 10.77.0.9",
                "cause == neighbour_silent",
                "next_hop == 10.77.0.9",
                "next_hop_answers == false",
            ],
        )],
    },
];
