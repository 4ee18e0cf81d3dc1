//! Reading, writing and splitting expressions.

use super::*;
use crate::model::{
    event::{Event, EventKind, Socket, TimeInState, TimeSource, Transition},
    socket::{Kind, ListedSocket},
    socket_filter::SocketFilter,
    state::State,
};

const FINDINGS: [&str; 2] = ["close-wait-leak", "half-open"];

fn parsed(text: &str) -> Expr {
    Expr::parse(text, &FINDINGS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn event(old: State, new: State, local: &str, remote: &str) -> Event {
    let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
    Event::new(9, Socket::new(old, local, remote), EventKind::Transition(Transition::new(old, new)))
}

fn selects(text: &str, event: &Event) -> Option<bool> {
    parsed(text).eval(&EventSubject(event), &mut NoLookup)
}

#[test]
fn what_is_written_is_read_again() {
    for (text, want) in [
        (
            "state == CLOSE_WAIT && age > 1m && comm =~ \"^java\" && !(rport in {443, 8443}) && raddr in 10.0.0.0/8",
            "state == CLOSE_WAIT && age > 1m && comm =~ \"^java\" && !(rport in {443, 8443}) && raddr == 10.0.0.0/8",
        ),
        ("state=close-wait or state = estab", "state == CLOSE_WAIT || state == ESTABLISHED"),
        ("not lport < 1024 and (pid == 1 || uid in {0, 33})", "!(lport <= 1023) && (pid == 1 || uid in {0, 33})"),
        ("rport >= 8000 && rport != 8080-8089", "rport >= 8000 && !(rport == 8080-8089)"),
        ("addr in {::1, [::1]:80, 10.0.0.1:80}", "addr == ::1 || addr in {[::1]:80, 10.0.0.1:80}"),
        ("age >= 1h30m", "age >= 90m"),
        ("age <= 1500ms && age < 2d", "age <= 1500ms && age < 48h"),
        ("rtt > 500us && recvq > 64KiB", "rtt >= 500001ns && recvq >= 65537"),
        (
            "family == 6 && netns == blue && netns != 4026531840",
            "family == ipv6 && netns == \"blue\" && !(netns == 4026531840)",
        ),
        ("cgroup in /system.slice && unit == nginx", "cgroup in {\"/system.slice\"} && unit == \"nginx.service\""),
        ("exe !~ '/usr/bin/.*\"x'", "!(exe =~ \"/usr/bin/.*\\\"x\")"),
        (
            "event in {retransmits, reset} || severity >= warning",
            "event in {retransmit, reset} || severity in {warning, critical}",
        ),
        ("finding == half-open", "finding == half-open"),
        ("old == LISTEN && new != SYN_RECV", "old == LISTEN && !(new == SYN_RECV)"),
        ("sport == 80 && DST == 10.0.0.1", "lport == 80 && raddr == 10.0.0.1"),
    ] {
        assert_eq!(parsed(text).to_string(), want, "{text}");
        assert_eq!(parsed(want), parsed(text), "{want}");
    }
}

#[test]
fn ss_and_tcpdump_are_taken_as_words() {
    for (text, want) in [
        ("state close-wait sport = :80", "state == CLOSE_WAIT && lport == 80"),
        ("state close-wait state time-wait", "state in {TIME_WAIT, CLOSE_WAIT}"),
        ("state established ( dport = :443 or dport = :80 )", "state == ESTABLISHED && (rport == 443 || rport == 80)"),
        ("dport eq 443 and sport gt :1024", "rport == 443 && lport >= 1025"),
        ("src 10.0.0.0/8 dst 192.0.2.1:443", "laddr == 10.0.0.0/8 && raddr == 192.0.2.1:443"),
        ("src = 10.0.0.0/8", "laddr == 10.0.0.0/8"),
        ("dst [::1]:443", "raddr == [::1]:443"),
        ("dst :443", "rport == 443"),
        ("host 10.0.0.1 and port 80", "addr == 10.0.0.1 && port == 80"),
        ("tcp and src port 80", "lport == 80"),
        ("dst host 10.0.0.1 and not port 22", "raddr == 10.0.0.1 && !(port == 22)"),
        ("net 10.0.0.0/8 or portrange 8000-8099", "addr == 10.0.0.0/8 || port == 8000-8099"),
        ("ip6 and dst port 443", "family == ipv6 && rport == 443"),
        ("exclude listen", "!(state == LISTEN)"),
        ("state bucket", "state in {SYN_RECV, TIME_WAIT}"),
        ("age > 1m state close-wait", "age > 1m && state == CLOSE_WAIT"),
        ("! dport = :22", "!(rport == 22)"),
    ] {
        let expr = Expr::parse_words(text, &FINDINGS).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), want, "{text}");
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, place, words) in [
        ("", "^", "the expression is empty"),
        ("stat == LISTEN", "^^^^", "no field `stat`: did you mean `state`?"),
        ("state == LISTN", "         ^^^^^", "did you mean `LISTEN`"),
        ("state > LISTEN", "      ^", "expected an operator after state: == != in"),
        ("state", "     ^", "expected an operator"),
        ("state == ", "         ^", "expected a state"),
        ("age > 5", "      ^", "write it with a unit"),
        ("age > 1m &&", "           ^", "expected a field"),
        ("age > 1m state == LISTEN", "         ^^^^^", "expected && or ||"),
        ("(age > 1m", "         ^", "expected )"),
        ("age > 1m)", "        ^", "closes nothing"),
        ("rport == http", "         ^^^^", "ports are 1 to 65535"),
        ("rport in {1, 2", "              ^", "expected , or }"),
        ("raddr == host", "         ^^^^", "give IPv4 or IPv6"),
        ("comm =~ \"(\"", "        ^^^", "invalid regular expression"),
        ("comm == \"java", "        ^^^^^", "no closing"),
        ("comm == a-very-long-command", "        ^^^^^^^^^^^^^^^^^^^", "15 bytes"),
        ("comm > a", "     ^", "== != =~ !~ in"),
        ("pid == 0", "       ^", "invalid PID"),
        ("finding == leak", "           ^^^^", "no finding `leak`"),
        ("severity > bad", "           ^^^", "not a severity"),
        ("age ~ 1m", "    ^", "expected an operator after age: == != < <= > >= in"),
        ("pidd == 3 && state == LISTEN", "^^^^", "did you mean `pid`"),
    ] {
        let told = Expr::parse(text, &FINDINGS).unwrap_err().to_string();
        assert!(told.contains(words), "{text}: {told}");
        assert_eq!(told.lines().last().unwrap_or_default(), format!("    {place}"), "{told}");
    }
    let deep = format!("{}age > 1s{}", "(".repeat(40), ")".repeat(40));
    assert!(Expr::parse(&deep, &[]).unwrap_err().to_string().contains("more than 32 deep"));
    let many = format!("pid in {{{}}}", vec!["1"; 1100].join(","));
    assert!(Expr::parse(&many, &[]).unwrap_err().to_string().contains("at most 1024"));
    assert!(Expr::parse(&"a".repeat(5000), &[]).unwrap_err().to_string().contains("at most 4096"));
}

#[test]
fn a_transition_is_about_both_of_its_states_and_ends() {
    let closing = event(State::Established, State::CloseWait, "10.0.0.1:80", "192.0.2.9:4000");
    for (text, want) in [
        ("state == CLOSE_WAIT", true),
        ("state == ESTABLISHED", true),
        ("state != ESTABLISHED", false),
        ("new == CLOSE_WAIT && old != LISTEN", true),
        ("port == 4000 && port == 80", true),
        ("lport == 4000", false),
        ("port != 22", true),
        ("port != 80", false),
        ("addr == 10.0.0.0/8 && raddr != 10.0.0.0/8", true),
        ("addr == 10.0.0.1:4000", false),
        ("addr == 192.0.2.9:4000", true),
        ("family == ipv6", false),
        ("event == transition && finding != half-open", true),
        ("rport < 1024", false),
    ] {
        assert_eq!(selects(text, &closing), Some(want), "{text}");
        assert_eq!(selects(&format!("!({text})"), &closing), Some(!want), "not {text}");
    }
}

#[test]
fn what_is_unknown_is_not_selected_nor_its_negation() {
    let opening = event(State::Close, State::SynSent, "10.0.0.1:0", "192.0.2.9:443");
    for text in
        ["lport == 80", "lport != 80", "pid == 1", "pid != 1", "comm == a", "unit == a", "age > 1s", "netns == 1"]
    {
        assert_eq!(selects(text, &opening), None, "{text}");
    }
    assert_eq!(selects("rport == 443 || pid == 1", &opening), Some(true));
    assert_eq!(selects("rport != 443 && pid == 1", &opening), Some(false));
    assert_eq!(selects("port == 443", &opening), Some(true), "the other end has it");
    let mut lasted = event(State::Established, State::CloseWait, "10.0.0.1:1", "192.0.2.9:443");
    let EventKind::Transition(transition) = &mut lasted.what else { unreachable!() };
    transition.time_in_old = Some(TimeInState { ns: 2_000_000_000, source: TimeSource::LowerBound });
    assert_eq!(selects("age > 1s", &lasted), Some(true), "it was there for at least 2 s");
    assert_eq!(selects("age < 1s", &lasted), Some(false));
    assert_eq!(selects("age > 3s", &lasted), None);
    assert_eq!(selects("age <= 3s", &lasted), None);
}

#[test]
fn the_kernel_gets_what_it_can_decide() {
    let lowered = |text: &str| {
        let filter = parsed(text).lower();
        let rest = filter.rest.as_ref().map_or(String::new(), ToString::to_string);
        (Expr::from(&filter.sockets).to_string(), rest)
    };
    for (text, kernel, rest) in [
        ("state == CLOSE_WAIT && rport in {80, 443}", "state == CLOSE_WAIT && rport in {80, 443}", ""),
        ("state == CLOSE_WAIT || state == LAST_ACK", "state in {CLOSE_WAIT, LAST_ACK}", ""),
        ("state == CLOSE_WAIT && age > 1m", "state == CLOSE_WAIT", "age > 1m"),
        ("lport != 22", "lport in {1-21, 23-65535}", ""),
        ("rport != 22", "rport in {0-21, 23-65535}", ""),
        ("port != 22 && lport <= 100", "lport in {1-21, 23-100} && rport in {0-21, 23-65535}", ""),
        ("lport == 80 && lport == 81", "lport == 80", "lport == 81"),
        ("addr == 10.0.0.1:80", "port == 80 && addr == 10.0.0.1", "addr == 10.0.0.1:80"),
        (
            "(state == LISTEN && age > 1s) || state == CLOSE",
            "state in {LISTEN, CLOSE}",
            "(state == LISTEN && age > 1s) || state == CLOSE",
        ),
        ("state == LISTEN || age > 1s", "everything", "state == LISTEN || age > 1s"),
        ("!(rport == 80 || comm == a)", "rport in {0-79, 81-65535}", "!(comm == \"a\")"),
        ("pid == 7 && uid == 0", "pid == 7", "uid == 0"),
        ("cgroup in /a && pid == 7", "cgroup in {\"/a\"}", "pid == 7"),
        ("raddr != 10.0.0.0/8", "everything", "!(raddr == 10.0.0.0/8)"),
    ] {
        assert_eq!(lowered(text), (kernel.to_owned(), rest.to_owned()), "{text}");
    }
    let states = parsed("state != LISTEN").lower().sockets.states;
    assert!(!states.contains(State::Listen) && states.iter().count() == 10);
    let outside = parsed("raddr != 10.0.0.0/8").lower().kernel();
    assert_eq!(outside.addresses.remote.len(), 104, "one network for each bit of the prefix");
    assert_eq!(parsed("netns == blue").lower().netns, Some(NetnsId::Name("blue".to_owned())));
}

#[test]
fn a_listed_socket_has_holders_or_none() {
    let (local, remote) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:9".parse().unwrap());
    let socket = ListedSocket::new(Kind::Full, State::Established, 7, local, remote);
    let eval = |text: &str, is_complete| {
        let subject = ListedSubject { socket: &socket, holders: &[], now_ns: 1, is_complete };
        parsed(text).eval(&ConnectionFacts::from(subject), &mut NoLookup)
    };
    assert_eq!(
        (eval("pid == 1", true), eval("pid != 1", true)),
        (Some(false), Some(true)),
        "the kernel alone holds it"
    );
    assert_eq!((eval("pid == 1", false), eval("pid != 1", false)), (None, None), "somebody unknown holds it");
    assert_eq!(eval("netns == 7 && event == socket && recvq == 0", true), Some(true));
    assert_eq!(
        parsed("state == LISTEN").lower().sockets,
        SocketFilter { states: [State::Listen].into_iter().collect(), ..SocketFilter::default() }
    );
}

#[test]
fn a_story_is_limited_by_what_is_true_of_the_whole_connection() {
    for (text, want) in [
        ("event == reset || retrans > 3", "everything"),
        ("event == reset && rport == 443", "port == 443"),
        ("lport == 80 && laddr in 10.0.0.0/8 && state == CLOSE_WAIT", "port == 80 && addr == 10.0.0.0/8"),
        ("(rport == 443 && event == reset) || lport == 80", "port == 443 || port == 80"),
        ("rport == 443 || event == reset", "everything"),
        ("!(port == 22 || age > 1m)", "!(port == 22)"),
        ("rport != 22 && laddr != ::1", "everything"),
        ("raddr == 10.0.0.1:80 && family == ipv4 && pid == 7", "addr == 10.0.0.1:80 && family == ipv4"),
    ] {
        assert_eq!(parsed(text).of_connection().to_string(), want, "{text}");
    }
}
