//! Who holds a socket: all processes, whoever made it, by both ways.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::Command,
};

use serde_json::Value;
use socket2::Socket;

use crate::{
    Test,
    actor::{ACTIVATED_FD, Actor},
    net::{self, LOCALHOST, enter_new_netns, listen_on, pair, port, settle},
    sockets::comparable,
    tracer::{Listed, Removed, Run, Tracer, holders, sockets, temporary},
};

/// The tests of this file.
pub(crate) const TESTS: &[Test] = &[
    ("a parent and its child", forked),
    ("a socket that was sent to another process (SCM_RIGHTS)", sent),
    ("a listener that was inherited (socket activation)", activated),
    ("a pre-fork server", prefork),
    ("PIDs as a container sees them", pid_namespace),
];

/// Lists by both ways, and checks that they tell the same.
fn both_ways(port: u16) -> Listed {
    let port = port.to_string();
    let [iterators, no_iter] =
        [&[][..], &["--no-iter"]].map(|way| sockets(&[way, &["--netns", "self", "--port", &port]].concat()));
    let rows = |listed: &Listed| listed.rows.iter().map(comparable).collect::<Vec<_>>();
    assert_eq!(rows(&iterators), rows(&no_iter));
    iterators
}

fn pids(row: &Value) -> BTreeSet<u32> {
    holders(row).into_iter().map(|(pid, _)| pid).collect()
}

fn numbers(actor: &mut Actor, count: usize) -> Vec<u32> {
    (0..count).map(|_| actor.says().parse().unwrap()).collect()
}

/// The holders of a socket in this state that a final summary tells of, with the owner.
fn row_of(run: &Run, state: &str, condition: impl Fn(&Value) -> bool) -> (Value, BTreeSet<u32>) {
    let summary = run.summary();
    let rows = summary["sockets"].as_array().unwrap();
    let found = rows.iter().find(|row| row["state"] == state && condition(row));
    let row = found.unwrap_or_else(|| panic!("no such {state} in {summary:#}"));
    let holders = row["holders"].as_array().unwrap_or_else(|| panic!("{row:#}"));
    (row["owner"].clone(), holders.iter().map(|holder| holder["pid"].as_u64().unwrap() as u32).collect())
}

fn forked() {
    enter_new_netns();
    let mut actor = Actor::start("t-sharer", &["6601"]);
    let both: BTreeSet<_> = numbers(&mut actor, 2).into_iter().collect();
    assert!(both.contains(&actor.pid()));
    let listed = both_ways(6601);
    assert_eq!(listed.rows.len(), 3);
    for row in &listed.rows {
        assert_eq!((pids(row), &row["shared"]), (both.clone(), &true.into()), "{row:#}");
        let fds: BTreeSet<_> = holders(row).into_iter().map(|(_, fd)| fd).collect();
        assert_eq!(fds.len(), 1, "the child has it under the same number: {row:#}");
        for holder in row["holders"].as_array().unwrap() {
            assert_eq!((&holder["command"], &holder["ns_pid"]), (&"t-sharer".into(), &holder["pid"]), "{row:#}");
        }
    }
    for way in [&[][..], &["--no-iter"]] {
        let tracer = Tracer::here(&[way, &["--port", "6601"]].concat());
        let run = tracer.stop();
        for state in ["LISTEN", "ESTABLISHED"] {
            let (owner, holders) = row_of(&run, state, |_| true);
            assert_eq!(holders, both);
            // Which of them made it is not known: the first is named, and that there are others.
            assert_eq!(owner["owner_source"], "shared", "{owner:#}");
            assert_eq!(owner["pid"], *both.first().unwrap(), "{owner:#}");
        }
    }
}

/// Sends a socket over a Unix socket.
fn send_socket(over: &std::os::unix::net::UnixStream, socket: &Socket) {
    let mut byte = 1u8;
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeroes is an empty message; its parts live until it was sent, and have room for one descriptor.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(first).cast::<i32>().write_unaligned(socket.as_raw_fd());
        assert_eq!(libc::sendmsg(over.as_raw_fd(), &raw const message, 0), 1);
    }
}

fn sent() {
    enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen_on(SocketAddr::new(LOCALHOST, 6602));
    let (client, server) = pair(&listener, to);
    let client_port = port(&client);
    let path = Removed(temporary("unix"));
    let unix = std::os::unix::net::UnixListener::bind(&path.0).unwrap();
    let sender = std::thread::spawn({
        let client = client.try_clone().unwrap();
        move || send_socket(&unix.accept().unwrap().0, &client)
    });
    let mut receiver = Actor::start("t-receiver", &[path.0.to_str().unwrap()]);
    sender.join().unwrap();
    let (me, fd) = (std::process::id(), receiver.says().parse::<u32>().unwrap());
    let row = |listed: &Listed| listed.row(client_port, 6602).clone();
    let shared = row(&both_ways(6602));
    assert_eq!(holders(&shared), [(me, client.as_raw_fd() as u32), (receiver.pid(), fd)].into(), "{shared:#}");
    assert_eq!(shared["shared"], true);
    drop(client);
    let his = row(&both_ways(6602));
    assert_eq!((holders(&his), &his["shared"]), ([(receiver.pid(), fd)].into(), &false.into()), "{his:#}");
    settle();
    let run = tracer.stop();
    // Who made it is no holder any more: it is of who holds it now.
    let (owner, holders) = row_of(&run, "ESTABLISHED", |row| row["owner"]["pid"] == receiver.pid());
    assert_eq!((&owner["owner_source"], holders), (&"holder".into(), [receiver.pid()].into()), "{owner:#}");
    drop(server);
}

fn activated() {
    enter_new_netns();
    let tracer = Tracer::here(&[]);
    let (listener, to) = listen_on(SocketAddr::new(LOCALHOST, 6603));
    let mut command = Command::new(std::env::current_exe().unwrap());
    let fd = listener.as_raw_fd();
    // SAFETY: a system call that takes numbers only, after fork. The copy is not closed on exec, and its number is none
    // that the standard library uses until then.
    unsafe {
        command.pre_exec(move || match libc::dup2(fd, ACTIVATED_FD) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut server = Actor::start_as(command, "t-activated", &[]);
    let client = net::socket(LOCALHOST);
    client.connect(&to.into()).unwrap();
    assert_eq!(server.says(), "accepted");
    let (me, his) = (std::process::id(), server.pid());
    let listed = both_ways(6603);
    let row = listed.row(6603, 0);
    assert_eq!(
        (holders(row), &row["shared"]),
        ([(me, fd as u32), (his, ACTIVATED_FD as u32)].into(), &true.into()),
        "{row:#}"
    );
    let accepted = listed.row(6603, port(&client));
    assert_eq!((pids(accepted), &accepted["shared"]), ([his].into(), &false.into()), "{accepted:#}");
    settle();
    let run = tracer.stop();
    let (owner, holders) = row_of(&run, "LISTEN", |_| true);
    assert_eq!((&owner["pid"], &owner["owner_source"]), (&me.into(), &"listen".into()), "{owner:#}");
    assert_eq!(holders, [me, his].into());
    // Where accept(2) is not seen, nothing but the descriptor tells whose the connection is.
    let (owner, holders) = row_of(&run, "ESTABLISHED", |row| row["owner"]["owner_source"] != "connect");
    assert_eq!((holders, &owner["pid"]), ([his].into(), &his.into()), "{owner:#}");
    assert!(["holder", "accept"].contains(&owner["owner_source"].as_str().unwrap()), "{owner:#}");
}

fn prefork() {
    enter_new_netns();
    let tracer = Tracer::here(&[]);
    let mut server = Actor::start("t-sharer", &["6604", "3"]);
    let all: BTreeSet<_> = numbers(&mut server, 4).into_iter().collect();
    let client = net::socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, 6604).into()).unwrap();
    net::wait_readable(&client); // the answer of the child that accepted
    (&client).write_all(b"question").unwrap();
    let listed = both_ways(6604);
    let row = listed.row(6604, 0);
    assert_eq!((pids(row), all.len(), &row["shared"]), (all.clone(), 4, &true.into()), "{row:#}");
    let accepted = listed.row(6604, port(&client));
    let child = pids(accepted);
    assert!(child.len() == 1 && child.is_subset(&all) && !child.contains(&server.pid()), "{accepted:#}");
    settle();
    let run = tracer.stop();
    let (owner, holders) = row_of(&run, "LISTEN", |_| true);
    assert_eq!((&owner["pid"], holders), (&server.pid().into(), all), "{owner:#}");
    let (owner, _) = row_of(&run, "ESTABLISHED", |row| {
        row["holders"]
            .as_array()
            .is_some_and(|holders| holders.len() == 1 && child.contains(&(holders[0]["pid"].as_u64().unwrap() as u32)))
    });
    assert_eq!(owner["pid"], *child.first().unwrap(), "{owner:#}");
    assert!(["holder", "accept"].contains(&owner["owner_source"].as_str().unwrap()), "{owner:#}");
}

fn pid_namespace() {
    enter_new_netns();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
    let mut actor = Actor::start_as(unshare, "t-sharer", &["6605"]);
    let inside: BTreeSet<_> = numbers(&mut actor, 2).into_iter().collect();
    assert!(inside.contains(&1), "the first of its namespace: {inside:?}");
    let listed = both_ways(6605);
    for row in &listed.rows {
        let holders = row["holders"].as_array().unwrap();
        let ns_pids: BTreeSet<_> = holders.iter().map(|holder| holder["ns_pid"].as_u64().unwrap() as u32).collect();
        assert_eq!(ns_pids, inside, "{row:#}");
        for holder in holders {
            let status = std::fs::read_to_string(format!("/proc/{}/status", holder["pid"])).unwrap();
            let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
            let pids: Vec<u64> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            assert_eq!(holder["ns_pid"], *pids.last().unwrap(), "{row:#}");
            assert_ne!(holder["ns_pid"], holder["pid"], "{row:#}");
        }
    }
}
