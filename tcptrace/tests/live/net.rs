//! Sockets and network namespaces for the tests.

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Loopback of IPv4.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Moves this thread into a new network namespace whose loopback device is up; gives its inode number. The namespace
/// goes when the last thread, process and socket in it are gone.
pub(crate) fn enter_new_netns() -> u64 {
    // SAFETY: takes no pointers; affects this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", io::Error::last_os_error());
    // Raw sockets of `struct ifreq` need no more than its name and flags.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the `ifreq` that is given.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}

/// An unconnected TCP socket for `address`'s family.
pub(crate) fn socket(address: IpAddr) -> Socket {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap()
}

/// A socket that listens on a port of the kernel's choice, and its address.
pub(crate) fn listen(address: IpAddr) -> (Socket, SocketAddr) {
    listen_on(SocketAddr::new(address, 0))
}

/// A socket that listens there.
pub(crate) fn listen_on(address: SocketAddr) -> (Socket, SocketAddr) {
    let socket = socket(address.ip());
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    let bound = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, bound)
}

/// A connected pair: the client's end, and the server's as `listener` accepts it.
pub(crate) fn pair(listener: &Socket, to: SocketAddr) -> (Socket, Socket) {
    let client = socket(to.ip());
    client.connect(&to.into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// A connection to a `t-namer` on a port, and the PID that it says.
pub(crate) fn named_by(port: u16) -> (Socket, u32) {
    let client = socket(LOCALHOST);
    client.connect(&SocketAddr::new(LOCALHOST, port).into()).unwrap();
    let mut pid = [0; 4];
    (&client).read_exact(&mut pid).unwrap();
    (client, u32::from_ne_bytes(pid))
}

/// Ends a connection so that the client's end goes by FIN_WAIT2 to TIME_WAIT, however late either end acts: one that
/// nobody holds any more leaves FIN_WAIT2 for a mini-socket when the peer takes longer than a delayed ACK.
pub(crate) fn close((client, server): (Socket, Socket)) {
    client.shutdown(std::net::Shutdown::Write).unwrap();
    wait_for_fin(&server);
    drop(server);
    wait_for_fin(&client);
}

/// Local port of a socket.
pub(crate) fn port(socket: &Socket) -> u16 {
    socket.local_addr().unwrap().as_socket().unwrap().port()
}

/// Sends all of `bytes`, and receives them at the other end.
pub(crate) fn exchange(from: &Socket, to: &Socket, bytes: &[u8]) {
    assert_eq!(from.send(bytes).unwrap(), bytes.len());
    let mut got = 0;
    let mut buffer = [std::mem::MaybeUninit::new(0); 1024];
    while got < bytes.len() {
        got += to.recv(&mut buffer).unwrap();
    }
}

/// Waits until the peer's FIN arrives.
pub(crate) fn wait_for_fin(socket: &Socket) {
    let mut buffer = [std::mem::MaybeUninit::new(0); 16];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 0);
}

/// Waits until there is something to receive, or somebody to accept, without touching it.
pub(crate) fn wait_readable(socket: &Socket) {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd`, as is said.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 30_000) }, 1, "nothing comes");
}

/// From now on the socket receives nothing (a filter that is `ret 0`): as if what is sent to it were lost.
pub(crate) fn lose_input(socket: &Socket) {
    socket.attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)]).unwrap();
}

/// The end of [`lose_input`].
pub(crate) fn receive_again(socket: &Socket) {
    socket.detach_filter().unwrap();
}

/// A short sleep, to keep things in order where nothing tells that they happened.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(30));
}

/// Sets a parameter of this thread's network namespace: `net.ipv4.<name>`.
pub(crate) fn sysctl(name: &str, value: u32) {
    // The namespace of the thread that opens it counts, not that of the process.
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value.to_string()).unwrap();
}

/// CLOCK_MONOTONIC in ns.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Begins a connection, and does not wait for it.
pub(crate) fn begin_connect(client: &Socket, to: SocketAddr) {
    client.set_nonblocking(true).unwrap();
    let _ = client.connect(&to.into()); // EINPROGRESS
    client.set_nonblocking(false).unwrap();
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
