//! The processes of the demo. Each does one thing, well or badly, and its command name says which.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use xtask::socket_option;

/// Options of the hidden command `cargo xtask demo-actor`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What this process does
    role: Role,
    /// How often a client does it
    #[arg(long, default_value_t = 1)]
    times: u32,
}

/// What a process of the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Answers requests and closes.
    WebServer,
    /// Sends `WebServer` a request and closes.
    WebClient,
    /// Never closes connections that its peers have closed.
    LeakyServer,
    /// Sends `LeakyServer` a request and closes.
    LeakyClient,
    /// Connects where nobody listens.
    RefusedClient,
    /// Answers requests of `ResetClient`.
    ResetServer,
    /// Sends `ResetServer` a request and aborts without reading the answer.
    ResetClient,
    /// Drops what arrives for a while after accepting.
    LossyServer,
    /// Sends `LossyServer` a request, which is retransmitted.
    LossyClient,
}

/// How long `LossyServer` drops what arrives: long enough for two retransmits, some 200 and 600 ms after the first loss.
const LOSS: Duration = Duration::from_millis(700);

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

impl Role {
    /// The servers: they must listen before the first client connects.
    pub(crate) const SERVERS: [Self; 4] = [Self::WebServer, Self::LeakyServer, Self::ResetServer, Self::LossyServer];

    /// The command name, within the 15 bytes that Linux keeps; also the role's name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn address(self) -> SocketAddr {
        let port = match self {
            Self::WebServer | Self::WebClient => 7000,
            Self::LeakyServer | Self::LeakyClient => 7010,
            Self::RefusedClient => 7020,
            Self::ResetServer | Self::ResetClient => 7030,
            Self::LossyServer | Self::LossyClient => 7040,
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// The time between two connections of a client.
const PAUSE: Duration = Duration::from_millis(300);

/// Plays a role: a server until killed.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let role = args.role;
    prepare(role)?;
    if Role::SERVERS.contains(&role) {
        serve(role)
    } else {
        for _ in 0..args.times {
            request(role).with_context(|| role.name())?;
            thread::sleep(PAUSE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes the role's name, and makes the kernel kill this process when the demo ends, even by SIGKILL.
fn prepare(role: Role) -> Result<()> {
    let mut name = role.name().into_bytes();
    name.push(0);
    // SAFETY: the name is terminated and lives through the call; the kernel copies at most 16 bytes of it.
    if unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) } != 0 {
        bail!("{}: cannot take this name: {}", role.name(), io::Error::last_os_error());
    }
    // SAFETY: this option takes a signal number alone.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        bail!("{}: cannot tie its life to the demo's: {}", role.name(), io::Error::last_os_error());
    }
    Ok(())
}

fn serve(role: Role) -> Result<ExitCode> {
    let address = role.address();
    let listener = TcpListener::bind(address).with_context(|| format!("{address}: cannot listen on it"))?;
    // The demo waits for this before it starts a client.
    println!("listening");
    let mut leaked = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().with_context(|| format!("{address}: cannot accept"))?;
        // Some clients reset on purpose, so errors end a connection and not the server.
        match role {
            Role::LossyServer => {
                if lose_for_a_while(&stream).and_then(|()| answer(&mut stream)).is_err() {
                    continue;
                }
                let _ = until_closed(&mut stream);
            }
            Role::LeakyServer => {
                if answer(&mut stream).is_ok() {
                    leaked.push(stream);
                }
            }
            _ => {
                if answer(&mut stream).is_ok() {
                    let _ = until_closed(&mut stream);
                }
            }
        }
    }
}

fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = [0; REQUEST.len()];
    stream.read_exact(&mut request)?;
    // Some work, so that the time in ESTABLISHED is worth reading.
    thread::sleep(Duration::from_millis(20));
    stream.write_all(ANSWER)
}

fn until_closed(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(|_| ())
}

fn request(role: Role) -> Result<()> {
    let address = role.address();
    let stream = TcpStream::connect(address);
    if role == Role::RefusedClient {
        return match stream {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{address}: not refused")),
            Ok(_) => bail!("{address}: somebody listens"),
        };
    }
    let mut stream = stream.with_context(|| format!("{address}: cannot connect"))?;
    if role == Role::LossyClient {
        // The server must have begun to drop before the request arrives.
        thread::sleep(Duration::from_millis(50));
    }
    stream.write_all(REQUEST).with_context(|| format!("{address}: cannot send"))?;
    if role == Role::ResetClient {
        thread::sleep(Duration::from_millis(5));
        // Closing a socket that may not linger sends RST at once.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        return socket_option::set(&stream, libc::SO_LINGER, &linger).context("SO_LINGER");
    }
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).with_context(|| format!("{address}: no answer"))
}

/// Drops what arrives for a while: the sender sees a network that loses packets.
fn lose_for_a_while(stream: &TcpStream) -> io::Result<()> {
    socket_option::drop_input(stream)?;
    thread::sleep(LOSS);
    socket_option::pass_input(stream)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::Role;

    #[test]
    fn names_fit_into_what_linux_keeps() {
        for role in Role::value_variants() {
            let name = role.name();
            assert!(!name.is_empty() && name.len() <= 15, "{name}");
        }
    }
}
