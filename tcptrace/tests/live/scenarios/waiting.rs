//! A process does not accept, or does not read.

use super::{Scenario, expect::Expected};

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "accept-stalled",
        about: "a server is stopped: its clients are connected, and wait in a queue that has room for more",
        setup: "server> listen L 127.0.0.1:7000",
        trouble: "server! SIGSTOP
                  client> connect C*3 127.0.0.1:7000
                  client> send C*3 hello
                  near? ESTABLISHED == 6",
        stays_ms: 0,
        cure: "server! SIGCONT
               server> accept S*3 L
               server> read S*3 5",
        findings: &[Expected::new(
            "accept-stalled",
            "server",
            5000,
            &[
                "count == 3",
                "queue == 3",
                "limit == 128",
                "waited_ns >= 3s",
                "process_state == stopped",
                "cause == accepter_stopped",
            ],
        )],
    },
    Scenario {
        name: "out-of-descriptors",
        about: "a server has no descriptor left: accept() fails with EMFILE",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C*5 127.0.0.1:7000
                server> descriptors L 6
                near? ESTABLISHED == 10",
        trouble: "server> accept S0 L
                  server> accept S1 L
                  server> accept S2 L = EMFILE",
        stays_ms: 0,
        cure: "server> descriptors L 64
               server> accept T*3 L",
        findings: &[Expected::new(
            "accept-stalled",
            "server",
            5000,
            &[
                "count == 3",
                "process_state == out_of_descriptors",
                "max_descriptors == 6",
                "descriptors >= 6",
                "cause == accepter_out_of_descriptors",
            ],
        )],
    },
    Scenario {
        name: "never-accepted",
        about: "clients have given up and closed, and their connections rot in the accept queue in CLOSE_WAIT",
        setup: "server> listen L 127.0.0.1:7000",
        trouble: "client> connect C*4 127.0.0.1:7000
                  client> send C*4 hello
                  client> close C*4
                  near? CLOSE_WAIT == 4",
        stays_ms: 2500,
        cure: "server> accept S*4 L
               server> read S*4 5
               server> eof S*4
               server> close S*4",
        findings: &[
            Expected::new("accept-stalled", "server", 5000, &["count == 4", "process_state == waiting"]),
            Expected::new("fin-wait2-stuck", "client", 4000, &["orphaned == true"]),
        ],
    },
    Scenario {
        name: "zero-window",
        about: "a server stops reading: the client's data waits for its window, and all probes are answered",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "client> fill C
                  near? TcpExtTCPToZeroWindowAdv >= 1",
        stays_ms: 6000,
        cure: "server> drain S
               client> close C
               server> eof S
               server> close S",
        findings: &[Expected::new(
            "zero-window",
            "server",
            4000,
            &[
                "severity == warning",
                "cause == does_not_read",
                "local_port == 7000",
                "unread_bytes >= 10000",
                "window_closed_ns >= 4s",
                "unsent_bytes >= 10000",
                "waiting_pid == @client",
                "probes_answered == true",
                "process_state == waiting",
                "examples.*.holders.*.fd == @server.S",
            ],
        )],
    },
    Scenario {
        name: "zero-window-far",
        about: "the same with the reader on another machine: the process that waits is told of",
        setup: "join far
                server@far> listen L 10.77.0.2:7000
                client> connect C 10.77.0.2:7000
                server> accept S L",
        trouble: "client> fill C
                  sleep 300ms",
        stays_ms: 0,
        cure: "server> drain S
               client> close C
               server> eof S
               server> close S",
        findings: &[Expected::new(
            "zero-window",
            "client",
            4000,
            &["cause == peer_does_not_read", "remote_port == 7000", "unsent_bytes >= 10000", "probes_answered == true"],
        )],
    },
    Scenario {
        name: "zero-window-closed",
        about: "a client that has closed, and whose data the server does not read: its FIN is not lost, it waits",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000
                server> accept S L",
        trouble: "client> fill C
                  client> close C
                  near? FIN_WAIT1 == 1",
        stays_ms: 4000,
        cure: "server> drain S
               server> eof S
               server> close S",
        findings: &[Expected::new("zero-window", "server", 4000, &["cause == does_not_read", "unread_bytes >= 10000"])],
    },
    Scenario {
        name: "user-timeout",
        about: "TCP_USER_TIMEOUT ends a connection whose peer answered every probe, and did not read",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C 127.0.0.1:7000 within 1500ms
                server> accept S L
                server> keepalive S 60s 10s 3",
        trouble: "client> fill C
                  client> error C = ETIMEDOUT",
        stays_ms: 0,
        cure: "client> close C",
        findings: &[Expected::new(
            "zero-window",
            "client",
            2000,
            &["cause == ended_by_user_timeout", "errno == ETIMEDOUT", "peer_pid == @server", "unacked_bytes >= 10000"],
        )],
    },
    Scenario {
        name: "read-stalled",
        about: "a server has accepted, and does not read what its clients ask",
        setup: "server> listen L 127.0.0.1:7000
                client> connect C*3 127.0.0.1:7000
                server> accept S*3 L",
        trouble: "client> send C*3 hello",
        stays_ms: 0,
        cure: "server> read S*3 5",
        findings: &[Expected::new(
            "read-stalled",
            "server",
            7000,
            &[
                "severity == info",
                "count == 3",
                "unread_bytes == 15",
                "unread_for_ns >= 5s",
                "cause == requests_unread",
            ],
        )],
    },
];
