//! `tcptrace kill`: what is chosen is ended and nothing else, and both ends see it.

use std::{
    io::ErrorKind,
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;
use tcptrace::{
    commands::kill::{
        choose::{Chosen, Criteria, Target},
        end::{Outcome, can_end, end},
    },
    listing::{Lister, ListingOptions},
    model::{filter::Filter, netns_choice::NetnsChoice, socket_filter::SocketFilter},
};

use crate::{
    Test,
    net::{self, LOCALHOST, begin_connect, enter_new_netns, exchange, listen, lose_input, pair, port, wait_for_fin},
    tracer::{binary, public_binary, sockets},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a leak that a finding proves is ended, and its holder sees it", leak),
    ("a dry run ends nothing", dry_run),
    ("by its cookie one connection is ended, and its peer gets a RST", by_cookie),
    ("listeners are left alone unless they are wanted", listeners),
    ("more than --max are not ended", too_many),
    ("TIME_WAIT, SYN_SENT and half-open connections go", kernel_states),
    ("a socket that changed is left alone", changed),
    ("a new connection between the same ends is left alone", reused),
    ("other network namespaces are left alone unless they are chosen", namespaces),
    ("without the capability it fails, and says so", no_capability),
    ("text and CSV", forms),
];

/// What a run of `tcptrace kill` wrote.
struct Killed {
    rows: Vec<Value>,
    end: Value,
    stderr: String,
    code: Option<i32>,
}

impl Killed {
    fn results(&self) -> Vec<&str> {
        self.rows.iter().map(|row| row["result"].as_str().unwrap()).collect()
    }
}

fn kill(flags: &[&str]) -> Killed {
    let mut command = Command::new(binary());
    command.args(["kill", "--json"]).args(flags);
    killed(command)
}

fn killed(mut command: Command) -> Killed {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = rows.pop().unwrap_or_else(|| panic!("{command:?}: {stderr}"));
    assert_eq!(end["event"], "kill_end", "{stderr}");
    for name in ["ended", "changed", "gone", "failed"] {
        let count = rows.iter().filter(|row| row["result"] == name).count();
        assert_eq!(end[name], count, "{name}: {rows:#?}");
    }
    Killed { rows, end, stderr, code: output.status.code() }
}

/// A connection whose peer has closed, and which stays in CLOSE_WAIT.
fn leaked(listener: &Socket, to: SocketAddr) -> Socket {
    let (client, server) = pair(listener, to);
    drop(client);
    wait_for_fin(&server);
    server
}

fn error_of(socket: &Socket) -> Option<i32> {
    socket.send(b"x").err().and_then(|error| error.raw_os_error())
}

fn is_alive((client, server): &(Socket, Socket)) {
    exchange(client, server, b"still here");
    exchange(server, client, b"so am I");
}

fn state_of(socket: &Socket) -> String {
    let peer = socket.peer_addr().unwrap().as_socket().unwrap().port();
    sockets(&["--netns", "self"]).row(port(socket), peer)["state"].as_str().unwrap().to_owned()
}

/// Tests that end sockets need a kernel that can; others have nothing to test.
fn is_possible() -> bool {
    let possible = can_end().unwrap();
    if !possible {
        println!("skipped: the kernel has no CONFIG_INET_DIAG_DESTROY");
    }
    possible
}

fn leak() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let healthy = pair(&listener, to);
    let leaks = [(); 7].map(|()| leaked(&listener, to));
    thread::sleep(Duration::from_millis(1500)); // beyond the threshold
    let flags = ["--netns", "self", "--finding", "close-wait-leak", "--stuck-after", "CLOSE_WAIT=1s"];
    let dry = kill(&flags);
    assert_eq!(dry.results(), ["would_end"; 7], "{}", dry.stderr);
    assert_eq!((dry.code, &dry.end["dry_run"]), (Some(0), &Value::Bool(true)));
    let done = kill(&[&flags[..], &["--yes"]].concat());
    assert_eq!((done.results(), done.code), (vec!["ended"; 7], Some(0)), "{:#?} {}", done.rows, done.stderr);
    for row in &done.rows {
        assert_eq!((&row["state"], &row["finding"]), (&"CLOSE_WAIT".into(), &"close-wait-leak".into()));
        assert_eq!((&row["chosen_by"], &row["local_port"]), (&"finding".into(), &to.port().into()));
        assert_eq!(row["holders"][0]["pid"], std::process::id());
        assert!(row["age_ns"].as_u64().unwrap() >= 1_000_000_000, "{row:#}");
    }
    for leak in &leaks {
        // The FIN came before: a read gives the end of the stream, a write the error.
        assert_eq!(leak.recv(&mut [MaybeUninit::new(0)]).unwrap(), 0);
        assert_eq!(error_of(leak), Some(libc::ECONNABORTED));
    }
    is_alive(&healthy);
    let again = kill(&[&flags[..], &["--yes"]].concat());
    assert_eq!((again.rows.len(), again.code), (0, Some(0)), "nothing is left to do: {:#?}", again.rows);
}

fn dry_run() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let alive = pair(&listener, to);
    let leak = leaked(&listener, to);
    let dry = kill(&["--netns", "self", "--local-port", &to.port().to_string()]);
    assert_eq!(dry.results(), ["would_end"; 2], "{:#?}", dry.rows);
    assert!(dry.stderr.contains("1 listeners"), "{}", dry.stderr);
    assert_eq!(state_of(&leak), "CLOSE_WAIT");
    is_alive(&alive);
}

fn by_cookie() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let (one, other) = (pair(&listener, to), pair(&listener, to));
    let cookie = sockets(&["--netns", "self"]).row(to.port(), port(&one.0))["cookie"].as_u64().unwrap();
    let named = format!("cookie:{cookie}");
    let done = kill(&[&named, "--yes"]);
    assert_eq!((done.results(), done.code), (vec!["ended"], Some(0)), "{}", done.stderr);
    assert_eq!((&done.rows[0]["chosen_by"], &done.rows[0]["cookie"]), (&"cookie".into(), &cookie.into()));
    let received = |socket: &Socket| socket.recv(&mut [MaybeUninit::new(0)]).unwrap_err().kind();
    assert_eq!(received(&one.1), ErrorKind::ConnectionAborted);
    assert_eq!(received(&one.0), ErrorKind::ConnectionReset);
    is_alive(&other);
    let again = kill(&[&named, "--yes"]);
    assert_eq!((again.rows.len(), again.code), (0, Some(1)));
    assert!(again.stderr.contains(&format!("{named}: no socket")), "{}", again.stderr);
}

fn listeners() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let at = to.port().to_string();
    let left = kill(&["--netns", "self", "--port", &at, "--yes"]);
    assert_eq!((left.rows.len(), left.code), (0, Some(0)));
    assert!(left.stderr.contains("--listeners ends them, too"), "{}", left.stderr);
    let _ = pair(&listener, to);
    let done = kill(&["--netns", "self", "--port", &at, "--state", "LISTEN", "--listeners", "--yes"]);
    assert_eq!(done.results(), ["ended"]);
    assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EINVAL));

    // Of several with one address the kernel finds one at a time.
    let group = [(); 5].map(|()| {
        let one = net::socket(LOCALHOST);
        one.set_reuse_port(true).unwrap();
        one.bind(&SocketAddr::new(LOCALHOST, 6999).into()).unwrap();
        one.listen(1).unwrap();
        one
    });
    let cookie = sockets(&["--netns", "self", "--local-port", "6999"]).rows[2]["cookie"].as_u64().unwrap();
    let one = kill(&[&format!("cookie:{cookie}"), "--listeners", "--yes"]);
    let result = one.rows[0]["result"].as_str().unwrap();
    let is_said = one.rows[0]["detail"].as_str().is_some_and(|detail| detail.contains("SO_REUSEPORT"));
    assert!(result == "ended" || result == "failed" && is_said, "never `gone`: {:#?}", one.rows);
    let rest = kill(&["--netns", "self", "--local-port", "6999", "--listeners", "--yes"]);
    assert!(rest.results().iter().all(|result| *result == "ended"), "{:#?}", rest.rows);
    assert_eq!(rest.rows.len() + usize::from(result == "ended"), group.len());
}

fn too_many() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let leaks = [(); 3].map(|()| leaked(&listener, to));
    let mut command = Command::new(binary());
    command.args(["kill", "--netns", "self", "--state", "CLOSE_WAIT", "--max", "2", "--yes"]);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("3 sockets match, more than --max 2: nothing was ended"), "{stderr}");
    assert!(leaks.iter().all(|leak| state_of(leak) == "CLOSE_WAIT"));
}

fn kernel_states() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    net::close(pair(&listener, to));
    let deaf = net::socket(LOCALHOST);
    lose_input(&deaf);
    begin_connect(&deaf, to); // SYN_SENT here, a request there
    net::wait_until("the request", || !sockets(&["--netns", "self", "--state", "SYN_RECV"]).rows.is_empty());
    let done = kill(&["--netns", "self", "--state", "TIME_WAIT,SYN_SENT,SYN_RECV", "--yes"]);
    let mut states: Vec<_> = done.rows.iter().map(|row| row["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["SYN_RECV", "SYN_SENT", "TIME_WAIT"], "{:#?}", done.rows);
    assert_eq!(done.results(), ["ended"; 3], "{:#?}", done.rows);
    assert_eq!(deaf.take_error().unwrap().unwrap().raw_os_error(), Some(libc::ECONNABORTED));
    let left = sockets(&["--netns", "self", "--state", "TIME_WAIT,SYN_SENT,SYN_RECV"]).rows;
    assert!(left.is_empty(), "{left:#?}");
    let _ = pair(&listener, to);
}

/// The sockets of this namespace with this local port, as `tcptrace kill` chooses them.
fn chosen(local_port: u16, older_than: Option<Duration>) -> Vec<Target> {
    let mut filter = SocketFilter::default();
    filter.ports.local = vec![(local_port, local_port)];
    let criteria = Criteria {
        filter: Filter { sockets: filter, ..Filter::default() },
        cookies: Vec::new(),
        findings: Vec::new(),
        older_than,
        listeners: false,
    };
    let wanted = ListingOptions { holders: true, ..ListingOptions::default() };
    let snapshot = Lister::alone(true, Some(NetnsChoice::Own)).list(&wanted).unwrap();
    Chosen::new(&snapshot, &criteria, None).targets
}

fn ended(targets: &[Target]) -> Vec<Outcome> {
    end(targets, Some(&NetnsChoice::Own)).unwrap()
}

fn assert_changed(targets: &[Target], words: &str) {
    match &ended(targets)[..] {
        [Outcome::Changed(why)] if why.contains(words) => {}
        other => panic!("{words}: {other:?}"),
    }
}

fn changed() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    let targets = chosen(to.port(), None);
    client.shutdown(Shutdown::Write).unwrap();
    wait_for_fin(&server);
    assert_changed(&targets, "it is in CLOSE_WAIT now");

    let targets = chosen(to.port(), None);
    let copy = server.try_clone().unwrap();
    assert_changed(&targets, "another process or descriptor");
    let targets = chosen(to.port(), None);
    drop(server);
    assert_changed(&targets, "does not any more");
    assert_eq!(ended(&chosen(to.port(), None)), [Outcome::Ended]);
    assert_eq!(error_of(&copy), Some(libc::ECONNABORTED));

    // Its age was the reason, and then it is used.
    let used = pair(&listener, to);
    thread::sleep(Duration::from_millis(400));
    let targets = chosen(to.port(), Some(Duration::from_millis(300)));
    assert_eq!(targets.len(), 1);
    is_alive(&used);
    assert_changed(&targets, "in use since");
    is_alive(&used);
}

fn reused() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let connect = |from: Option<SocketAddr>| {
        let client = net::socket(LOCALHOST);
        client.set_reuse_address(true).unwrap();
        client.set_linger(Some(Duration::ZERO)).unwrap();
        if let Some(from) = from {
            client.bind(&from.into()).unwrap();
        }
        client.connect(&to.into()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    let (client, server) = connect(None);
    let from = client.local_addr().unwrap().as_socket().unwrap();
    let targets = chosen(to.port(), None);
    drop(client); // with a RST
    let _ = server.recv(&mut [MaybeUninit::new(0)]);
    drop(server);
    let again = connect(Some(from));
    let now = chosen(to.port(), None);
    let ends = |targets: &[Target]| targets.iter().map(|one| (one.socket.local, one.socket.remote)).collect::<Vec<_>>();
    assert_eq!(ends(&targets), ends(&now), "the same ends");
    assert_ne!(targets[0].socket.cookie, now[0].socket.cookie);
    assert_eq!(ended(&targets), [Outcome::Gone]);
    is_alive(&again);
}

fn namespaces() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let here = leaked(&listener, to);
    let (to_test, ready) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let other = thread::spawn(move || {
        let netns = enter_new_netns();
        let (listener, to) = net::listen_on(to);
        let there = leaked(&listener, to);
        to_test.send(netns).unwrap();
        wait.recv().unwrap();
        let alive = there.send(b"x").is_ok();
        to_test.send(u64::from(alive)).unwrap();
        wait.recv().unwrap();
        error_of(&there)
    });
    let netns = ready.recv().unwrap();
    let at = to.port().to_string();
    let done = kill(&["--netns", "self", "--local-port", &at, "--yes"]);
    assert_eq!(done.results(), ["ended"]);
    assert_eq!(error_of(&here), Some(libc::ECONNABORTED));
    go_on.send(()).unwrap();
    assert_eq!(ready.recv().unwrap(), 1, "the other one lives");
    // It sent something to a peer that is closed: it is gone, or is ended now.
    let done = kill(&["--netns", &netns.to_string(), "--local-port", &at, "--yes"]);
    assert!(done.rows.iter().all(|row| row["netns"] == netns && row["result"] == "ended"), "{:#?}", done.rows);
    go_on.send(()).unwrap();
    assert!(other.join().unwrap().is_some());
}

fn no_capability() {
    enter_new_netns();
    if !is_possible() {
        return;
    }
    let (listener, to) = listen(LOCALHOST);
    let leak = leaked(&listener, to);
    let program = public_binary();
    let mut command = Command::new(&program.0);
    command.args(["kill", "--json", "--netns", "self", "--state", "CLOSE_WAIT", "--yes"]).uid(65534).gid(65534);
    let failed = killed(command);
    assert_eq!((failed.results(), failed.code), (vec!["failed"], Some(1)), "{}", failed.stderr);
    assert!(failed.rows[0]["detail"].as_str().unwrap().contains("CAP_NET_ADMIN is missing"), "{:#?}", failed.rows);
    assert_eq!(state_of(&leak), "CLOSE_WAIT");
}

fn forms() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let _leak = leaked(&listener, to);
    let written = |flags: &[&str]| {
        let flags = [&["kill", "--netns", "self", "--state", "CLOSE_WAIT"], flags].concat();
        let output = Command::new(binary()).args(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = written(&[]);
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with("would end CLOSE_WAIT 127.0.0.1:") && row.ends_with(" filter"), "{text}");
    assert!(row.contains(&format!("[{}] fd ", std::process::id())), "{text}");
    assert!(text.ends_with("\nDry run: 1 socket would be ended. --yes ends them.\n"), "{text}");
    let csv = written(&["--format", "csv"]);
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.lines().nth(1).unwrap().contains(",would_end,,true,filter,,,"), "{csv}");
}
