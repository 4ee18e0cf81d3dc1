//! Other processes: the test program starts itself again as an actor with a name and a CPU of its own, so that owners
//! can be told apart. Actors are started in the network namespace of the test, and end with it.

use std::{
    collections::VecDeque,
    ffi::CString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::atomic::Ordering,
    time::Duration,
};

use crate::net::LOCALHOST;

const ROLE: &str = "TCPTRACE_TEST_ACTOR";

/// A running actor.
pub(crate) struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Actor {
    /// Starts an actor and waits until it says that it is ready.
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Self {
        Self::start_as(Command::new(std::env::current_exe().unwrap()), role, arguments)
    }

    /// The same with a command that was prepared.
    pub(crate) fn start_as(mut command: Command, role: &str, arguments: &[&str]) -> Self {
        let mut child =
            command.args(arguments).env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut actor = Self { child, stdin, output };
        assert_eq!(actor.says(), "ready", "{role}");
        actor
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Tells it to go on.
    pub(crate) fn go(&mut self) {
        self.tell("");
    }

    /// Writes a line to it.
    pub(crate) fn tell(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Plays a role if this process was started to; then the exit code is given.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).map_or(0, |text| text.parse::<u32>().unwrap());
    // SAFETY: the name is NUL-terminated and at most 15 bytes long.
    unsafe { libc::prctl(libc::PR_SET_NAME, CString::new(role.as_str()).unwrap().as_ptr()) };
    match role.as_str() {
        "t-server" => server(number(0) as u16, number(1), number(2)),
        "t-client" => client(number(0) as u16, number(1), number(2)),
        "t-spinner" => spinner(number(0)),
        "t-holder" => holder(number(0) as u16),
        "t-prefork" => prefork(number(0) as u16),
        "t-listener" => listener(number(0) as u16),
        "t-namer" => namer(number(0) as u16),
        "t-activator" => activator(number(0) as u16),
        "t-quitter" => quitter(number(0) as u16),
        "t-aborter" => aborter(number(0) as u16),
        "t-resetter" => resetter(number(0) as u16, number(1)),
        "t-hasty" => hasty(number(0) as u16),
        "t-sharer" => sharer(number(0) as u16, number(1)),
        "t-crowd" => crate::sockets::crowd(number(0) as usize),
        "t-churn" => churn(number(0) as u16),
        "t-actor" => crate::scenarios::actor::play(&arguments[0]),
        "t-healthy" => crate::scenarios::healthy::play(&arguments[0], &arguments[1]),
        "t-activated" => activated(),
        "t-receiver" => receiver(&arguments[0]),
        "t-borrower" => borrower(number(0), number(1)),
        other => panic!("no role {other}"),
    }
    Some(ExitCode::SUCCESS)
}

fn ready() {
    println!("ready");
}

fn wait_for_word() {
    let mut byte = [0];
    let _ = std::io::stdin().read(&mut byte).unwrap();
}

fn pin(cpu: u32) {
    // SAFETY: all zeroes is an empty set; the size given is its own. A CPU that does not exist is refused, and the
    // actor then runs anywhere.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

fn any_port(port: u16) -> SocketAddr {
    SocketAddr::new(LOCALHOST, port)
}

/// Accepts, answers one question and waits for the end, `count` times.
fn server(port: u16, count: u32, cpu: u32) {
    pin(cpu);
    let listener = TcpListener::bind(any_port(port)).unwrap();
    ready();
    for _ in 0..count {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"answer").unwrap();
        let _ = stream.read(&mut question);
    }
}

/// Connects, asks and closes, `count` times.
fn client(port: u16, count: u32, cpu: u32) {
    pin(cpu);
    ready();
    for _ in 0..count {
        let mut stream = TcpStream::connect(any_port(port)).unwrap();
        stream.write_all(b"question").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
    }
}

/// Uses a CPU, so that softirqs interrupt a bystander.
fn spinner(cpu: u32) {
    pin(cpu);
    ready();
    std::thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    wait_for_word();
}

/// Connects and waits to be killed.
fn holder(port: u16) {
    let stream = TcpStream::connect(any_port(port)).unwrap();
    println!("ready\n{}", stream.local_addr().unwrap().port());
    wait_for_word();
}

/// Listens when told to; a child accepts, answers one question, waits for the end, and closes.
fn prefork(port: u16) {
    ready();
    wait_for_word();
    let listener = TcpListener::bind(any_port(port)).unwrap();
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"answer").unwrap();
        let _ = stream.read(&mut question);
        drop(stream);
        std::process::exit(0);
    }
    println!("{child}");
    let mut status = 0;
    // SAFETY: `status` is a valid place to write to.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
}

/// Listens beside others, and accepts nobody.
fn listener(port: u16) {
    let socket = crate::net::socket(LOCALHOST);
    socket.set_reuse_port(true).unwrap();
    socket.bind(&any_port(port).into()).unwrap();
    socket.listen(16).unwrap();
    ready();
    wait_for_word();
}

/// Listens beside others, and says its PID to who connects.
fn namer(port: u16) {
    let socket = crate::net::socket(LOCALHOST);
    socket.set_reuse_port(true).unwrap();
    socket.bind(&any_port(port).into()).unwrap();
    socket.listen(64).unwrap();
    ready();
    let mut kept = Vec::new();
    while let Ok((stream, _)) = socket.accept() {
        (&stream).write_all(&std::process::id().to_ne_bytes()).unwrap();
        kept.push(stream);
    }
}

/// Listens when told to, hands the listener to a child that runs another program with it ([`activated`]), says its PID and
/// ends.
fn activator(port: u16) {
    ready();
    wait_for_word();
    let listener = TcpListener::bind(any_port(port)).unwrap();
    let (program, fd) = (std::env::current_exe().unwrap(), listener.as_raw_fd());
    // SAFETY: this process has one thread; the copy is not closed on exec.
    unsafe { assert_eq!(libc::dup2(fd, ACTIVATED_FD), ACTIVATED_FD) };
    let child = Command::new(program).env(ROLE, "t-activated").stdin(Stdio::inherit()).stdout(Stdio::null()).spawn();
    println!("{}", child.unwrap().id());
}

/// Accepts one connection, and ends when told to without reading what came or closing it.
fn quitter(port: u16) {
    let listener = TcpListener::bind(any_port(port)).unwrap();
    ready();
    let (stream, _) = listener.accept().unwrap();
    stream.peek(&mut [0]).unwrap();
    println!("accepted");
    wait_for_word();
    std::process::exit(0);
}

/// Connects, and aborts the connection when told to.
fn aborter(port: u16) {
    let socket = crate::net::socket(LOCALHOST);
    socket.connect(&any_port(port).into()).unwrap();
    ready();
    wait_for_word();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Opens four connections at a time and ends them by a RST, now on one CPU and now on the other: the kernel gives the
/// addresses of their sockets to other processes' sockets then.
fn resetter(port: u16, rounds: u32) {
    ready();
    for round in 0..rounds {
        pin(round % 2);
        let open: Vec<_> = (0..4).map(|_| crate::net::socket(LOCALHOST)).collect();
        for socket in &open {
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            socket.connect(&any_port(port).into()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Accepts, and closes without reading what came.
fn hasty(port: u16) {
    let listener = TcpListener::bind(any_port(port)).unwrap();
    ready();
    let (stream, _) = listener.accept().unwrap();
    stream.peek(&mut [0]).unwrap();
}

/// Forks a child that ends with its parent.
fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: this process has one thread; prctl(2) takes numbers only here.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            child();
            libc::_exit(0);
        }
        pid
    }
}

/// Listens, connects to itself, and forks `children` (at least one) that share all three sockets; each accepts and
/// keeps what comes. Prints its own PID as it sees it, then those of the children.
fn sharer(port: u16, children: u32) {
    let listener = TcpListener::bind(any_port(port)).unwrap();
    let client = TcpStream::connect(any_port(port)).unwrap();
    let server = listener.accept().unwrap();
    let pids: Vec<_> = (0..children.max(1))
        .map(|_| {
            fork(|| {
                let mut kept = Vec::new();
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.write_all(b"answer");
                    kept.push(stream);
                }
            })
        })
        .collect();
    ready();
    println!("{}", std::process::id());
    pids.iter().for_each(|pid| println!("{pid}"));
    wait_for_word();
    pids.iter().for_each(|pid| {
        // SAFETY: takes numbers only; the children are this process's own.
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    });
    drop((listener, client, server));
}

/// Opens and closes connections to itself as fast as it can, with the newest of them open, until a word comes; then
/// says `quiet`, leaves all as it is until the next word, and goes on. Most end by a RST, some in TIME_WAIT.
fn churn(port: u16) {
    let listener = TcpListener::bind(any_port(port)).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let words = std::sync::Arc::clone(&stop);
    ready();
    std::thread::spawn(move || {
        loop {
            wait_for_word();
            words.store(!words.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    });
    let mut open = VecDeque::new();
    for count in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            println!("quiet");
            while stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            println!("busy");
        }
        let client = TcpStream::connect(any_port(port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        if count % 50 != 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
        open.push_back((client, server));
        if open.len() > 40 {
            let (client, mut server) = open.pop_front().unwrap();
            drop(client);
            let _ = server.read(&mut [0]); // the FIN, or the RST
        }
    }
}

/// The descriptor by which [`activated`] gets its listener.
pub(crate) const ACTIVATED_FD: i32 = 64;

/// Has its listener from whoever started it, as with systemd's socket activation (sd_listen_fds(3)); accepts one
/// connection.
fn activated() {
    // SAFETY: nobody else in this process uses the descriptor.
    let listener = unsafe { TcpListener::from_raw_fd(ACTIVATED_FD) };
    ready();
    let accepted = listener.accept().unwrap();
    println!("accepted");
    wait_for_word();
    drop(accepted);
}

/// Gets a socket by SCM_RIGHTS over the Unix socket at `path`, and keeps it.
fn receiver(path: &str) {
    let unix = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut byte = 0u8;
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeroes is an empty message; its parts live until it was received. The control message is whole if
    // it is there.
    let fd = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        assert_eq!(libc::recvmsg(unix.as_raw_fd(), &raw mut message, 0), 1);
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS);
        libc::CMSG_DATA(first).cast::<i32>().read_unaligned()
    };
    println!("ready\n{fd}");
    wait_for_word();
}

/// Takes descriptor `fd` of process `pid` as its own, reads from it until the end, and closes it when told to.
fn borrower(pid: u32, fd: u32) {
    ready();
    wait_for_word();
    // SAFETY: takes numbers only.
    let got = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0)
    };
    assert!(got >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just received, and nobody else's in this process.
    let mut stream = unsafe { TcpStream::from_raw_fd(got as i32) };
    println!("taken");
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    println!("first");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    println!("read");
    wait_for_word();
    assert!(stream.as_raw_fd() >= 0);
    drop(stream);
}
