//! Connections without any trouble, in great number: half of them idle, the others used, some closed and opened anew.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::actor::Actor;

/// Where the servers listen.
const SERVER: &str = "127.0.0.1:7000";

/// A server with its clients in one network namespace.
pub(crate) struct Healthy {
    /// Inode number of the namespace.
    pub netns: u64,
    place: File,
    // Ends first: it complains of a server that is gone.
    client: Actor,
    server: Actor,
}

impl Healthy {
    /// Opens so many connections in a namespace of their own.
    pub(crate) fn start(connections: usize) -> Self {
        let start = move || {
            let netns = super::env::enter_small_netns();
            let place = File::open("/proc/thread-self/ns/net").unwrap();
            let server = Actor::start("t-healthy", &["server", "0"]);
            Self { netns, place, client: Actor::start("t-healthy", &["client", &connections.to_string()]), server }
        };
        std::thread::spawn(start).join().unwrap()
    }

    /// Closes all; gives how many were closed and opened anew before, and what keeps the namespace's number from others.
    pub(crate) fn stop(mut self) -> (u64, File) {
        self.client.go();
        let renewed = self.client.says().parse().unwrap();
        self.client.wait();
        self.server.kill();
        (renewed, self.place)
    }
}

/// The role: a server that answers with what it was sent until it is killed, or a client of so many connections until
/// it is told to go.
pub(crate) fn play(side: &str, connections: &str) {
    match side {
        "server" => serve(),
        _ => use_connections(connections.parse().unwrap()),
    }
}

fn serve() {
    let listener = TcpListener::bind(SERVER).unwrap();
    println!("ready");
    let mut streams: Vec<TcpStream> = Vec::new();
    loop {
        let fds = [listener.as_raw_fd()].into_iter().chain(streams.iter().map(|stream| stream.as_raw_fd()));
        let mut polled: Vec<_> = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: as many `pollfd`s as are said.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, -1) };
        let is_ready = |poll: &libc::pollfd| poll.revents != 0;
        let mut ready = polled[1..].iter().map(is_ready);
        streams.retain_mut(|stream| !ready.next().unwrap() || answer(stream));
        if is_ready(&polled[0]) {
            streams.push(listener.accept().unwrap().0);
        }
    }
}

/// Whether the client is still there.
fn answer(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(len @ 1..) => stream.write_all(&buffer[..len]).is_ok(),
        _ => false,
    }
}

fn use_connections(count: usize) {
    let open = || TcpStream::connect(SERVER).unwrap();
    let mut streams: Vec<_> = (0..count).map(|_| open()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let word = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        word.store(true, Ordering::Relaxed);
    });
    println!("ready");
    let mut renewed = 0u64;
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ask(&mut streams[turn % (count / 2)]);
        if turn % 20 == 0 {
            streams[turn / 20 % (count / 4)] = open();
            renewed += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(streams);
    println!("{renewed}");
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"question").unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
}
