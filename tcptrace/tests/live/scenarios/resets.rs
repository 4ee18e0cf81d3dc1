//! Connections that a RST ends.

use super::{Scenario, judge::Expected};

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
                &["state == ESTABLISHED", "unread_bytes == 7", "peer_pid == @server", "peer_command == server"],
            ),
            Expected::new("aborted-close", "server", 1000, &["cause == linger_zero", "unread_bytes == 0"]),
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
            &["cause == linger_zero", "unsent_bytes == 5", "remote_port == 7000"],
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
            Expected::new("aborted-close", "server", 1000, &["cause == unread_data", "unread_bytes == 9"]),
            Expected::new("reset-by-peer", "client", 1000, &["peer_pid == @server", "unread_bytes == 0"]),
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
            &["errno == EPIPE", "after_fin_ns >= 300ms", "remote_port == 7000"],
        )],
    },
];
