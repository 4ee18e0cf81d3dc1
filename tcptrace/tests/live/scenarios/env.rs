//! Where a scenario is played: network namespaces of its own, and actors in them that do what its script says.
//!
//! | line of a script | what it does |
//! | --- | --- |
//! | `near$ COMMAND`, `far$ COMMAND` | a shell command in that namespace |
//! | `near! RULE` | an nftables rule for what comes in; `near! flush` takes all away |
//! | `near? STATE == 3`, `near? COUNTER >= 1` | waits until ss(8) shows so many sockets, or nstat(8) such a count |
//! | `NAME> COMMAND [= ERRNO]` | an actor's doing (`actor.rs`), and what it must come to; a new name is a new process |
//! | `NAME@far> COMMAND` | the same for an actor in the far namespace |
//! | `NAME! SIGKILL` | ends an actor; `SIGSTOP` and `SIGCONT` stop it and let it go on |
//! | `join far` | makes the far namespace: 10.77.0.2, where the near one is 10.77.0.1 |
//! | `sleep TIME` | time passes |

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{
    actor::{PATIENCE, duration},
    expect::holds,
};
use crate::{actor::Actor, net, ss};

/// A place that is set for one scenario; its processes end with it.
pub(crate) struct Env {
    /// Inode numbers of its network namespaces: that of this thread, and the far one.
    pub netns: Vec<u64>,
    far: Option<File>,
    actors: BTreeMap<String, Actor>,
    /// PIDs of those that were killed.
    killed: BTreeMap<String, u64>,
    narrates: bool,
}

/// The far namespace is joined to the near one by a cable: `NEAR` stands for a task that is there.
const CABLE: [&str; 3] = [
    "far$ ip link add far type veth peer name near netns NEAR",
    "far$ ip address add 10.77.0.2/24 dev far; ip link set far up",
    "near$ ip address add 10.77.0.1/24 dev near; ip link set near up",
];

impl Env {
    /// Moves this thread into a new network namespace: the near one.
    pub(crate) fn new(narrates: bool) -> Self {
        let env = Self {
            netns: vec![enter_small_netns()],
            far: None,
            actors: BTreeMap::new(),
            killed: BTreeMap::new(),
            narrates,
        };
        env.say("near$ unshare --net; ip link set lo up");
        env
    }

    /// The PID of an actor, or the number of its descriptor: `server`, `server.S0`.
    pub(crate) fn number_of(&mut self, name: &str) -> u64 {
        let (name, socket) = name.split_once('.').unwrap_or((name, ""));
        if let Some(pid) = self.killed.get(name) {
            return *pid;
        }
        let actor = self.actors.get_mut(name).unwrap_or_else(|| panic!("no actor {name}"));
        if socket.is_empty() {
            return actor.pid().into();
        }
        actor.tell(&format!("fd {socket}"));
        actor.says().parse().unwrap()
    }

    /// Plays a script, line by line.
    pub(crate) fn play(&mut self, script: &str) {
        script.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| self.line(line));
    }

    fn line(&mut self, line: &str) {
        let (who, what) = line.split_once(' ').unwrap();
        match who {
            "join" => self.join_far(),
            "sleep" => {
                self.say(line);
                std::thread::sleep(duration(what).unwrap());
            }
            "near$" => self.shell(false, what),
            "far$" => self.shell(true, what),
            "near!" if what == "flush" => self.shell(false, "nft flush ruleset"),
            "near!" => self.shell(
                false,
                &format!(
                    "nft 'add table inet t; add chain inet t in {{ type filter hook input priority 0; }}; \
                     add rule inet t in {what}'"
                ),
            ),
            "near?" => {
                let (name, start) = (what.split(' ').next().unwrap(), Instant::now());
                while !holds(what, &count(name)) {
                    assert!(
                        start.elapsed() < PATIENCE,
                        "{line}: there is {}; {:#?}; {:?}",
                        count(name),
                        ss::list(),
                        counters().iter().filter(|(_, value)| *value != 0).collect::<Vec<_>>(),
                    );
                    std::thread::sleep(Duration::from_millis(20));
                }
                self.say(&format!("# there: {what}"));
            }
            _ => match who.strip_suffix('>') {
                Some(who) => self.actor(who, what),
                None => self.signal(who.trim_end_matches('!'), what),
            },
        }
    }

    fn signal(&mut self, name: &str, signal: &str) {
        self.say(&format!("$ kill -{signal} # {name}"));
        if signal == "SIGKILL" {
            let actor = self.actors.remove(name).unwrap();
            self.killed.insert(name.to_owned(), actor.pid().into());
            return actor.kill();
        }
        let pid = self.actors[name].pid().cast_signed();
        let number = if signal == "SIGSTOP" { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: takes numbers; the process is our child, and was not waited for.
        assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    }

    fn actor(&mut self, who: &str, what: &str) {
        let (name, place) = who.split_once('@').unwrap_or((who, "near"));
        if !self.actors.contains_key(name) {
            let actor = self.inside(place == "far", || Actor::start("t-actor", &[name]));
            self.say(&format!("# process {}, in {place}: {name}", actor.pid()));
            self.actors.insert(name.to_owned(), actor);
        }
        let (command, expected) = what.split_once(" = ").unwrap_or((what, "ok"));
        self.say(&format!("{name}> {what}"));
        let actor = self.actors.get_mut(name).unwrap();
        actor.tell(command);
        assert_eq!(actor.says(), expected, "{who}> {what}");
    }

    fn shell(&self, is_far: bool, command: &str) {
        // SAFETY: takes nothing and cannot fail.
        let this = unsafe { libc::gettid() };
        let command = command.replace("NEAR", &this.to_string());
        self.say(&format!("{}$ {command}", if is_far { "far" } else { "near" }));
        let output = self.inside(is_far, || Command::new("sh").args(["-c", &command]).output().unwrap());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs something in one of the namespaces; a process that it starts is there.
    fn inside<T: Send>(&self, is_far: bool, run: impl FnOnce() -> T + Send) -> T {
        let far = self.far.as_ref().filter(|_| is_far).map(|far| far.as_raw_fd());
        let Some(far) = far else { return run() };
        let there = move || {
            // SAFETY: takes numbers only; the thread ends with this.
            assert_eq!(unsafe { libc::setns(far, libc::CLONE_NEWNET) }, 0);
            run()
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    fn join_far(&mut self) {
        let (send, receive) = mpsc::channel();
        let enter = move || {
            enter_small_netns();
            send.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        };
        std::thread::spawn(enter).join().unwrap();
        let far = receive.recv().unwrap();
        self.netns.push(far.metadata().unwrap().ino());
        self.far = Some(far);
        self.say("far$ unshare --net; ip link set lo up");
        CABLE.iter().for_each(|line| self.line(line));
    }

    fn say(&self, line: &str) {
        if self.narrates {
            println!("{line}");
        }
    }
}

/// Moves this thread into a new network namespace with a small table of sockets of its own, where the kernel can do that
/// (6.1 and later). Others share the host's, and whoever lists the sockets of one of them goes through all of it, as
/// many times as there are namespaces.
pub(crate) fn enter_small_netns() -> u64 {
    let netns = net::enter_new_netns();
    match fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", "1024") {
        Ok(()) => net::enter_new_netns(),
        Err(_) => netns,
    }
}

/// How many sockets are in a state in this thread's namespace, or a counter of its: `TcpExtListenOverflows`.
fn count(name: &str) -> serde_json::Value {
    if !name.starts_with("Tcp") {
        return ss::counts().get(name).copied().unwrap_or(0).into();
    }
    let mut counters = counters().into_iter();
    counters.find(|(other, _)| other == name).unwrap_or_else(|| panic!("no counter {name}")).1.into()
}

/// The kernel's counters of TCP in this thread's namespace.
fn counters() -> Vec<(String, i64)> {
    let mut all = Vec::new();
    for (file, group) in [("snmp", "Tcp"), ("netstat", "TcpExt")] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        let prefix = format!("{group}: ");
        let mut rows = text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::split_whitespace);
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        all.extend(names.zip(values).map(|(name, value)| (format!("{group}{name}"), value.parse().unwrap())));
    }
    all
}
