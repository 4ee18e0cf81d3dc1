//! Connections to a syslog server.

use std::{io, net::UdpSocket, os::unix::net::UnixDatagram, time::Duration};

use super::stream::Stream;
use crate::{
    outputs::{syslog::target::SyslogTarget, waiting::Waiting},
    pipeline::records::Records,
    sys::workers,
};

/// Time limit for connecting, and for a server that accepts nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket connected to the server.
pub(super) enum Connection {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(Stream),
}

impl Connection {
    /// Connects; a host name is looked up each time.
    pub(super) fn new(target: &SyslogTarget) -> io::Result<Self> {
        match target {
            SyslogTarget::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(path)?;
                Ok(Self::Unix(socket))
            }
            SyslogTarget::Udp(host, port) => first_of(host, *port, |address| {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }),
            SyslogTarget::Tcp(host, port) => {
                first_of(host, *port, |address| Stream::connect(address, PATIENCE).map(Self::Tcp))
            }
        }
    }

    /// True if the server still seems to be there.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Udp(_) => true,
            Self::Tcp(stream) => stream.is_open(),
        }
    }

    /// Sends messages, and removes those that were delivered.
    pub(super) fn send(&mut self, messages: &mut Records) -> io::Result<()> {
        match self {
            Self::Unix(socket) => send_each(messages, |message| socket.send(message)),
            Self::Udp(socket) => send_each(messages, |message| {
                let sent = socket.send(message)?;
                // If this host refused the message, the error is there already; from a remote host it may be. Then the
                // message did not arrive.
                socket.take_error()?.map_or(Ok(sent), Err)
            }),
            Self::Tcp(stream) => stream.send(messages),
        }
    }
}

fn send_each(messages: &mut Records, send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    loop {
        let Some(message) = messages.iter().next() else { return Ok(()) };
        workers::silent_for(PATIENCE);
        match send(message) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        messages.take(1);
    }
}

/// The first address of a host that accepts a connection.
fn first_of<T>(host: &str, port: u16, connect: impl Fn(std::net::SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut failed = io::Error::other("the name has no address");
    // The C library's resolver may take minutes.
    let found = Waiting::new()?.wait(PATIENCE, tokio::net::lookup_host((host, port)));
    for address in found.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the name lookup timed out")))? {
        workers::silent_for(PATIENCE);
        match connect(address) {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
