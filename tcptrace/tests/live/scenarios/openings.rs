//! Connections that do not come to be.

use super::{Scenario, judge::Expected};

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
            1000,
            &["errno == EHOSTUNREACH", "remote_address == 127.0.1.1"],
        )],
    },
];
