//! How results look: columns, order, groups, one after another, and what a terminal gets.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{PATIENCE, assert_refused, run, streams::Terminal, tracer};

/// A listener with connections to it, two of which the peer has closed; all of this process.
struct Site {
    port: String,
    _listener: TcpListener,
    _streams: Vec<TcpStream>,
}

impl Site {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        for index in 0..4 {
            let client = TcpStream::connect(to).unwrap();
            let server = listener.accept().unwrap().0;
            if index < 2 {
                drop(client);
                let start = Instant::now();
                while std::io::Read::read(&mut &server, &mut [0]).unwrap() != 0 {
                    assert!(start.elapsed() < PATIENCE);
                }
            } else {
                (&client).write_all(&vec![b'x'; 10 * (index + 1)]).unwrap();
                streams.push(client);
            }
            streams.push(server);
        }
        Self { port: to.port().to_string(), _listener: listener, _streams: streams }
    }

    /// Lists the server's sockets.
    fn list(&self, flags: &[&str]) -> String {
        let listing = ["sockets", "--no-iter", "--netns", "self", "--local-port", &self.port];
        let run = run(&[&listing, flags].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stdout
    }
}

/// The cells of the lines up to the totals.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn columns_are_chosen_in_text_csv_and_json() {
    let site = Site::new();
    let text = site.list(&["--columns", "recv-q,state,local"]);
    let rows = table(&text);
    assert_eq!(rows[0], ["RECV-Q", "STATE", "LOCAL"]);
    assert_eq!(rows.len(), 1 + 5, "{text}");
    let csv = site.list(&["--columns", "recv-q,state,local", "--format", "csv"]);
    assert!(csv.starts_with("receive_queue,accept_queue,state,local_address,local_port\n"), "{csv}");
    assert!(csv.contains(&format!(",CLOSE_WAIT,127.0.0.1,{}\n", site.port)), "{csv}");
    let json = site.list(&["--columns", "state,local-port", "--json"]);
    let record: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let names: Vec<_> = record.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["schema", "event", "time", "mono_ns", "local_port", "state"]);
    // Whole, however narrow the terminal: the user has chosen them.
    assert_refused(&["sockets", "--columns", "recvq"], &["--columns", "`recvq`: did you mean `recv-q`?", "holders"]);
    assert_refused(&["sockets", "--columns", "state", "--by", "pid"], &["--columns", "--by"]);
    assert_refused(
        &["--columns", "time,adress"],
        &["--columns", "`adress`", "old-state", "tcptrace explain transition"],
    );
}

#[test]
fn rows_are_sorted_by_any_column() {
    let site = Site::new();
    let queues = |sort: &str| {
        let text = site.list(&["--state", "established,close-wait", "--columns", "recv-q,state", "--sort", sort]);
        table(&text)[1..].iter().map(|row| row[0].parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(queues("recv-q")[2..], [30, 40]);
    assert_eq!(queues("-recv-q")[..2], [40, 30]);
    assert_eq!(queues("recv-q:desc"), queues("-recv-q"));
    assert_eq!(queues("state,-receive-queue")[..2], [40, 30], "ESTABLISHED comes before CLOSE_WAIT");
    assert_refused(&["sockets", "--sort", "agee"], &["--sort", "did you mean `age`?"]);
    assert_refused(&["sockets", "--sort", "age:down"], &["--sort", "asc or desc"]);
    assert_refused(&["sockets", "--by", "pid", "--sort", "age"], &["--sort", "sockets, pid"]);
}

#[test]
fn sockets_are_counted_by_one_or_two_things() {
    let site = Site::new();
    let own_pid = std::process::id().to_string();
    let text = site.list(&["--by", "pid,state"]);
    let rows = table(&text);
    assert_eq!(rows[0], ["SOCKETS", "PID", "COMMAND", "STATE"], "{text}");
    for (count, state) in [("2", "CLOSE_WAIT"), ("2", "ESTABLISHED"), ("1", "LISTEN")] {
        let is_it = |row: &&Vec<&str>| row[0] == count && row[1] == own_pid && row.last() == Some(&state);
        assert!(rows.iter().any(|row| is_it(&row)), "{count} {state}: {text}");
    }
    let json = site.list(&["--by", "process,port", "--json"]);
    let record: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&record["by"], &record["second_by"]), (&"comm".into(), &"port".into()));
    assert_eq!((&record["second_group"], &record["sockets"]), (&site.port.as_str().into(), &5.into()));
    for by in ["uid", "netns", "remote-port", "local", "family", "unit", "container", "pod", "cgroup", "comm"] {
        let text = site.list(&["--by", by]);
        assert!(text.starts_with("SOCKETS ") && text.contains("\nTotal 5: "), "{by}: {text}");
    }
    assert_refused(&["sockets", "--by", "pid,state,port"], &["--by", "one or two, not 3"]);
}

#[test]
fn only_what_is_known_to_be_old_is_listed_and_the_rest_counted() {
    let site = Site::new();
    let text = site.list(&["--older-than", "1h"]);
    assert_eq!(table(&text).len(), 1, "{text}");
    // The ages of the listener and of lower bounds are not known.
    assert!(text.contains("\nLeft out: 5 whose time in the state is not known\n"), "{text}");
    let json = site.list(&["--older-than", "1h", "--json"]);
    let end: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&end["event"], &end["age_unknown"]), (&"sockets_end".into(), &5.into()));
    sleep(Duration::from_millis(20));
    let text = site.list(&["--older-than", "10ms", "--state", "close-wait"]);
    assert_eq!(table(&text).len(), 1 + 2, "an ACK came longer ago than that: {text}");
    assert_refused(&["sockets", "--older-than", "soon"], &["--older-than", "examples: 500ms"]);
}

#[test]
fn json_is_a_flag_of_every_command() {
    for command in ["sockets", "stuck", "rates", "story", "doctor"] {
        let help = run(&[command, "--help"]).stdout;
        for flag in ["--json", "--format", "--output", "--color", "--quiet", "--time"] {
            assert!(help.contains(flag), "{command} has no {flag}");
        }
    }
    let rates = run(&["rates", "--json", "--netns", "self", "--count", "1", "--interval", "1ms"]);
    assert_eq!((rates.code, &rates.stdout[..1]), (Some(0), "{"), "{}", rates.stderr);
    let checks = run(&["doctor", "files", "--json"]);
    assert!(checks.stdout.starts_with('{'), "{}", checks.stdout);
    assert_refused(&["rates", "--json", "--format", "csv"], &["--json", "--format"]);
    assert_refused(&["story", "1", "--format", "csv"], &["--format text or json"]);
}

#[test]
fn piped_listings_follow_each_other_with_their_dates_until_they_are_stopped() {
    let site = Site::new();
    let mut command = tracer();
    let listing = ["sockets", "--no-iter", "--netns", "self", "--port", &site.port, "--watch=100ms", "-q"];
    let mut program = command.args(listing).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(program.stdout.take().unwrap()));
    let mut dates = 0;
    let start = Instant::now();
    while dates < 3 {
        assert!(start.elapsed() < PATIENCE);
        let line = lines.next().unwrap().unwrap();
        dates += usize::from(line.as_bytes().get(4) == Some(&b'-') && line.contains('T'));
        assert!(!line.contains('\x1b'), "{line:?}");
    }
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(program.id() as i32, libc::SIGINT) };
    assert_eq!(program.wait().unwrap().code(), Some(0));
    let csv = tracer()
        .args(["sockets", "--no-iter", "--netns", "self", "--port", &site.port, "--watch=50ms", "--format", "csv"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut program = csv.unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(program.stdout.take().unwrap()));
    let many: Vec<_> = lines.by_ref().take(25).map(Result::unwrap).collect();
    assert_eq!(many.iter().filter(|line| line.starts_with("event,")).count(), 1, "{many:#?}");
    drop(lines);
    assert_eq!(program.wait().unwrap().code(), Some(0), "nobody reads any more");
}

#[test]
fn a_terminal_shows_the_last_listing_and_q_ends_it() {
    let site = Site::new();
    for (rows, columns) in [(6, 60), (24, 80), (50, 120)] {
        let terminal = Terminal::new(columns, rows);
        let before = terminal.modes();
        let arguments = ["sockets", "--no-iter", "--netns", "self", "--port", &site.port, "--watch=100ms"];
        let mut program = terminal.start(&arguments);
        let mut seen = String::new();
        let start = Instant::now();
        while seen.matches("\x1b[H").count() < 3 {
            assert!(start.elapsed() < PATIENCE, "{seen}");
            seen += &terminal.read();
        }
        assert!(seen.contains("STATE") && seen.contains("HOLDERS"), "{seen:?}");
        for frame in seen.split("\x1b[H").skip(1) {
            let lines = frame.matches('\n').count();
            assert!(lines < usize::from(rows), "{rows} rows: {frame:?}");
        }
        terminal.type_keys("xq");
        let start = Instant::now();
        let status = loop {
            terminal.read();
            match program.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(start.elapsed() < PATIENCE, "q ends it"),
            }
        };
        assert_eq!(status.code(), Some(0));
        assert!(terminal.modes() == before, "the terminal has its modes back");
    }
}

#[test]
fn ctrl_c_gives_the_terminal_its_modes_back() {
    let site = Site::new();
    let terminal = Terminal::new(80, 24);
    let before = terminal.modes();
    let arguments = ["sockets", "--no-iter", "--netns", "self", "--port", &site.port, "--watch=100ms"];
    let mut program = terminal.start(&arguments);
    let (start, mut seen) = (Instant::now(), String::new());
    while !seen.contains("Total ") {
        assert!(start.elapsed() < PATIENCE, "{seen}");
        seen += &terminal.read();
    }
    assert!(terminal.modes() != before, "keys come one by one");
    terminal.type_keys("\x03");
    let start = Instant::now();
    while program.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "Ctrl-C ends it");
        terminal.read();
    }
    assert!(terminal.modes() == before);
}

#[test]
fn a_terminal_gets_lines_that_fit() {
    let site = Site::new();
    let listing = ["sockets", "--no-iter", "--netns", "self", "--port", &site.port];
    let doctor = ["doctor", "machine", "settings", "--verbose"];
    for columns in [60, 80, 120] {
        for arguments in [&listing[..], &doctor] {
            let (_, printed) = super::streams::on_terminal(columns, arguments);
            let mut plain = printed.replace('\r', "");
            while let Some((at, end)) = plain.find("\x1b[").and_then(|at| Some((at, at + plain[at..].find('m')?))) {
                plain.replace_range(at..=end, "");
            }
            let is_wide = |line: &&str| line.chars().count() > columns.into();
            let wide = plain.lines().find(|line| is_wide(line) && !line.starts_with("tcptrace: "));
            assert_eq!(wide, None, "{columns} columns: {plain}");
        }
    }
    // A pipe gets everything.
    let piped = site.list(&[]);
    assert!(piped.lines().next().unwrap().contains("NOTE") && !piped.contains("columns: "), "{piped}");
}

/// A file that goes with the test.
struct Written(std::path::PathBuf);

impl Written {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tcptrace-forms-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn begin(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap().chars().take(12).collect()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_name_of_a_file_says_its_format() {
    let site = Site::new();
    let listing = ["sockets", "--no-iter", "--netns", "self", "--local-port", &site.port];
    for (name, begin) in [
        ("a.json", "{\"schema\":1,"),
        ("a.jsonl", "{\"schema\":1,"),
        ("a.csv", "event,time,m"),
        ("a.txt", "STATE       "),
        ("a.log", "STATE       "),
    ] {
        let file = Written::new(name);
        for to in [file.path().to_owned(), format!("file:{},replace=true", file.path())] {
            let run = run(&[&listing[..], &["-o", &to]].concat());
            assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{}", run.stderr);
            assert_eq!(file.begin(), begin, "{to}");
            assert!(!run.stderr.contains("whatever its name"), "{}", run.stderr);
        }
    }
    // What is given for all outputs counts more, and that is said where the name says something else.
    let (json, text) = (Written::new("b.json"), Written::new("b.txt"));
    let both =
        run(&[&listing[..], &["--format", "csv", "-o", json.path(), "-o", &format!("{},format=text", text.path())]]
            .concat());
    assert_eq!((both.code, json.begin().as_str(), text.begin().as_str()), (Some(0), "event,time,m", "STATE       "));
    let want = format!("{} gets csv as --format says, whatever its name ends with", json.path());
    assert!(both.stderr.contains(&want) && !both.stderr.contains("b.txt"), "{}", both.stderr);
    let quiet = run(&[&listing[..], &["--json", "-q", "-o", text.path()]].concat());
    assert_eq!((quiet.code, text.begin().as_str()), (Some(0), "{\"schema\":1,"));
    assert!(!quiet.stderr.contains("whatever its name"), "{}", quiet.stderr);
    let said = run(&[&listing[..], &["--json", "-o", text.path()]].concat());
    assert!(said.stderr.contains("gets json as --json says"), "{}", said.stderr);
    assert_refused(&["story", "80", "-o", "/tmp/y.csv"], &["a story is not a row", "Usage: tcptrace story"]);
    assert_refused(&["--summary", "-o", "/tmp/y.csv"], &["csv has rows for events or findings only"]);
}
