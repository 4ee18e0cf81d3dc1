//! A process that makes load, as it is told line by line, and says what it did.
//!
//! It is one thread that plays both ends of each connection, so that it never waits, and fills the CPU that it runs on.
//! It lives through many bursts, so that no burst pays for a start.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::process::{self, pin};
use crate::programs;

/// Transitions of a connection: five of each end.
pub(super) const TRANSITIONS: u64 = 10;

/// The first worker listens here, the next at the port behind it.
pub(super) const FIRST_PORT: u16 = 1000;

/// Both ends of so many connections fit into a process (RLIMIT_NOFILE is 20,000 and more).
pub(super) const HELD_AT_MOST: u64 = 9_900;

/// Options of the hidden command `cargo xtask bench-worker`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which worker this is
    index: u16,
    /// The CPU that it runs on
    #[arg(long)]
    cpu: Option<usize>,
    /// Run ahead of others there
    #[arg(long, requires = "cpu")]
    first: bool,
}

/// What a worker was told to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// So many connections are opened, used and closed.
    Connect { count: u64 },
    /// A socket begins and ends to listen, which is two transitions in two system calls. `rate` is in transitions a
    /// second, 0 for as many as can be; `millis` is how long.
    Toggle { rate: u64, millis: u64 },
    /// So many connections are opened and stay open.
    Hold { count: u64 },
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let mut number = || words.next()?.parse().ok();
        let order = match name {
            "connect" => Self::Connect { count: number()? },
            "toggle" => Self::Toggle { rate: number()?, millis: number()? },
            "hold" => Self::Hold { count: number()? },
            _ => return None,
        };
        words.next().is_none().then_some(order)
    }

    fn line(self) -> String {
        match self {
            Self::Connect { count } => format!("connect {count}\n"),
            Self::Toggle { rate, millis } => format!("toggle {rate} {millis}\n"),
            Self::Hold { count } => format!("hold {count}\n"),
        }
    }
}

/// What a worker did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Done {
    /// Connections, or transitions where it toggled.
    pub(super) count: u64,
    /// In so many ns.
    elapsed_ns: u64,
    /// CPU time of that, in ns: where the kernel does not account interrupts apart, the work of the network is in it.
    cpu_ns: u64,
}

impl Done {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let mut number = || numbers.next().flatten();
        let done = Self { count: number()?, elapsed_ns: number()?, cpu_ns: number()? };
        (done.elapsed_ns > 0 && done.cpu_ns > 0).then_some(done)
    }

    pub(super) fn per_second(self) -> f64 {
        self.count as f64 / (self.elapsed_ns as f64 / 1e9)
    }

    pub(super) fn per_cpu_second(self) -> f64 {
        self.count as f64 / (self.cpu_ns as f64 / 1e9)
    }
}

/// Follows orders until there are none any more.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    process::end_with_parent().context("cannot tie its life to the benchmark's")?;
    process::raise_descriptor_limit().context("RLIMIT_NOFILE: cannot be raised")?;
    if let Some(cpu) = args.cpu {
        pin(cpu, args.first).with_context(|| format!("CPU {cpu}: cannot run there alone"))?;
        if args.first {
            process::prefer(std::process::id());
        }
    }
    let port = FIRST_PORT + args.index;
    let mut ends = Ends::new(port).with_context(|| format!("port {port}: cannot listen"))?;
    for line in io::stdin().lines() {
        let line = line.context("stdin")?;
        let order = Order::parse(&line).with_context(|| format!("no order: `{line}`"))?;
        let (start, cpu_ns) = (Instant::now(), process::clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)?);
        let count = ends.follow(order).with_context(|| format!("`{line}` cannot be done"))?;
        let (elapsed, cpu_after_ns) = (start.elapsed(), process::clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)?);
        println!("{count} {} {}", elapsed.as_nanos(), cpu_after_ns - cpu_ns);
    }
    Ok(ExitCode::SUCCESS)
}

/// A listener, and connections to it.
struct Ends {
    listener: TcpListener,
    /// Two destinations have twice the ports, so that none is wanted again before the kernel lets it be reused
    /// (`net.ipv4.tcp_tw_reuse_delay`, a second).
    to: [SocketAddrV4; 2],
    held: Vec<[TcpStream; 2]>,
}

impl Ends {
    fn new(port: u16) -> io::Result<Self> {
        let to = [1, 2].map(|host| SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), port));
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?, to, held: Vec::new() })
    }

    /// Returns how much was done.
    fn follow(&mut self, order: Order) -> io::Result<u64> {
        match order {
            Order::Connect { count } => {
                for index in 0..count {
                    self.live_and_die(index)?;
                }
                Ok(count)
            }
            Order::Toggle { rate, millis } => toggle(self.to[0].port(), rate, Duration::from_millis(millis)),
            Order::Hold { count } => {
                for index in 0..count {
                    let pair = self.open(index)?;
                    self.held.push(pair);
                }
                Ok(count)
            }
        }
    }

    fn open(&self, index: u64) -> io::Result<[TcpStream; 2]> {
        let client = TcpStream::connect(self.to[(index % 2) as usize])?;
        Ok([client, self.listener.accept()?.0])
    }

    /// One connection: a question, an answer, and the client closes first.
    fn live_and_die(&self, index: u64) -> io::Result<()> {
        let [mut client, mut server] = self.open(index)?;
        let mut buffer = [0; 16];
        client.write_all(b"question")?;
        server.read_exact(&mut buffer[..8])?;
        server.write_all(b"answer")?;
        client.read_exact(&mut buffer[..6])?;
        drop(client);
        // The end of the stream: it is in CLOSE_WAIT.
        if server.read(&mut buffer)? != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

/// Each ms as many transitions as `rate` asks for; what one ms had no time for the next one makes up for.
fn toggle(port: u16, rate: u64, time: Duration) -> io::Result<u64> {
    const TICK: Duration = Duration::from_millis(1);
    const AT_ONCE: u64 = 1000;
    // Another address than that of the listener for connections.
    let listener = TcpListener::bind((Ipv4Addr::new(127, 1, 0, 1), port + 1000))?;
    let fd = listener.as_raw_fd();
    let start = Instant::now();
    let mut made = 0;
    loop {
        let passed = start.elapsed();
        if passed >= time {
            return Ok(made);
        }
        let due = (rate as f64 * passed.as_secs_f64()) as u64;
        let todo = if rate == 0 { AT_ONCE } else { due.saturating_sub(made).min(AT_ONCE) };
        for _ in 0..todo.div_ceil(2) {
            // SAFETY: both calls take integers alone.
            if unsafe { libc::shutdown(fd, libc::SHUT_RDWR) != 0 || libc::listen(fd, 1) != 0 } {
                return Err(io::Error::last_os_error());
            }
            made += 2;
        }
        if rate > 0 && made >= due {
            thread::sleep(TICK);
        }
    }
}

/// A worker, seen by who gives the orders. It ends with this.
pub(super) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one. A CPU is its own, and `true` has it run ahead of others there.
    pub(super) fn start(index: u16, cpu: Option<(usize, bool)>) -> Result<Self> {
        let this = env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(this);
        command.args(["bench-worker", &index.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some((cpu, first)) = cpu {
            command.args(["--cpu", &cpu.to_string()]).args(first.then_some("--first"));
        }
        let mut child = command.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("bench-worker: has no pipes");
        };
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives all `workers` the same order, so that they follow it at the same time, and waits for them.
    pub(super) fn all(workers: &mut [Self], order: Order) -> Result<Vec<Done>> {
        for worker in &mut *workers {
            worker.orders.write_all(order.line().as_bytes()).context("bench-worker: takes no orders")?;
        }
        workers.iter_mut().map(Self::answer).collect()
    }

    /// Has one order followed.
    pub(super) fn follow(&mut self, order: Order) -> Result<Done> {
        self.orders.write_all(order.line().as_bytes()).context("bench-worker: takes no orders")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("bench-worker: cannot read its answer")?;
        Done::parse(&line).with_context(|| format!("bench-worker: ended, or answered `{line}`"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_are_read_as_they_are_written() {
        for order in [Order::Connect { count: 7 }, Order::Toggle { rate: 1, millis: 2 }, Order::Hold { count: 0 }] {
            assert_eq!(Order::parse(&order.line()), Some(order));
        }
        for line in ["", "connect", "connect x", "connect 1 2", "toggle 1", "dance 1"] {
            assert_eq!(Order::parse(line), None, "{line}");
        }
        let done = Done::parse("10 2000000000 1000000000\n").unwrap();
        assert_eq!((done.count, done.per_second(), done.per_cpu_second()), (10, 5.0, 10.0));
        for line in ["", "10", "10 1", "10 x 1", "10 0 1", "10 1 0"] {
            assert_eq!(Done::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_connection_lives_and_dies() {
        let mut ends = Ends::new(0).unwrap();
        ends.to.iter_mut().for_each(|to| to.set_port(ends.listener.local_addr().unwrap().port()));
        assert_eq!(ends.follow(Order::Connect { count: 5 }).unwrap(), 5);
        assert_eq!(ends.follow(Order::Hold { count: 3 }).unwrap(), 3);
        assert_eq!(ends.held.len(), 3);
    }
}
