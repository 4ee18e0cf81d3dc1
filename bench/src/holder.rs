//! A process that holds a number of sockets in every state of TCP until it is killed.
//!
//! Sockets that last are made once. TIME_WAIT and orphans in FIN_WAIT2 end after a minute, so they are made at a steady
//! rate: a minute after the start as many end as begin, and their number stays constant.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xtask::socket_option::{drop_input, pass_input};

use crate::process;

/// How long a mini-socket lives (`TCP_TIMEWAIT_LEN` of the kernel's `include/net/tcp.h`, and tcp_fin_timeout).
pub(crate) const MINI_LIFE: Duration = Duration::from_secs(60);

/// Printed when all sockets that last exist.
pub(crate) const READY: &str = "ready";

/// Sysctls of the namespace, without which the kernel would keep fewer sockets.
pub(crate) const SYSCTLS: [(&str, &str); 9] = [
    ("ip_local_port_range", "1024 65535"),
    ("tcp_max_tw_buckets", "1000000"),
    ("tcp_tw_reuse", "0"),
    ("tcp_fin_timeout", "60"),
    ("tcp_syncookies", "0"),
    ("tcp_max_syn_backlog", "65536"),
    // Wait for peers that never answer.
    ("tcp_syn_retries", "100"),
    ("tcp_synack_retries", "100"),
    ("tcp_retries2", "100"),
];

/// Options of the hidden command `tcptrace-bench holder`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Index of this holder: it uses the address 127.0.INDEX.1
    index: u8,
    /// Sockets in all states, in the proportions of a busy host
    #[arg(long, default_value_t = 0)]
    mixed: usize,
    /// Sockets in TIME_WAIT
    #[arg(long, default_value_t = 0)]
    time_wait: usize,
}

/// Holds sockets until killed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    process::end_with_parent().context("cannot tie its life to the benchmark's")?;
    process::raise_descriptor_limit().context("RLIMIT_NOFILE: cannot be raised")?;
    let share = |percent: usize| args.mixed * percent / 100;
    let server = Server::new(args.index).with_context(|| format!("127.0.{}.1: cannot listen", args.index))?;
    let held = hold(&server, share).context("cannot make the sockets that are to be held")?;
    println!("{READY}");
    io::stdout().flush().context("stdout")?;
    make_minis(&server, share(16) + args.time_wait, share(8)).context("cannot make sockets that end")?;
    drop(held);
    Ok(ExitCode::SUCCESS)
}

/// Makes the sockets that last. `share` turns a percentage into a number of sockets.
fn hold(server: &Server, share: impl Fn(usize) -> usize) -> io::Result<(Vec<TcpListener>, Vec<TcpStream>)> {
    let mut held = Vec::new();
    let listeners: io::Result<Vec<_>> = (1..share(1)).map(|_| TcpListener::bind((server.address, 0))).collect();
    for _ in 0..share(53) / 2 {
        held.extend(server.connection()?); // both ESTABLISHED
    }
    for _ in 0..share(12) / 2 {
        let [client, accepted] = server.connection()?;
        client.shutdown(Shutdown::Write)?; // FIN_WAIT2 and CLOSE_WAIT
        held.extend([client, accepted]);
    }
    for _ in 0..share(4) / 2 {
        held.push(server.half_open()?); // SYN_SENT and SYN_RECV
    }
    for _ in 0..share(2) / 2 {
        let [client, accepted] = server.connection()?;
        drop_input(&accepted)?;
        client.shutdown(Shutdown::Write)?; // FIN_WAIT1 and ESTABLISHED
        held.extend([client, accepted]);
    }
    for _ in 0..share(2) / 2 {
        let [client, accepted] = server.connection()?;
        client.shutdown(Shutdown::Write)?;
        drop_input(&client)?;
        accepted.shutdown(Shutdown::Write)?; // FIN_WAIT2 and LAST_ACK
        held.extend([client, accepted]);
    }
    for _ in 0..share(2) / 2 {
        let [client, accepted] = server.connection()?;
        drop_input(&client)?;
        drop_input(&accepted)?;
        client.shutdown(Shutdown::Write)?;
        accepted.shutdown(Shutdown::Write)?;
        pass_input(&client)?; // CLOSING, when the FIN comes again, and FIN_WAIT1
        held.extend([client, accepted]);
    }
    Ok((listeners?, held))
}

/// Keeps a number of sockets in TIME_WAIT, and orphans in FIN_WAIT2 with a peer in CLOSE_WAIT each, for ever.
fn make_minis(server: &Server, time_wait: usize, orphans_and_peers: usize) -> io::Result<()> {
    const STEP: Duration = Duration::from_millis(100);
    let steps = (MINI_LIFE.as_millis() / STEP.as_millis()) as usize;
    let (orphans, mut peers) = (orphans_and_peers / 2, VecDeque::new());
    let start = Instant::now();
    for step in 1_u32.. {
        let due = |count: usize| {
            let up_to = |step: usize| count * step / steps;
            up_to(step as usize) - up_to(step as usize - 1)
        };
        for _ in 0..due(time_wait) {
            let [client, accepted] = server.connection()?;
            drop(client); // the first to close
            drop(accepted);
        }
        for _ in 0..due(orphans) {
            let [client, accepted] = server.connection()?;
            drop(client);
            peers.push_back(accepted);
        }
        peers.drain(..peers.len().saturating_sub(orphans));
        thread::sleep((start + STEP * step).saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// A listener, and connections to it.
struct Server {
    address: Ipv4Addr,
    listener: TcpListener,
    at: SocketAddrV4,
}

impl Server {
    fn new(index: u8) -> io::Result<Self> {
        let address = Ipv4Addr::new(127, 0, index, 1);
        let at = SocketAddrV4::new(address, 1000);
        Ok(Self { address, listener: TcpListener::bind(at)?, at })
    }

    /// A new connection: the end that connected, and the end that was accepted.
    fn connection(&self) -> io::Result<[TcpStream; 2]> {
        let client = TcpStream::connect(self.at)?;
        Ok([client, self.listener.accept()?.0])
    }

    /// A client that never gets the SYN-ACK.
    fn half_open(&self) -> io::Result<TcpStream> {
        // SAFETY: socket takes integers alone.
        let socket =
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor, and nothing else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        drop_input(&socket)?;
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: self.at.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(self.address).to_be() },
            sin_zero: [0; 8],
        };
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address lives through the call, and its length is given.
        let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
        match io::Error::last_os_error() {
            error if result != 0 && error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket.into()),
        }
    }
}
