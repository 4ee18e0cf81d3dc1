//! `tcptrace story`: one connection, both ends in one ladder, and who sent the RST.

use std::{net::SocketAddr, os::fd::AsRawFd as _, time::Duration};

use socket2::Socket;

use crate::{
    Test,
    actor::Actor,
    net::{self, LOCALHOST, enter_new_netns, exchange, listen_on, pair, settle},
    tracer::Tracer,
};

/// The tests of this file. Other tests' namespaces are seen too, so each asks for a port that no other test uses.
pub(crate) const TESTS: &[Test] = &[
    ("the process that aborts sent the RST", linger_abort),
    ("a refused connection is answered by the kernel", refused),
    ("a server that closes with unread data sent the RST", unread_data),
    ("nothing matches", nothing_matches),
    ("a normal close, in order, and who closed first", normal_close),
    ("the connection of a cookie, with its other end", cookie),
    ("connections that are open at the end", open_at_the_end),
    ("connect that fails before a SYN", never_sent),
    ("an expression chooses whole connections, and the kernel leaves out the others", chosen_by_expression),
];

/// What was printed.
struct Told(Vec<String>);

impl Told {
    fn by(tracer: Tracer) -> Self {
        Self::of(tracer.stop())
    }

    fn of(run: crate::tracer::Run) -> Self {
        assert!(run.status.success(), "{}", run.stderr);
        for line in &run.lines {
            assert!(line.chars().count() <= 120, "too wide: {line}");
        }
        Self(run.lines)
    }

    fn stories(&self) -> usize {
        self.0.iter().filter(|line| line.contains(" ⇄ ")).count()
    }

    fn all(&self) -> String {
        self.0.join("\n")
    }

    fn assert_has(&self, words: &str) {
        assert!(self.0.iter().any(|line| line.contains(words)), "no `{words}` in\n{}", self.all());
    }

    /// The states that the left or the right side entered.
    fn states(&self, place: usize) -> String {
        let cell = |line: &String| line.chars().skip([8, 71][place]).take(49).collect::<String>();
        let state = |cell: String| Some(cell.split_once("-> ")?.1.split([' ', ',']).next()?.to_owned());
        self.0.iter().filter_map(|line| state(cell(line))).collect::<Vec<_>>().join(" ")
    }
}

fn listen(port: u16) -> Socket {
    listen_on((LOCALHOST, port).into()).0
}

fn linger_abort() {
    enter_new_netns();
    let tracer = Tracer::start(&["story", "127.0.0.1:6701"]);
    let listener = listen(6701);
    let mut client = Actor::start("t-aborter", &["6701"]);
    let (server, _) = listener.accept().unwrap();
    let pid = client.pid();
    client.go();
    client.wait();
    settle();
    drop(server);
    let told = Told::by(tracer);
    assert_eq!(told.stories(), 1, "{}", told.all());
    told.assert_has(&format!("RST sent by left ({pid} t-aborter), aborted: close with SO_LINGER 0"));
    told.assert_has(&format!("closed first by left ({pid} t-aborter), aborted: close with SO_LINGER 0"));
    told.assert_has("─── RST ───▶ RST received");
    told.assert_has("reset by peer (ECONNRESET)");
    assert_eq!(told.states(0), "SYN_SENT ESTABLISHED CLOSE");
    assert_eq!(told.states(1), "SYN_RECV ESTABLISHED CLOSE");
}

fn refused() {
    enter_new_netns();
    let tracer = Tracer::start(&["story", "6702"]);
    assert!(net::socket(LOCALHOST).connect(&SocketAddr::new(LOCALHOST, 6702).into()).is_err());
    settle();
    let told = Told::by(tracer);
    assert_eq!(told.stories(), 1, "{}", told.all());
    told.assert_has("refused by peer (ECONNREFUSED)");
    // Before 6.12 the kernel does not tell of RSTs without a socket.
    let words = ["RST sent by right: by the kernel, because no such socket exists", "RST from right: sender not seen"];
    assert!(words.iter().any(|words| told.all().contains(words)), "{}", told.all());
    assert_eq!(told.states(0), "SYN_SENT CLOSE");
}

fn unread_data() {
    enter_new_netns();
    let tracer = Tracer::start(&["story", "127.0.0.1:6703"]);
    let server = Actor::start("t-hasty", &["6703"]);
    let pid = server.pid();
    let client = net::socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, 6703).into()).unwrap();
    client.send(b"never read").unwrap();
    server.wait();
    settle();
    drop(client);
    let told = Told::by(tracer);
    told.assert_has(&format!("RST sent by right ({pid} t-hasty), aborted: close with unread data"));
    told.assert_has(&format!("closed first by right ({pid} t-hasty)"));
    told.assert_has("10 B out, 0 B in");
    told.assert_has("0 B out, 10 B in");
}

fn nothing_matches() {
    enter_new_netns();
    for (filter, words) in [
        ("10.255.255.1:9", "no connection matched 10.255.255.1:9"),
        ("9", "no connection matched port 9"),
        ("cookie:999999999999", "no connection matched cookie:999999999999"),
    ] {
        let run = Tracer::spawn(&["story", filter, "--duration", "200ms"]).wait();
        assert_eq!((run.status.code(), run.lines.len()), (Some(1), 0), "{:?}", run.lines);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    // One that is there and silent is a match.
    let listener = listen(6716);
    let _pair = pair(&listener, (LOCALHOST, 6716).into());
    let run = Tracer::spawn(&["story", "6716", "--duration", "1s"]).wait();
    assert_eq!(run.status.code(), Some(0), "{:?} {:?}", run.lines, run.stderr);
}

fn normal_close() {
    enter_new_netns();
    let tracer = Tracer::start(&["story", "6704", "--count", "1"]);
    let listener = listen(6704);
    let client = Actor::start("t-client", &["6704", "1", "0"]);
    let pid = client.pid();
    let (server, _) = listener.accept().unwrap();
    let mut question = [std::mem::MaybeUninit::new(0); 8];
    assert_eq!(server.recv(&mut question).unwrap(), 8);
    server.send(b"answer").unwrap();
    net::wait_for_fin(&server);
    drop(server);
    client.wait();
    let told = Told::of(tracer.wait()); // it ends by itself
    assert_eq!(told.stories(), 1, "{}", told.all());
    let states = told.states(0);
    let ends = ["FIN_WAIT1 FIN_WAIT2 TIME_WAIT", "FIN_WAIT1 FIN_WAIT2 FIN_WAIT2"];
    assert!(ends.iter().any(|end| states == format!("SYN_SENT ESTABLISHED {end}")), "{states}");
    assert_eq!(told.states(1), "SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE");
    told.assert_has(&format!("closed first by left ({pid} t-client)"));
    told.assert_has("RST none seen");
    told.assert_has("8 B out, 6 B in");
    told.assert_has("6 B out, 8 B in");
}

fn cookie() {
    enter_new_netns();
    let listener = listen(6705);
    let to = (LOCALHOST, 6705).into();
    let ((one, one_server), (other, other_server)) = (pair(&listener, to), pair(&listener, to));
    let cookie = cookie_of(&one);
    let tracer = Tracer::start(&["story", &format!("cookie:{cookie}")]);
    for (client, server) in [(other, other_server), (one, one_server)] {
        exchange(&client, &server, b"more");
        drop(client);
        net::wait_for_fin(&server);
    }
    settle();
    let told = Told::by(tracer);
    assert_eq!(told.stories(), 1, "{}", told.all());
    told.assert_has(&format!("cookie {cookie},"));
    assert!(told.states(1).ends_with("CLOSE_WAIT LAST_ACK CLOSE"), "{}", told.all());
    told.assert_has("≤"); // whether its SYN is counted is not known
}

fn open_at_the_end() {
    enter_new_netns();
    for (port, way) in [(6706, &[][..]), (6708, &["--no-iter"])] {
        let tracer = Tracer::start(&[&["story", &port.to_string()], way].concat());
        let listener = listen(port);
        let (client, server) = pair(&listener, (LOCALHOST, port).into());
        exchange(&client, &server, b"twelve bytes");
        exchange(&server, &client, b"seventeen bytes..");
        std::thread::sleep(Duration::from_millis(1200));
        let told = Told::by(tracer);
        drop((client, server));
        assert_eq!(told.all().matches("still in ESTABLISHED").count(), 2, "{}", told.all());
        told.assert_has("closed by nobody yet");
        // No event came since the handshake.
        told.assert_has("12 B out, 17 B in");
        told.assert_has("17 B out, 12 B in");
        let lived = |line: &String| Some(line.split_once("lived ≥")?.1.split("s").next()?.to_owned());
        let lived: Vec<f64> = told.0.iter().filter_map(lived).map(|text| text.parse().unwrap()).collect();
        assert!(!lived.is_empty() && lived.iter().all(|lived| (1.2..20.0).contains(lived)), "{}", told.all());
    }
}

/// The pair of ends is another connection's, so that `connect` fails with EADDRNOTAVAIL.
fn never_sent() {
    enter_new_netns();
    let listener = listen(6707);
    let bound = || {
        let client = net::socket(LOCALHOST);
        client.set_reuse_address(true).unwrap();
        client.bind(&SocketAddr::new(LOCALHOST, 6709).into()).unwrap();
        client
    };
    let to = SocketAddr::new(LOCALHOST, 6707).into();
    let first = bound();
    first.connect(&to).unwrap();
    let accepted = listener.accept().unwrap();
    let tracer = Tracer::start(&["story", "6707"]);
    let error = bound().connect(&to).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    settle();
    let told = Told::by(tracer);
    drop((first, accepted));
    told.assert_has("aborted: connect failed locally");
    for never in [" SYN ─", " SYN ╌", "AF_UNSPEC"] {
        assert!(!told.all().contains(never), "{never}: {}", told.all());
    }
}

/// SO_COOKIE of a socket.
fn cookie_of(socket: &Socket) -> u64 {
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as u32);
    // SAFETY: the value and its length are valid places to write to, and as long as is said.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    assert_eq!(result, 0);
    cookie
}

fn chosen_by_expression() {
    enter_new_netns();
    let (chosen, other) = (listen(6711), listen(6712));
    let only = "lport == 6711 && new == CLOSE_WAIT";
    let tracer = Tracer::start(&["story", "127.0.0.1", "--netns", "self", "--where", only, "--json"]);
    let play = |listener: &Socket, port: u16, server_first: bool| {
        let (client, server) = pair(listener, (LOCALHOST, port).into());
        exchange(&client, &server, b"hello");
        let (first, second) = if server_first { (server, client) } else { (client, server) };
        drop(first);
        net::wait_for_fin(&second);
    };
    play(&chosen, 6711, false);
    play(&chosen, 6711, true); // the client is in CLOSE_WAIT
    (0..5).for_each(|_| play(&other, 6712, false));
    settle();
    let run = tracer.stop();
    assert!(run.status.success(), "{}", run.stderr);
    let records = run.records();
    let stories: Vec<_> = records.iter().filter(|record| record["event"] == "story").collect();
    assert_eq!(stories.len(), 1, "{records:#?}");
    let states = |side: &str| -> Vec<&str> {
        let events = stories[0][side]["events"].as_array().unwrap();
        events.iter().filter_map(|event| event["new_state"].as_str()).collect()
    };
    assert_eq!(states("left")[..2], ["SYN_SENT", "ESTABLISHED"], "{records:#?}");
    assert_eq!(states("right"), ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"], "{records:#?}");
    let filtered = records.last().unwrap()["filtered"].as_u64().unwrap();
    assert!(filtered >= 50, "the kernel drops the connections of the other port: {filtered}");
}
