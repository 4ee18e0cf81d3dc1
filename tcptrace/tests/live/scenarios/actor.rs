//! The actors of the scenarios: processes that do with sockets what they are told, a line at a time, and answer each
//! with `ok` or the name of the errno.
//!
//! A socket has a name. `C*3` stands for C0, C1 and C2: what is told is done with each.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io::{self, BufRead as _, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr},
    ops::Range,
    os::fd::AsRawFd as _,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::net;

/// What does not come in this time does not come: a scenario goes wrong rather than waits forever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

type Sockets = BTreeMap<String, Socket>;

/// The role: plays under `name` until its stdin ends.
pub(crate) fn play(name: &str) {
    let name = CString::new(name).unwrap();
    // SAFETY: the name is NUL-terminated; the kernel takes the first 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    println!("ready");
    let mut sockets = Sockets::new();
    for line in io::stdin().lock().lines() {
        match obey(&mut sockets, &line.unwrap()) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("{}", errno(&error)),
        }
    }
}

/// A time: `200ms` or `2s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()? * unit))
}

fn errno(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::EMFILE) => "EMFILE",
        Some(libc::EAGAIN) => "EAGAIN",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::ETIMEDOUT) => "ETIMEDOUT",
        Some(libc::EADDRNOTAVAIL) => "EADDRNOTAVAIL",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        _ => return error.to_string(),
    };
    name.to_owned()
}

fn obey(sockets: &mut Sockets, line: &str) -> io::Result<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (verb, rest) = (words[0], &words[2..]);
    if verb == "fd" {
        return Ok(sockets[words[1]].as_raw_fd().to_string());
    }
    let (name, count) = match words[1].split_once('*') {
        Some((name, count)) => (name, count.parse().unwrap()),
        None => (words[1], 0),
    };
    match count {
        0 => act(sockets, verb, name, rest, 0)?,
        _ => (0..count).try_for_each(|index| act(sockets, verb, &format!("{name}{index}"), rest, index))?,
    }
    Ok("ok".to_owned())
}

fn act(sockets: &mut Sockets, verb: &str, name: &str, rest: &[&str], index: u32) -> io::Result<()> {
    let number = |at: usize| rest[at].parse::<usize>().unwrap();
    let time = |at: usize| duration(rest[at]).unwrap();
    let after = |word: &str| rest.iter().position(|other| *other == word).map(|at| rest[at + 1]);
    let made = match verb {
        "listen" => {
            let to: SocketAddr = rest[0].parse().unwrap();
            let socket = net::socket(to.ip());
            socket.set_reuse_address(true)?;
            socket.bind(&to.into())?;
            socket.listen(rest.get(1).map_or(128, |backlog| backlog.parse().unwrap()))?;
            Some(socket)
        }
        // `connect C ADDRESS [from ADDRESS] [within TIME]`; `begin` does not wait. `?` is the socket's number.
        "connect" | "begin" => {
            let to: SocketAddr = rest[0].replace('?', &(index + 1).to_string()).parse().unwrap();
            let socket = net::socket(to.ip());
            socket.set_tcp_nodelay(true)?;
            if let Some(from) = after("from") {
                socket.set_reuse_address(true)?;
                socket.bind(&from.parse::<SocketAddr>().unwrap().into())?;
            }
            if let Some(time) = after("within") {
                socket.set_tcp_user_timeout(duration(time))?;
            }
            match verb {
                "connect" => socket.connect(&to.into())?,
                _ => net::begin_connect(&socket, to),
            }
            Some(socket)
        }
        "accept" => Some(sockets[rest[0]].accept()?.0),
        _ => None,
    };
    if let Some(socket) = made {
        socket.set_read_timeout(Some(PATIENCE))?;
        sockets.insert(name.to_owned(), socket);
        return Ok(());
    }
    if verb == "close" {
        sockets.remove(name).unwrap();
        return Ok(());
    }
    // `syns ADDRESS to ADDRESS times N`; `flood` goes on with them until the process ends.
    if ["syns", "flood"].contains(&verb) {
        let (from, to, count) = (name.parse().unwrap(), rest[1].parse().unwrap(), number(3) as u16);
        raw_syns(to, from, 1024..1024 + count)?;
        if verb == "flood" {
            std::thread::spawn(move || {
                for round in (2..60).cycle() {
                    std::thread::sleep(Duration::from_millis(200));
                    raw_syns(to, from, round * 1000..round * 1000 + count).unwrap();
                }
            });
        }
        return Ok(());
    }
    // The process may have so many descriptors.
    if verb == "descriptors" {
        let most = number(0) as u64;
        let limit = libc::rlimit { rlim_cur: most, rlim_max: 1024 };
        // SAFETY: reads a `rlimit` from where one is.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        return if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    }
    let mut socket = sockets.get(name).unwrap_or_else(|| panic!("no {name}"));
    match verb {
        "send" => socket.write_all(rest[0].as_bytes()),
        "fill" => fill(socket),
        "trickle" => (0..number(0)).try_for_each(|_| {
            std::thread::sleep(time(1));
            socket.write_all(b"x")
        }),
        "read" => socket.read_exact(&mut vec![0; number(0)]),
        "drain" => drain(socket),
        // `sip S N TIME`: N times a little, after that time.
        "sip" => (0..number(0)).try_for_each(|_| {
            std::thread::sleep(time(1));
            socket.read_exact(&mut [0; 256])
        }),
        "eof" => match socket.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("data")),
        },
        "error" => error_of(socket),
        "shutdown" => socket.shutdown(Shutdown::Write),
        "linger" => socket.set_linger(Some(Duration::ZERO)),
        "keepalive" => {
            let settings = TcpKeepalive::new().with_time(time(0)).with_interval(time(1)).with_retries(number(2) as u32);
            socket.set_tcp_keepalive(&settings)
        }
        "deaf" => {
            net::lose_input(socket);
            Ok(())
        }
        "hearing" => {
            net::receive_again(socket);
            Ok(())
        }
        "vanish" => {
            repair(socket)?;
            drop(sockets.remove(name));
            Ok(())
        }
        _ => panic!("{verb}?"),
    }
}

/// Sends as much as there is room for.
fn fill(mut socket: &Socket) -> io::Result<()> {
    // On a slow path the buffer may be full for a moment before the peer's window is.
    socket.set_write_timeout(Some(Duration::from_millis(200)))?;
    let full = loop {
        match socket.write(&[0; 4096]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
            other => drop(other?),
        }
    };
    socket.set_write_timeout(None)?;
    full
}

/// Receives until nothing has come for a moment.
fn drain(mut socket: &Socket) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    loop {
        match socket.read(&mut [0; 65536]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
            Ok(0) => break Ok(()),
            other => drop(other?),
        }
    }
}

/// Waits until the connection has failed.
fn error_of(socket: &Socket) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one `pollfd`, as is said.
    unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) };
    socket.take_error()?.map_or(Ok(()), Err)
}

/// From now on the socket can be closed without a word to its peer (TCP_REPAIR), as when a machine loses its power.
fn repair(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: reads an int, of the size that is given.
    let result = unsafe {
        let len = size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, (&raw const on).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends SYNs to an address, each from a port of its own of an address that nobody listens at (RFC 9293, section 3.1).
fn raw_syns(to: SocketAddr, from: Ipv4Addr, source_ports: Range<u16>) -> io::Result<()> {
    let IpAddr::V4(destination) = to.ip() else { panic!("{to}?") };
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(from.into(), 0).into())?;
    for source_port in source_ports {
        let mut segment = [0u8; 20];
        segment[0..2].copy_from_slice(&source_port.to_be_bytes());
        segment[2..4].copy_from_slice(&to.port().to_be_bytes());
        segment[12..16].copy_from_slice(&[5 << 4, 2, 0xff, 0xff]); // 5 words, SYN, the largest window
        let pseudo = [&from.octets()[..], &destination.octets(), &[0, 6, 0, 20], &segment].concat();
        let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        socket.send_to(&segment, &to.into())?;
    }
    Ok(())
}
