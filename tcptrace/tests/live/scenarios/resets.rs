//! Connections that a RST ends.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "idle-reset",
        about: "a middlebox has forgotten an idle connection, and answers its next packet with a RST",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> keepalive S 60s 10s 3
                client> send C hello
                server> read S 5",
        trouble: "sleep 2300ms
                  near! tcp dport 7000 reject with tcp reset
                  client> send C again
                  client> error C = ECONNRESET
                  near! flush",
        stays_ms: 0,
        cure: "client> close C
               server> close S",
        findings: &[Expected::new(
            "idle-reset",
            "client",
            1000,
            &["idle_ns >= 2s", "keepalive == false", "peer_end == alive", "peer_sent_rst == false"],
        )],
    },
    Scenario {
        name: "idle-reset-probe",
        about: "the same, and it is a keepalive probe that is answered with the RST",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> keepalive S 3s 10s 3
                near! tcp sport 7000 reject with tcp reset",
        trouble: "server> error S = ECONNRESET
                  near! flush",
        stays_ms: 0,
        cure: "client> close C
               server> close S",
        findings: &[Expected::new(
            "idle-reset",
            "server",
            1000,
            &["idle_ns >= 2s", "keepalive == true", "peer_end == alive", "peer_sent_rst == false"],
        )],
    },
    Scenario {
        name: "reset-by-peer",
        about: "a server aborts a connection (SO_LINGER 0); its client had not read all",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> send S answers",
        trouble: "server> linger S
                  server> close S
                  client> error C = ECONNRESET",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[
            Expected::new(
                "reset-by-peer",
                "client",
                1000,
                &[
                    "severity == warning",
                    "cause == peer_closed_with_linger",
                    "state == ESTABLISHED",
                    "unread_bytes == 7",
                    "peer_pid == @server",
                    "peer_command == server",
                ],
            ),
            Expected::new(
                "aborted-close",
                "server",
                1000,
                &["severity == warning", "cause == closed_with_linger", "unread_bytes == 0"],
            ),
        ],
    },
    Scenario {
        name: "aborted-close-linger",
        about: "a close that is an abort (SO_LINGER 0), of bytes that were not sent",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> vanish S
                near! tcp dport 7000 drop
                client> send C hello",
        trouble: "client> linger C
                  client> close C",
        stays_ms: 0,
        cure: "",
        findings: &[Expected::new(
            "aborted-close",
            "client",
            1000,
            &["severity == warning", "cause == closed_with_linger", "unsent_bytes == 5", "remote_port == 7000"],
        )],
    },
    Scenario {
        name: "aborted-close-unread",
        about: "a close that is an abort, as not all was read (IPv6)",
        setup: "server> listen L [::1]:7000
                client> connect C [::1]:7000
                server> accept S L",
        trouble: "client> send C questions
                  server> close S
                  client> error C = ECONNRESET",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[
            Expected::new(
                "aborted-close",
                "server",
                1000,
                &["severity == warning", "cause == closed_unread", "unread_bytes == 9"],
            ),
            Expected::new(
                "reset-by-peer",
                "client",
                1000,
                &["severity == warning", "cause == peer_closed_unread", "peer_pid == @server", "unread_bytes == 0"],
            ),
        ],
    },
    Scenario {
        name: "write-after-close",
        about: "a client goes on writing when its server has closed",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "server> close S
                  client> eof C
                  sleep 300ms
                  client> send C more
                  sleep 50ms
                  client> send C more = EPIPE",
        // The RST ended what was left of the server's side too: it is not in FIN_WAIT2 any more.
        stays_ms: 2800,
        cure: "client> close C",
        findings: &[Expected::new(
            "write-after-close",
            "client",
            1000,
            &["cause == wrote_after_close", "errno == EPIPE", "after_fin_ns >= 300ms", "remote_port == 7000"],
        )],
    },
    Scenario {
        name: "keepalive-race",
        about: "a server closes an idle connection, and the client's next request crosses that",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                client> send C question
                server> read S 8
                server> send S answer
                client> read C 6
                sleep 300ms",
        trouble: "server> close S
                  client> send C again
                  client> error C = EPIPE",
        stays_ms: 2800,
        cure: "client> close C",
        findings: &[Expected::new(
            "write-after-close",
            "client",
            1000,
            &["severity == warning", "cause == keepalive_race", "idle_ns >= 250ms", "after_fin_ns <= 1s"],
        )],
    },
    Scenario {
        name: "health-check",
        about: "a client connects, and closes by a RST: nothing was on its way",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "client> linger C
                  client> close C
                  server> error S = ECONNRESET",
        stays_ms: 0,
        cure: "server> close S",
        findings: &[Expected::new("reset-by-peer", "server", 1000, &["severity == info", "cause == client_left"])],
    },
    Scenario {
        name: "cancelled",
        about: "a client closes before it has read all that its server sends, as `curl | head` does",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> fill S",
        trouble: "client> read C 1000
                  client> close C
                  server> error S = ECONNRESET",
        stays_ms: 0,
        cure: "server> close S",
        findings: &[Expected::new("reset-by-peer", "server", 1000, &["severity == info", "cause == reader_cancelled"])],
    },
    Scenario {
        name: "server-killed",
        about: "a server is killed with connections, one of which it had not read from",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C*3 127.0.0.1:7000
                server> accept S*3 L
                client> send C0 question",
        // What is left of a connection may be listed as stuck in FIN_WAIT2 where its client waits.
        trouble: "server! SIGKILL
                  client> error C0 = ECONNRESET
                  client> close C*3",
        stays_ms: 0,
        cure: "",
        findings: &[
            Expected::new(
                "process-killed",
                "server",
                1000,
                &["severity == warning", "count == 3", "signal == SIGKILL", "unread_bytes == 8", "local_port == 7000"],
            ),
            Expected::new("reset-by-peer", "client", 1000, &["severity == info", "cause == peer_killed"]),
        ],
    },
    Scenario {
        name: "listener-closed",
        about: "a listener is closed while a connection waits to be accepted",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000",
        trouble: "server> close L
                  client> error C = ECONNRESET",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[Expected::new(
            "reset-by-peer",
            "client",
            1000,
            &["severity == warning", "cause == peer_listener_closed"],
        )],
    },
    Scenario {
        name: "firewall-reset",
        about: "a firewall answers data with a RST; the server is still connected, and is not accused",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L
                server> keepalive S 60s 10s 3",
        trouble: "near! tcp dport 7000 reject with tcp reset
                  client> send C hello
                  client> error C = ECONNRESET
                  near! flush",
        stays_ms: 0,
        cure: "client> close C
               server> close S",
        findings: &[Expected::new(
            "reset-by-peer",
            "client",
            1000,
            &["severity == warning", "cause == sent_on_path", "peer_end == alive", "peer_pid == null"],
        )],
    },
];
