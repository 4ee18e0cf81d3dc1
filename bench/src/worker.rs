//! A process that makes load: it reads orders line by line, and prints what it did.
//!
//! One thread plays both ends of each connection, so it never waits, and fills its CPU. It lives through many bursts, so
//! that no burst pays for a start.

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
use xtask::programs;

use crate::process::{self, pin};

/// Transitions of a connection: five of each end.
pub(crate) const TRANSITIONS: u64 = 10;

/// The first worker listens here, the next one at the following port.
pub(crate) const FIRST_PORT: u16 = 1000;

/// How many connections, with both ends, fit into a process (RLIMIT_NOFILE is at least 20,000).
pub(crate) const HELD_AT_MOST: u64 = 9_900;

/// Options of the hidden command `tcptrace-bench worker`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Index of this worker
    index: u16,
    /// The CPU that it runs on
    #[arg(long)]
    cpu: Option<usize>,
    /// Run with priority there
    #[arg(long, requires = "cpu")]
    first: bool,
}

/// An order for a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    /// Open, use and close this many connections.
    Connect { count: u64 },
    /// Start and stop listening on a socket: two transitions in two system calls. `rate` is in transitions per second, 0
    /// for as many as possible; `millis` is how long.
    Toggle { rate: u64, millis: u64 },
    /// Open this many connections and keep them open.
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
pub(crate) struct Done {
    /// Connections, or transitions where it toggled.
    pub(crate) count: u64,
    /// Wall time, in ns.
    elapsed_ns: u64,
    /// CPU time, in ns. Unless the kernel accounts interrupts separately, it includes the work of the network stack.
    cpu_ns: u64,
}

impl Done {
    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let mut number = || numbers.next().flatten();
        let done = Self { count: number()?, elapsed_ns: number()?, cpu_ns: number()? };
        (done.elapsed_ns > 0 && done.cpu_ns > 0).then_some(done)
    }

    pub(crate) fn per_second(self) -> f64 {
        self.count as f64 / (self.elapsed_ns as f64 / 1e9)
    }

    pub(crate) fn per_cpu_second(self) -> f64 {
        self.count as f64 / (self.cpu_ns as f64 / 1e9)
    }
}

/// Follows orders until standard input ends.
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
    /// Two destinations double the ports, so that none is needed again before the kernel allows reuse
    /// (`net.ipv4.tcp_tw_reuse_delay`, a second).
    to: [SocketAddrV4; 2],
    held: Vec<[TcpStream; 2]>,
}

impl Ends {
    fn new(port: u16) -> io::Result<Self> {
        let to = [1, 2].map(|host| SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), port));
        Ok(Self { listener: TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?, to, held: Vec::new() })
    }

    /// Returns the number of connections or transitions.
    fn follow(&mut self, order: Order) -> io::Result<u64> {
        match order {
            Order::Connect { count } => {
                for index in 0..count {
                    self.whole_life(index)?;
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
    fn whole_life(&self, index: u64) -> io::Result<()> {
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

/// Makes the transitions that `rate` asks for, each ms; a late ms is made up for in the next.
fn toggle(port: u16, rate: u64, time: Duration) -> io::Result<u64> {
    const TICK: Duration = Duration::from_millis(1);
    const AT_ONCE: u64 = 1000;
    // Not the address of the listener for connections.
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

/// A running worker, killed when this is dropped.
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one, on this CPU if given, and with priority there if `true`.
    pub(crate) fn start(index: u16, cpu: Option<(usize, bool)>) -> Result<Self> {
        let this = env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(this);
        command.args(["worker", &index.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some((cpu, first)) = cpu {
            command.args(["--cpu", &cpu.to_string()]).args(first.then_some("--first"));
        }
        let mut child = command.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("worker: has no pipes");
        };
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives all `workers` the same order at the same time, and waits for them.
    pub(crate) fn all(workers: &mut [Self], order: Order) -> Result<Vec<Done>> {
        for worker in &mut *workers {
            worker.orders.write_all(order.line().as_bytes()).context("worker: takes no orders")?;
        }
        workers.iter_mut().map(Self::answer).collect()
    }

    /// Gives an order, and waits until it is done.
    pub(crate) fn follow(&mut self, order: Order) -> Result<Done> {
        self.orders.write_all(order.line().as_bytes()).context("worker: takes no orders")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("worker: cannot read its answer")?;
        Done::parse(&line).with_context(|| format!("worker: ended, or answered `{line}`"))
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
