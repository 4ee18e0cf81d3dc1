//! One side closes and the other does not.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "close-wait-leak",
        about: "a server never closes what its clients have closed, and has not read all of it",
        setup: "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
                leaky-server> listen L 127.0.0.1:7000
                client> connect C*5 127.0.0.1:7000
                leaky-server> accept S*5 L
                client> send C*5 hello",
        trouble: "client> close C*3
                  sleep 500ms
                  client> close C3
                  client> close C4
                  near? CLOSE_WAIT == 5",
        stays_ms: 0,
        cure: "leaky-server> read S*5 5
               leaky-server> close S*5
               near? CLOSE_WAIT == 0",
        findings: &[Expected::new(
            "close-wait-leak",
            "leaky-server",
            3000,
            &[
                "count == 5",
                "local_port == 7000",
                "age_ns >= 2s",
                "unread_bytes == 25",
                "owner.command == leaky-server",
                "examples.*.state == CLOSE_WAIT",
                "examples.*.receive_queue >= 5",
                "examples.*.holders.*.pid == @leaky-server",
                "examples.*.holders.*.fd == @leaky-server.S0",
            ],
        )],
    },
    Scenario {
        name: "close-wait-growth",
        about: "a server that leaks one socket after the other",
        setup: "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
                leaky-server> listen L 127.0.0.1:7000
                client> connect C*6 127.0.0.1:7000
                leaky-server> accept S*6 L",
        // Growth is told of once it was watched for ten seconds.
        trouble: "client> close C0
                  sleep 2s
                  client> close C1
                  sleep 2s
                  client> close C2
                  sleep 2s
                  client> close C3
                  sleep 2s
                  client> close C4
                  sleep 2s
                  client> close C5
                  near? CLOSE_WAIT == 6",
        stays_ms: 0,
        cure: "leaky-server> close S*6",
        findings: &[Expected::new(
            "close-wait-leak",
            "leaky-server",
            3000,
            &["count == 6", "growth_per_minute >= 20", "growth_per_minute <= 40"],
        )],
    },
    Scenario {
        name: "close-wait-leak-v6",
        about: "the same by a client of IPv6: its server closed",
        setup: "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
                server> listen L [::1]:7000
                leaky-client> connect C [::1]:7000
                server> accept S L",
        trouble: "server> close S
                  near? CLOSE_WAIT == 1",
        stays_ms: 0,
        cure: "leaky-client> close C",
        findings: &[Expected::new(
            "close-wait-leak",
            "leaky-client",
            3000,
            &["count == 1", "remote_port == 7000", "unread_bytes == 0", "examples.*.holders.*.fd == @leaky-client.C"],
        )],
    },
    Scenario {
        name: "fin-wait2-orphaned",
        about: "a client closed, and waits for the server to close too, which leaks: both ends are found",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "client> close C
                  near? FIN_WAIT2 == 1
                  near? CLOSE_WAIT == 1",
        stays_ms: 0,
        cure: "server> close S",
        findings: &[
            Expected::new(
                "fin-wait2-stuck",
                "client",
                3000,
                &[
                    "orphaned == true",
                    "closed_by == @client",
                    "time_left_ns > 0",
                    // The kernel counts what is left in jiffies.
                    "time_left_ns <= 58010ms",
                    "examples.*.state == FIN_WAIT2",
                ],
            ),
            Expected::new("close-wait-leak", "server", 3000, &["examples.*.holders.*.fd == @server.S"]),
        ],
    },
    Scenario {
        name: "fin-wait2-owned",
        about: "a client of IPv6 shut down its side and keeps the socket; the server's machine is gone since",
        setup: "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
                server> listen L [::1]:7000
                client> connect C [::1]:7000
                server> accept S L",
        trouble: "client> shutdown C
                  server> eof S
                  near? FIN_WAIT2 == 1
                  server> vanish S",
        stays_ms: 0,
        cure: "client> close C
               near? FIN_WAIT2 == 0",
        findings: &[Expected::new(
            "fin-wait2-stuck",
            "client",
            3000,
            &["orphaned == false", "closed_by == @client", "examples.*.holders.*.fd == @client.C"],
        )],
    },
];
