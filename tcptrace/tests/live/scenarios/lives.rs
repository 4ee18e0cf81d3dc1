//! Normal lives: there is nothing to find.

use super::{Scenario, expect::Expected};

/// A life that gives no findings.
const fn life(name: &'static str, about: &'static str, setup: &'static str, trouble: &'static str) -> Scenario {
    Scenario { name, about, setup, trouble, stays_ms: 1200, cure: "", findings: &[] }
}

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    life(
        "client-life",
        "a client asks, is answered and closes first",
        "server> listen L 127.0.0.1:7000",
        "client> connect C 127.0.0.1:7000
         server> accept S L
         client> send C question
         server> read S 8
         server> send S answer
         client> read C 6
         client> close C
         server> eof S
         server> close S
         near? TIME_WAIT == 1",
    ),
    life(
        "server-life",
        "the same seen from a server of IPv6, many times",
        "server> listen L [::1]:7000",
        "client> connect C*20 [::1]:7000
         server> accept S*20 L
         client> send C*20 question
         server> read S*20 8
         client> close C*20
         server> eof S*20
         server> close S*20
         server> close L
         near? TIME_WAIT == 20",
    ),
    life(
        "server-closes-first",
        "as HTTP/1.0 servers do",
        "server> listen L 127.0.0.1:7000",
        "client> connect C 127.0.0.1:7000
         server> accept S L
         server> send S answer
         server> close S
         client> read C 6
         client> eof C
         client> close C
         near? TIME_WAIT == 1",
    ),
    life(
        "half-close",
        "a client shuts down its side, and the server goes on sending: FIN_WAIT2 and CLOSE_WAIT by design",
        "server> listen L 127.0.0.1:7000",
        "client> connect C 127.0.0.1:7000
         server> accept S L
         client> shutdown C
         server> eof S
         near? CLOSE_WAIT == 1
         server> trickle S 12 100ms
         client> read C 12
         server> close S
         client> eof C
         client> close C",
    ),
    life(
        "simultaneous-close",
        "both sides close while both FINs are on their way: CLOSING",
        "server> listen L 127.0.0.1:7000",
        "client> connect C 127.0.0.1:7000
         server> accept S L
         client> deaf C
         server> deaf S
         client> shutdown C
         server> shutdown S
         client> hearing C
         server> hearing S
         client> eof C
         server> eof S
         client> close C
         server> close S
         near? TIME_WAIT >= 1",
    ),
    Scenario {
        findings: &[Expected::new("self-connect", "client", 1000, &["port == 7100"])],
        ..life(
            "simultaneous-open",
            "both sides connect, which one socket can do alone",
            "",
            "client> connect C 127.0.0.1:7100 from 127.0.0.1:7100
             client> send C hello
             client> read C 5
             client> close C",
        )
    },
    life("listener-life", "bind, listen, close", "", "server> listen L 127.0.0.1:7000\nserver> close L"),
    Scenario {
        findings: &[Expected::new("process-killed", "client", 1000, &["severity == info", "count == 3"])],
        ..life(
            "process-killed",
            "the kernel closes for a process that is killed",
            "server> listen L 127.0.0.1:7000",
            "client> connect C*3 127.0.0.1:7000
             server> accept S*3 L
             client! SIGKILL
             server> eof S*3
             server> close S*3
             near? TIME_WAIT == 3",
        )
    },
];
