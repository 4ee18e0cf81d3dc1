//! Filters: what the kernel decides and what is left select together exactly what the whole expression selects, and an
//! expression that is written is read again as the same.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use tcptrace::model::{
    event::{Command, Event, EventKind, Owner, OwnerSource, Socket, TimeInState, TimeSource, Transition},
    filter::{
        End, EventName, EventSubject, Expr, Filter, Lookup, Number, Party, Pattern, Place, PortRange, Regex, Test,
        Text, Which,
    },
    socket_filter::SocketFilter,
    state::State,
};

const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.1.2.3", "192.0.2.1", "127.0.0.1", "::1", "2001:db8::1"];
const NETWORKS: [&str; 7] = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "0.0.0.0/0", "::/0", "::1", "2001:db8::/32"];
const PORTS: [u16; 5] = [1, 22, 80, 443, 65_535];
const CGROUPS: [&str; 3] = ["/", "/a", "/a/b"];

/// Cgroups by id, and nothing else.
struct Paths;

impl Lookup for Paths {
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        match text {
            Text::Cgroup => path(process.cgroup?).map(|path| is_it(&path)),
            _ => None,
        }
    }

    fn netns_name(&self, _: u32) -> Option<&str> {
        None
    }
}

fn path(id: u64) -> Option<String> {
    CGROUPS.get(usize::try_from(id).ok()?.checked_sub(1)?).map(|path| (*path).to_owned())
}

fn any_state() -> impl Strategy<Value = State> {
    prop::sample::select(State::ALL.to_vec())
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Either), Just(End::Local), Just(End::Remote)]
}

fn any_range() -> impl Strategy<Value = (u16, u16)> {
    (prop::sample::select(PORTS.to_vec()), prop::sample::select(PORTS.to_vec())).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn any_place() -> impl Strategy<Value = Place> {
    let network = prop::sample::select(NETWORKS.to_vec()).prop_map(|text| text.parse::<Place>().unwrap());
    (network, prop::option::weighted(0.3, any_range()))
        .prop_map(|(place, range)| Place { port: range.map(|(first, last)| PortRange(first, last)), ..place })
}

fn any_test() -> impl Strategy<Value = Expr> {
    let some = |number: usize| 1..number;
    let test = prop_oneof![
        (
            prop_oneof![Just(Which::Either), Just(Which::Old), Just(Which::New)],
            prop::collection::vec(any_state(), some(4))
        )
            .prop_map(|(which, states)| Test::State(which, states.into_iter().collect())),
        (any_end(), prop::collection::vec(any_range(), some(3))).prop_map(|(end, ranges)| Test::Port(end, ranges)),
        prop_oneof![Just(2_u16), Just(10)].prop_map(Test::Family),
        prop::collection::vec(1..5_u64, some(3))
            .prop_map(|pids| Test::Number(Number::Pid, pids.into_iter().map(|pid| (pid, pid)).collect())),
        (0..4_u64, 0..4_u64).prop_map(|(a, b)| Test::Number(Number::Age, vec![(a.min(b) * 1_000_000_000, u64::MAX)])),
        prop::sample::select(CGROUPS.to_vec())
            .prop_map(|path| Test::Text(Text::Cgroup, Pattern::Below(vec![path.to_owned()]))),
        prop_oneof![Just("^a"), Just("b\"c")]
            .prop_map(|text| Test::Text(Text::Comm, Pattern::Matches(Regex::new(text).unwrap()))),
        prop::sample::select(EventName::ALL.to_vec()).prop_map(|event| Test::Event(vec![event])),
    ];
    prop_oneof![
        4 => test.prop_map(Expr::Test),
        1 => (any_end(), prop::collection::vec(any_place(), some(3)))
            .prop_map(|(end, places)| Place::tests(end, places.into_iter())),
    ]
}

fn any_expr() -> impl Strategy<Value = Expr> {
    any_test().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::all),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::any),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn any_ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let port = || prop_oneof![1 => Just(0_u16), 5 => prop::sample::select(PORTS.to_vec()), 1 => any::<u16>()];
    let address = || prop::sample::select(ADDRESSES.to_vec()).prop_map(|text| text.parse::<IpAddr>().unwrap());
    ((address(), port()), (address(), port())).prop_map(|(local, remote)| (local.into(), remote.into()))
}

fn any_event() -> impl Strategy<Value = Event> {
    let owner = prop::option::of((1..5_u32, 0..4_u64));
    let listener = prop::option::weighted(0.2, 1..5_u32);
    let time = prop::option::of((0..5_u64, any::<bool>()));
    (any_state(), any_state(), any_ends(), owner, listener, time, any::<bool>()).prop_map(
        |(old, new, (local, remote), owner, listener, time, is_transition)| {
            let time_in_old = time.map(|(seconds, is_bound)| TimeInState {
                ns: seconds * 1_000_000_000,
                source: if is_bound { TimeSource::LowerBound } else { TimeSource::Observed },
            });
            let transition = Transition { time_in_old, ..Transition::new(old, new) };
            let what = if is_transition { EventKind::Transition(transition) } else { EventKind::OwnerChanged };
            let command = Command::new(*b"ab\"c\0\0\0\0\0\0\0\0\0\0\0\0");
            let source = OwnerSource::Accept;
            let owner = owner.map(|(pid, cgroup)| Owner { pid, uid: 0, cgroup, start: None, command, source });
            let listener = listener.filter(|_| owner.is_some()).map(|pid| (pid, None));
            Event { owner, listener, ..Event::new(1, Socket::new(old, local, remote), what) }
        },
    )
}

fn selects(filter: &SocketFilter, event: &Event) -> bool {
    // An unbound port is not known, so the kernel's programs wait until it is, and so does tcptrace.
    filter.matches_event(event, path)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn the_parts_select_what_the_whole_selects(expr in any_expr(), events in prop::collection::vec(any_event(), 8)) {
        let filter = expr.lower();
        for event in &events {
            let whole = expr.selects(&EventSubject(event), &mut Paths);
            let is_rest = filter.rest_selects(&EventSubject(event), &mut Paths);
            prop_assert_eq!(selects(&filter.sockets, event) && is_rest, whole, "{} as {:?} of {:?}", expr, filter, event);
            // What the kernel drops is selected by nobody.
            prop_assert_eq!(selects(&filter.kernel(), event) && is_rest, whole, "{} in the kernel, of {:?}", expr, event);
        }
    }

    #[test]
    fn what_limits_a_story_passes_all_events_of_the_connection(
        expr in any_expr(), one in any_event(), others in prop::collection::vec(any_event(), 4),
    ) {
        // The kernel's programs wait until the local port is known, and listeners have no story.
        let known = |end: SocketAddr| SocketAddr::new(end.ip(), end.port().max(1));
        let (local, remote) = (known(one.socket.local), known(one.socket.remote));
        let mut one = one;
        (one.socket.local, one.socket.remote) = (local, remote);
        if expr.selects(&EventSubject(&one), &mut Paths) {
            let of_connection = expr.of_connection();
            let kernel = of_connection.lower().kernel();
            for (mut event, (local, remote)) in others.into_iter().zip([(local, remote), (remote, local)].into_iter().cycle()) {
                (event.socket.local, event.socket.remote) = (local, remote);
                prop_assert!(of_connection.selects(&EventSubject(&event), &mut Paths), "{} as {}: {:?}", expr, of_connection, event);
                prop_assert!(selects(&kernel, &event), "{} as {:?}: {:?}", expr, kernel, event);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again(expr in any_expr(), events in prop::collection::vec(any_event(), 4)) {
        let text = expr.to_string();
        let again = Expr::parse(&text, &[]);
        prop_assert!(again.is_ok(), "{}: {}", text, again.unwrap_err());
        let again = again.unwrap();
        for event in &events {
            prop_assert_eq!(again.eval(&EventSubject(event), &mut Paths), expr.eval(&EventSubject(event), &mut Paths), "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9 =!<>&|(){}:.,\"'~/-]{0,60}") {
        let words = Expr::parse_words(&text, &["half-open"]);
        if let Ok(expr) = Expr::parse(&text, &["half-open"]) {
            prop_assert_eq!(words.as_ref().map(ToString::to_string), Ok(expr.to_string()), "words take all that the language takes");
        }
    }
}

#[test]
fn nothing_is_left_of_a_filter_that_is_not_given() {
    assert!(Expr::everything().lower().is_everything());
    assert_eq!(Expr::everything().lower(), Filter::default());
}
