//! What looks like trouble and is none.

use super::Scenario;

/// What gives no findings, although it stays for a time.
const fn decoy(
    name: &'static str,
    about: &'static str,
    setup: &'static str,
    trouble: &'static str,
    stays_ms: u64,
    cure: &'static str,
) -> Scenario {
    Scenario { name, about, setup, trouble, stays_ms, cure, findings: &[] }
}

/// The scenarios of this file.
pub(super) const ALL: &[Scenario] = &[
    decoy(
        "slow-server",
        "a server takes long to close what its clients have closed, and always does: it was seen to",
        "near$ sysctl -qw net.ipv4.tcp_fin_timeout=1
         server> listen L 127.0.0.1:7000
         client> connect C*3 127.0.0.1:7000
         server> accept S*3 L",
        "client> close C*3
         near? CLOSE_WAIT == 3
         sleep 1500ms
         server> close S0
         sleep 1200ms
         server> close S1
         sleep 1300ms
         server> close S2",
        500,
        "",
    ),
    decoy(
        "keepalive-idle",
        "an idle connection whose client has vanished, and keepalive that will notice",
        "server> listen L 127.0.0.1:7000
         client> connect C 127.0.0.1:7000
         server> accept S L
         server> keepalive S 60s 10s 3",
        "client> vanish C
         near? ESTABLISHED == 1",
        5500,
        "server> close S",
    ),
    decoy(
        "idle-local",
        "idle connections without keepalive, whose both ends are here and alive",
        "server> listen L 127.0.0.1:7000
         client> connect C*5 127.0.0.1:7000
         server> accept S*5 L",
        "near? ESTABLISHED == 10",
        5500,
        "client> close C*5
         server> eof S*5
         server> close S*5",
    ),
    decoy(
        "idle-far",
        "the same, with the other ends in another network namespace",
        "join far
         server> listen L 10.77.0.1:7000
         client@far> connect C*5 10.77.0.1:7000
         server> accept S*5 L",
        "near? ESTABLISHED == 5",
        5500,
        "client> close C*5
         server> eof S*5
         server> close S*5",
    ),
    decoy(
        "few-retransmits",
        "what was lost comes through at the second attempt",
        "server> listen L 127.0.0.1:7000
         client> connect C 127.0.0.1:7000
         server> accept S L",
        "server> deaf S
         client> send C hello
         sleep 350ms
         near? TcpRetransSegs >= 1
         server> hearing S
         server> read S 5",
        1200,
        "client> close C
         server> eof S
         server> close S",
    ),
    decoy(
        "short-outage",
        "nothing comes through for a second, and then all does",
        "server> listen L 127.0.0.1:7000
         client> connect C*3 127.0.0.1:7000
         server> accept S*3 L",
        "near! tcp dport 7000 drop
         client> send C*3 hello
         sleep 1s
         near? TcpRetransSegs >= 6
         near! flush
         server> read S*3 5",
        1000,
        "client> close C*3
         server> eof S*3
         server> close S*3",
    ),
    decoy(
        "slow-connect",
        "a SYN is lost, and the next one is not",
        "server> listen L 127.0.0.1:7000
         near! tcp dport 7000 tcp flags syn drop",
        "client> begin C 127.0.0.1:7000
         sleep 500ms
         near! flush
         server> accept S L",
        1500,
        "client> close C
         server> eof S
         server> close S",
    ),
    decoy(
        "few-half-open",
        "some half-open requests, as on any server",
        "server> listen L 127.0.0.1:7000
         near! ip daddr 127.0.9.9 drop",
        "flooder> syns 127.0.9.9 to 127.0.0.1:7000 times 5
         near? SYN_RECV == 5",
        3000,
        "server> close L",
    ),
    decoy(
        "few-time-waits",
        "a tenth of the ports toward a destination in TIME_WAIT",
        "near$ sysctl -qw net.ipv4.ip_local_port_range='20000 20099' net.ipv4.tcp_rfc1337=1
         server> listen L 127.0.0.1:7000",
        "client> connect C*10 127.0.0.1:7000
         server> accept S*10 L
         client> close C*10
         server> eof S*10
         server> close S*10
         near? TIME_WAIT == 10",
        2500,
        "",
    ),
    decoy(
        "queue-within-limit",
        "connections wait to be accepted, and there is room for more",
        "server> listen L 127.0.0.1:7000 8",
        "client> connect C*8 127.0.0.1:7000
         near? ESTABLISHED == 16",
        1500,
        "server> accept S*8 L
         client> close C*8
         server> eof S*8
         server> close S*8",
    ),
    decoy(
        "slow-reader",
        "a reader that is slow, and reads all the time: its window stays closed for long, and nobody waits in vain",
        "server> listen L 127.0.0.1:7000
         client> connect C 127.0.0.1:7000
         server> accept S L",
        "client> fill C
         near? TcpExtTCPToZeroWindowAdv >= 1
         server> sip S 20 250ms",
        0,
        "server> drain S
         client> close C
         server> eof S
         server> close S",
    ),
    decoy(
        "half-closed-stream",
        "a client has sent all that it will (shutdown), and the server answers for long",
        "server> listen L 127.0.0.1:7000
         client> connect C 127.0.0.1:7000
         server> accept S L
         client> shutdown C
         server> eof S",
        "server> trickle S 25 200ms",
        0,
        "server> close S
         client> drain C
         client> close C",
    ),
    decoy(
        "long-poll",
        "a server has read what its client asks, and answers when there is something to say",
        "server> listen L 127.0.0.1:7000
         client> connect C*3 127.0.0.1:7000
         server> accept S*3 L",
        "client> send C*3 hello
         server> read S*3 5",
        6500,
        "server> send S*3 hello
         client> read C*3 5
         client> close C*3
         server> eof S*3
         server> close S*3",
    ),
];
