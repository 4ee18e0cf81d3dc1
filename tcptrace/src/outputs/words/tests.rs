use super::*;

const DOCUMENTED: &str = include_str!("../../../../docs/json.md");

/// The examples of docs/json.md as sentences, in the same order.
const WORDS: &[(&str, Priority, &str)] = &[
    (
        "transition",
        Priority::Info,
        "192.0.2.10:51034 -> 198.51.100.7:443 FIN_WAIT2 -> TIME_WAIT after 1.31ms, ended: normal, owner curl[4242]",
    ),
    (
        "retransmit",
        Priority::Info,
        "192.0.2.10:51046 -> 203.0.113.9:22 ESTABLISHED: segment retransmitted, 5 in total, consecutive timeouts: 4, \
         EHOSTUNREACH, owner curl[4242]",
    ),
    (
        "synack_retransmit",
        Priority::Info,
        "10.1.0.1:8443 -> 10.1.0.9:33000 SYN_RECV: SYN-ACK retransmitted, 2 in total, owner web[800]",
    ),
    (
        "reset_sent",
        Priority::Info,
        "192.0.2.10:51044 -> 198.51.100.7:443 ESTABLISHED: RST sent, reason tcp_abort_on_close, owner curl[4242]",
    ),
    (
        "reset_received",
        Priority::Info,
        "192.0.2.10:51038 -> 198.51.100.7:5432 ESTABLISHED: RST received, owner curl[4242]",
    ),
    ("owner", Priority::Debug, "10.1.0.1:5432 -> 10.1.0.3:50000 CLOSE_WAIT, owner postgres[900]"),
    ("gap", Priority::Warning, "5 events lost; a listing added 1, removed 1 and changed 1 sockets"),
    ("time_wait_overflow", Priority::Warning, "42 connections closed without TIME_WAIT in network namespace blue"),
    (
        "finding",
        Priority::Warning,
        "close-wait-leak opened: web[800] 3 sockets on 10.1.0.1:80, oldest 1m00s: the peer closed its side, but \
         the process still holds the socket and has not called close()",
    ),
    (
        "summary",
        Priority::Info,
        "summary of 1m01s: transitions 5, retransmits 0, RSTs sent 0, RSTs received 0, events lost 0",
    ),
    ("end", Priority::Info, "ended (interrupted): 5 events received, 0 filtered, 0 lost"),
    ("socket", Priority::Info, "0.0.0.0:80 LISTEN, held by nginx[800], nginx[801], nginx[802]"),
    ("socket_count", Priority::Info, "cgroup kernel: 9 sockets"),
    ("sockets_end", Priority::Info, "24 sockets listed"),
    (
        "rates",
        Priority::Info,
        "in 1.00s: 600 opened, 540 accepted, 60 failed, 6 reset, 30 of 6000 segments retransmitted",
    ),
    (
        "check",
        Priority::Warning,
        "warning tcp_syncookies 0: a SYN flood fills a listener's queue and keeps everybody else out",
    ),
    ("checks_end", Priority::Info, "49 ok, 2 warnings, 0 failed, 1 unknown"),
];

fn read(json: &str) -> Map<String, Value> {
    flat::parse(json.as_bytes()).unwrap()
}

#[test]
fn all_kinds_of_the_documentation_have_words() {
    let examples: Vec<_> = DOCUMENTED.lines().filter(|line| line.starts_with("{\"schema\"")).map(read).collect();
    for (event, priority_of, words) in WORDS {
        let example = examples.iter().find(|example| example["event"] == *event).unwrap();
        assert_eq!((line(example).as_str(), priority(example)), (*words, *priority_of), "{event}");
    }
    assert!(examples.iter().all(|example| !line(example).is_empty()));
}

#[test]
fn what_is_not_known_is_not_said() {
    let transition = r#"{"event":"transition","local_address":"2001:db8::1","local_port":null,
        "remote_address":"2001:db8::2","remote_port":443,"old_state":"CLOSE","new_state":"SYN_SENT",
        "time_in_old_state_ns":null,"time_source":null,"ending":null,"errno":null,"pid":null,"command":null}"#;
    assert_eq!(line(&read(transition)), "2001:db8::1 -> [2001:db8::2]:443 CLOSE -> SYN_SENT");
    let gap = r#"{"event":"gap","lost":1,"healed_mono_ns":null}"#;
    assert_eq!(line(&read(gap)), "1 event lost; no listing has made up for them");
    let finding = r#"{"event":"finding","phase":"closed","finding":"connect-refused","severity":"critical","owner":null,
        "count":1,"remote_address":"10.0.0.9","remote_port":80,"age_ns":5000,"age_source":"lower_bound",
        "open_for_ns":30000000000,"netns_name":"blue","explanation":"nobody listens"}"#;
    assert_eq!(
        line(&read(finding)),
        "connect-refused closed after 30.0s: owner unknown 1 socket to 10.0.0.9:80, oldest at least 5.00us, network \
         namespace blue: nobody listens"
    );
    assert_eq!((priority(&read(finding)), subject(&read(finding))), (Priority::Notice, "connect-refused"));
    let critical = finding.replace("closed", "updated");
    assert_eq!(priority(&read(&critical)), Priority::Critical);
}

#[test]
fn unknown_kinds_and_odd_fields_have_words_too() {
    let unknown = r#"{"schema":1,"event":"tide","time":"x","mono_ns":1,"height":{"m":2.5},"port":80,"none":null}"#;
    assert_eq!(line(&read(unknown)), "tide: height_m 2.5, port 80");
    assert_eq!((priority(&read(unknown)), subject(&read(unknown))), (Priority::Info, "tide"));
    assert_eq!(line(&read("{}")), "-: ");
    let odd =
        r#"{"event":"transition","old_state":7,"owner":[],"local_address":{"a":1},"command":"a\nb\u001b[1m","pid":1}"#;
    assert_eq!(line(&read(odd)), r#"{"a":1} - -> -, owner a?b?[1m[1]"#);
    for (event, ..) in WORDS {
        assert!(!line(&read(&format!(r#"{{"event":"{event}"}}"#))).is_empty());
    }
}
