//! `tcptrace top` in a real terminal (tmux), driven by keys: what it shows, and that it gives the terminal back.

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Test,
    net::{LOCALHOST, enter_new_netns, listen, pair, port},
    outputs::{Folder, connections},
    tracer::{Tracer, binary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a leak is found, looked at and explained by keys", live),
    ("stuck on a terminal is the same screen", stuck),
    ("every end gives the terminal back", ends),
    ("a terminal of any size has whole lines", sizes),
    ("a recording is stopped, moved and sped up", recorded),
    ("without a terminal it names other commands", elsewhere),
];

/// Limit for all that should take a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a shell, in this thread's network namespace.
struct Terminal {
    /// Name of the tmux server, which is this terminal's alone.
    server: String,
    folder: Folder,
}

impl Terminal {
    fn new(columns: u16, rows: u16) -> Self {
        let folder = Folder::new("top");
        let server = folder.0.file_name().unwrap().to_str().unwrap().to_owned();
        let terminal = Self { server, folder };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // The server is a child of this thread, and so in its namespace.
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, "env PS1='$ ' sh"]);
        terminal.wait_for("a prompt", |screen| screen.contains('$'));
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").args(["-f", "/dev/null", "-L", &self.server]).args(words).output().unwrap();
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Presses keys, each a name of tmux.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types text.
    fn write(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Types a line for the shell.
    fn line(&self, text: &str) {
        self.write(text);
        self.press(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen fulfils a condition.
    #[track_caller]
    fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if condition(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "no {what}:\n{screen}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits for text.
    #[track_caller]
    fn see(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Starts tcptrace between two looks at the terminal's modes.
    fn start(&self, words: &str) {
        let before = self.folder.file("before");
        self.line(&format!("stty -a > {before}; {} {words}; echo ended=$?", binary().display()));
    }

    /// Waits for the end of tcptrace, and checks that the shell has its terminal as it was.
    #[track_caller]
    fn assert_restored(&self) {
        let ended = |line: &str| line.strip_prefix("ended=").is_some_and(|code| code.starts_with(char::is_numeric));
        self.wait_for("an end", |screen| screen.lines().any(ended));
        self.line(&format!("clear; stty -a > {}", self.folder.file("after")));
        self.line("echo has\\ a\\ prompt");
        self.see("has a prompt");
        // Without its size, which tests change.
        let read =
            |name| fs::read_to_string(self.folder.file(name)).unwrap().split_once("line =").unwrap().1.to_owned();
        assert_eq!(read("before"), read("after"), "the terminal's modes");
        let state = "#{alternate_on} #{cursor_flag}";
        assert_eq!(self.tmux(&["display-message", "-p", state]).trim(), "0 1", "its own screen, and a cursor");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.server, "kill-server"]).output();
    }
}

fn live() {
    enter_new_netns();
    let (listener, to) = listen(LOCALHOST);
    let pairs: Vec<_> = (0..5).map(|_| pair(&listener, to)).collect();
    let terminal = Terminal::new(100, 30);
    terminal.start("top --netns self --stuck-after CLOSE_WAIT=1s");
    terminal.see("No finding");
    let held: Vec<_> = pairs.into_iter().map(|(client, server)| (port(&client), server)).collect();
    let screen = terminal.see("close-wait-leak");
    assert!(screen.contains("[1 Findings]") && screen.contains("1 finding"), "{screen}");
    terminal.see("has not called close()");
    terminal.press(&["2"]);
    let screen = terminal.see("[2 Sockets]");
    assert!(screen.contains("LISTEN") && screen.matches("CLOSE_WAIT").count() == 5, "{screen}");
    terminal.press(&["/"]);
    terminal.write("state == CLOSE_WAI");
    terminal.press(&["Enter"]);
    terminal.see("is not a TCP state");
    terminal.write("T");
    terminal.press(&["Enter"]);
    let screen = terminal.wait_for("the filter", |screen| screen.contains("filter: state == CLOSE_WAIT"));
    assert!(!screen.contains("LISTEN"), "{screen}");
    terminal.press(&["Enter"]);
    let screen = terminal.see("── Story");
    assert!(screen.contains("ESTABLISHED") && screen.contains("-> CLOSE_WAIT"), "{screen}");
    terminal.press(&["y"]);
    terminal.see("tcptrace story --netns=self cookie:");
    terminal.press(&["q", "e"]);
    let screen = terminal.see("tcptrace explain CLOSE_WAIT");
    assert!(screen.contains("The peer has closed"), "{screen}");
    terminal.press(&["q", "?"]);
    terminal.see("── Keys");
    terminal.press(&["q", "5"]);
    let screen = terminal.see("[5 States]");
    assert!(screen.contains("CLOSE_WAIT 5"), "{screen}");
    terminal.press(&["q"]);
    terminal.assert_restored();
    drop(held);
}

fn stuck() {
    enter_new_netns();
    let terminal = Terminal::new(80, 24);
    terminal.start("stuck --netns self");
    terminal.see("[1 Findings]");
    terminal.press(&["q"]);
    terminal.assert_restored();
    let file = terminal.folder.file("piped");
    terminal.start(&format!("stuck --netns self --duration 1s > {file}"));
    terminal.assert_restored();
    let piped = fs::read_to_string(&file).unwrap();
    assert!(piped.contains("after checking 0 sockets") && !piped.contains('\u{1b}'), "{piped}");
}

fn ends() {
    enter_new_netns();
    let terminal = Terminal::new(80, 24);
    let pid_file = terminal.folder.file("pid");
    let signal = |signal: i32| {
        let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        // SAFETY: takes no pointers; the PID is of the child of this terminal's shell, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    };
    let start = || {
        let before = terminal.folder.file("before");
        // `exec` keeps the PID of the subshell that writes it.
        let run = format!("sh -c 'echo $$ > {pid_file}; exec {} top --netns self'", binary().display());
        terminal.line(&format!("clear; stty -a > {before}; {run}; echo ended=$?"));
        terminal.see("[1 Findings]");
    };
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        start();
        signal(number);
        terminal.assert_restored();
    }
    start();
    terminal.press(&["C-c"]);
    terminal.assert_restored();
    start();
    terminal.press(&["C-z"]);
    terminal.wait_for("a shell", |screen| screen.contains("ended=") || screen.to_lowercase().contains("stopped"));
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on}"]).trim(), "0");
    terminal.line("clear; fg; echo ended=$?");
    terminal.see("[1 Findings]");
    terminal.press(&["Escape"]);
    terminal.assert_restored();
}

fn sizes() {
    enter_new_netns();
    let terminal = Terminal::new(60, 20);
    terminal.start("top --netns self");
    terminal.see("[1Findings]");
    for (columns, rows, text) in
        [("250", "80", "[1 Findings]"), ("40", "10", "the screen needs 60×16"), ("60", "16", "[1Findings]")]
    {
        terminal.tmux(&["resize-window", "-x", columns, "-y", rows]);
        terminal.wait_for(text, |screen| screen.split_whitespace().collect::<Vec<_>>().join(" ").contains(text));
    }
    terminal.press(&["q"]);
    terminal.assert_restored();
}

fn recorded() {
    enter_new_netns();
    let folder = Folder::new("top-recording");
    let file = folder.file("r");
    let tracer = Tracer::start(&["record", "-w", &file, "--netns", "self"]);
    let (listener, to) = listen(LOCALHOST);
    let (client, server) = pair(&listener, to);
    drop(client);
    sleep(Duration::from_millis(3500));
    connections(3);
    assert!(tracer.stop().status.success());
    drop(server);
    let terminal = Terminal::new(100, 30);
    terminal.start(&format!("replay {file} top --at +0s --stuck-after CLOSE_WAIT=1s"));
    terminal.see("paused");
    terminal.press(&["n"]);
    let screen = terminal.see("close-wait-leak");
    assert!(screen.contains("paused"), "{screen}");
    terminal.press(&["2"]);
    terminal.see("CLOSE_WAIT");
    terminal.press(&["Left", "Left"]);
    terminal.wait_for("two seconds before", |screen| !screen.contains("1 finding"));
    terminal.press(&["["]);
    terminal.wait_for("the beginning", |screen| !screen.contains("CLOSE_WAIT"));
    terminal.press(&["y"]);
    terminal.see(&format!("tcptrace replay {file} --to"));
    terminal.press(&["q", ">", ">"]);
    terminal.press(&["Space"]);
    terminal.see("×5");
    terminal.wait_for("the end", |screen| screen.contains("paused") && screen.contains("TIME_WAIT"));
    terminal.press(&["q"]);
    terminal.assert_restored();
}

fn elsewhere() {
    for words in [&["top"][..], &["top", "--netns", "self"]] {
        let output = Command::new(binary()).args(words).stdin(std::process::Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("tcptrace stuck") && stderr.contains("sockets --watch"), "{stderr}");
    }
}
