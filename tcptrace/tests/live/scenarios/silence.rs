//! The other end is gone without a word, or what it says is lost.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "half-open",
        about: "a client vanishes without FIN, and the server neither sends nor has keepalive: it never learns",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                client> send C hello
                server> read S 5
                sleep 100ms",
        trouble: "client> vanish C
                  near? ESTABLISHED == 1",
        stays_ms: 0,
        cure: "server> close S",
        findings: &[Expected::new(
            "half-open",
            "server",
            5000,
            &[
                "idle_ns >= 4s",
                "keepalive == false",
                "peer_end == gone",
                "local_port == 7000",
                "examples.*.keepalive == false",
                "examples.*.holders.*.fd == @server.S",
            ],
        )],
    },
    Scenario {
        name: "half-open-far",
        about: "the same on a machine whose cable is pulled",
        setup: "join far
                server> listen L 10.77.0.1:7000
                client@far> connect C*2 10.77.0.1:7000
                server> accept S*2 L",
        trouble: "far$ ip link set far down
                  client> vanish C*2
                  near? ESTABLISHED == 2",
        stays_ms: 0,
        cure: "far$ ip link set far up
               server> close S*2
               near? FIN_WAIT1 == 0",
        findings: &[Expected::new(
            "half-open",
            "server",
            5000,
            // Nobody knows that the address was one of this host's.
            &["count == 2", "idle_ns >= 4s", "keepalive == false", "peer_end != alive"],
        )],
    },
    Scenario {
        name: "peer-dead",
        about: "a server sends to a client that has vanished, until the kernel gives up",
        setup: "near$ sysctl -qw net.ipv4.tcp_retries2=4
                server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "client> vanish C
                  near! tcp sport 7000 drop
                  server> send S hello",
        stays_ms: 0,
        cure: "server> error S = ETIMEDOUT
               server> close S",
        findings: &[Expected {
            at_end: &["errno == ETIMEDOUT"],
            ..Expected::new(
                "peer-dead",
                "server",
                4300,
                &[
                    "timeouts >= 4",
                    "total_retrans >= 4",
                    "unacked_bytes == 5",
                    "rto_ns >= 1s",
                    "gives_up_in_ns > 0",
                    "examples.*.send_queue == 5",
                    "examples.*.holders.*.fd == @server.S",
                ],
            )
        }],
    },
    Scenario {
        name: "keepalive-timeout",
        about: "keepalive probes are not answered, and the kernel ends the connection (IPv6)",
        setup: "server> listen L [::1]:7000
                client> connect C [::1]:7000
                server> accept S L
                server> keepalive S 1s 1s 2",
        trouble: "client> vanish C
                  near! tcp sport 7000 drop
                  server> error S = ETIMEDOUT",
        stays_ms: 0,
        cure: "server> close S",
        findings: &[Expected::new(
            "keepalive-timeout",
            "server",
            1000,
            &["errno == ETIMEDOUT", "probes == 2", "idle_ns >= 2s"],
        )],
    },
    Scenario {
        name: "last-ack-lost",
        about: "clients vanish after their FIN: the server's FINs get no ACK",
        setup: "near$ sysctl -qw net.ipv4.tcp_orphan_retries=4
                server> listen L 127.0.0.1:7000
                client> connect C*3 127.0.0.1:7000
                server> accept S*3 L",
        trouble: "client> shutdown C*3
                  server> eof S*3
                  near? FIN_WAIT2 == 3
                  client> vanish C*3
                  near! tcp sport 7000 drop
                  server> close S*3
                  near? LAST_ACK == 3",
        stays_ms: 0,
        cure: "near! flush
               near? LAST_ACK == 0",
        findings: &[Expected::new(
            "last-ack-lost",
            "server",
            2000,
            &["count == 3", "fin_retransmits >= 1", "orphaned == true", "closed_by == @server"],
        )],
    },
    Scenario {
        name: "fin-wait1-orphaned",
        about: "a client closes, and its FIN gets no ACK, as the server has vanished",
        setup: "near$ sysctl -qw net.ipv4.tcp_orphan_retries=4
                server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "server> vanish S
                  near! tcp dport 7000 drop
                  client> close C
                  near? FIN_WAIT1 == 1",
        // Four timeouts are not also a dead peer.
        stays_ms: 3500,
        cure: "near? FIN_WAIT1 == 0",
        findings: &[Expected::new(
            "fin-wait1-stuck",
            "client",
            2000,
            &["fin_retransmits >= 1", "orphaned == true", "closed_by == @client", "examples.*.state == FIN_WAIT1"],
        )],
    },
    Scenario {
        name: "fin-wait1-owned",
        about: "the same over IPv6 with a client that keeps its socket",
        setup: "server> listen L [::1]:7000
                client> connect C [::1]:7000
                server> accept S L",
        trouble: "server> vanish S
                  near! tcp dport 7000 drop
                  client> shutdown C
                  near? FIN_WAIT1 == 1",
        stays_ms: 0,
        cure: "client> vanish C",
        findings: &[Expected::new(
            "fin-wait1-stuck",
            "client",
            2000,
            &[
                "fin_retransmits >= 1",
                "orphaned == false",
                "closed_by == @client",
                "examples.*.holders.*.fd == @client.C",
            ],
        )],
    },
];
