//! Runs contestants, and reads their cost from the kernel's accounting.

use std::{
    fs,
    io::{self, Read as _},
    mem,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask::programs;

/// The system calls of epoll_wait(3): newer architectures have only the second.
#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: [libc::c_long; 1] = [libc::SYS_epoll_pwait];

/// The cost of one run.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// From before fork until after its end, in ms.
    pub(crate) wall_ms: f64,
    /// CPU time of user and kernel, in ms.
    pub(crate) cpu_ms: f64,
}

/// Where a program's output goes.
#[derive(Clone, Copy)]
pub(crate) enum Sink {
    /// To `/dev/null`.
    Null,
    /// To a pipe that is read at once.
    Pipe,
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command, sink: Sink) -> Result<Cost> {
    let shown = programs::line(command);
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(match sink {
        Sink::Null => Stdio::null(),
        Sink::Pipe => Stdio::piped(),
    });
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        while stdout.read(&mut buffer).with_context(|| format!("`{shown}`: cannot read its output"))? > 0 {}
    }
    let (status, cpu_ms) = wait(&child).with_context(|| format!("`{shown}`: cannot wait for it"))?;
    let cost = Cost { wall_ms: milliseconds(start.elapsed()), cpu_ms };
    if status != 0 {
        bail!("`{shown}` failed with the wait status {status}");
    }
    Ok(cost)
}

/// Waits for a child; returns its status and its CPU time in ms.
fn wait(child: &Child) -> io::Result<(i32, f64)> {
    let mut status = 0;
    // SAFETY: rusage is integers alone; all zeroes is a valid value of it.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes to the two values, which live through the call. The child was not waited for before.
    if unsafe { libc::wait4(pid, &mut status, 0, &mut usage) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok((status, ms(usage.ru_utime) + ms(usage.ru_stime)))
}

/// How a tracer signals that it is attached.
#[derive(Clone, Copy)]
pub(crate) enum Ready<'a> {
    /// It creates this file.
    File(&'a Path),
    /// It waits in epoll_wait(2), as libbpf's programs do once they are attached.
    Waits,
}

/// A tracer that runs until this is dropped.
pub(crate) struct Tracer {
    child: Child,
    shown: String,
    /// From before fork until it was attached, in ms.
    pub(crate) ready_ms: f64,
}

impl Tracer {
    /// Starts the tracer, pinned to `cpu` with priority if one is given, and waits until it is attached.
    pub(crate) fn start(command: &mut Command, ready: Ready, cpu: Option<usize>) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let shown = programs::line(command);
        let pinned = move || end_with_parent().and_then(|()| cpu.map_or(Ok(()), |cpu| pin(cpu, true)));
        // SAFETY: between fork and exec it only makes system calls, and allocates nothing.
        unsafe { command.pre_exec(pinned) };
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
        let mut this = Self { child, shown, ready_ms: 0.0 };
        if cpu.is_some() {
            prefer(this.pid());
        }
        while !this.is_ready(ready) {
            if let Some(status) = this.child.try_wait().context("cannot wait for a tracer")? {
                bail!("`{}` ended before it was ready: {status}", this.shown);
            }
            if start.elapsed() > PATIENCE {
                bail!("`{}` was not ready within {} s", this.shown, PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_micros(500));
        }
        this.ready_ms = milliseconds(start.elapsed());
        if let Ready::File(file) = ready {
            // The tracer removes it only if it ends by itself.
            fs::remove_file(file).with_context(|| format!("{}: cannot be removed", file.display()))?;
        }
        Ok(this)
    }

    fn is_ready(&self, ready: Ready) -> bool {
        match ready {
            Ready::File(file) => file.exists(),
            Ready::Waits => {
                let call = fs::read_to_string(format!("/proc/{}/syscall", self.child.id())).unwrap_or_default();
                let number = call.split(' ').next().and_then(|word| word.parse().ok());
                number.is_some_and(|number: libc::c_long| EPOLL_WAIT.contains(&number))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes its standard error, if that is a pipe.
    pub(crate) fn stderr(&mut self) -> Result<ChildStderr> {
        self.child.stderr.take().with_context(|| format!("`{}`: has no pipe", self.shown))
    }

    /// Ends it as Ctrl-C does, and waits for it.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).context("a PID is out of range")?;
        // SAFETY: takes numbers alone; the process is this one's child, and was not waited for yet.
        if unsafe { libc::kill(pid, libc::SIGINT) } != 0 {
            bail!("`{}` cannot be ended: {}", self.shown, io::Error::last_os_error());
        }
        self.child.wait().with_context(|| format!("`{}`: cannot wait for it", self.shown))?;
        Ok(())
    }

    /// CPU time of all its threads so far, including ended ones, in ns.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        let pid = libc::pid_t::try_from(self.child.id()).context("a PID is out of range")?;
        let mut clock = 0;
        // SAFETY: the call writes to a value that lives through it.
        if unsafe { libc::clock_getcpuclockid(pid, &mut clock) } != 0 {
            bail!("`{}`: has no clock of its CPU time", self.shown);
        }
        clock_ns(clock)
    }

    /// A line of `/proc/PID/status` such as VmRSS, in MB.
    pub(crate) fn memory_mb(&self, line: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let kib = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next());
        let kib: f64 = kib.and_then(|kib| kib.parse().ok()).with_context(|| format!("{path}: no {line}"))?;
        Ok(kib * 1024.0 / 1e6)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // One that has ended already is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reads a clock, in ns.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to a value that lives through it.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        bail!("clock {clock} cannot be read: {}", io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Pins this process to `cpu`, and if `first`, gives it priority there (as `nice -n -20`), so that other processes hardly
/// disturb it.
pub(crate) fn pin(cpu: usize, first: bool) -> io::Result<()> {
    // SAFETY: cpu_set_t is integers alone; all zeroes is an empty set.
    let mut cpus: libc::cpu_set_t = unsafe { mem::zeroed() };
    if cpu >= 8 * size_of_val(&cpus) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the set has a place for this CPU.
    unsafe { libc::CPU_SET(cpu, &mut cpus) };
    // SAFETY: the kernel reads as many bytes as the set has.
    let mut failed = unsafe { libc::sched_setaffinity(0, size_of_val(&cpus), &cpus) } != 0;
    // SAFETY: these take integers alone. A session of its own is a group for the scheduler, see `prefer`.
    failed = failed || first && unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) != 0 || libc::setsid() < 0 };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives priority to the session of a process that [`pin`] put first: if the kernel divides time among sessions
/// (`sched_autogroup_enabled`), nice counts only within one.
pub(crate) fn prefer(pid: u32) {
    // A kernel that does not divide has no such file.
    let _ = fs::write(format!("/proc/{pid}/autogroup"), "-20");
}

/// Makes the kernel kill this process when its parent ends for any reason.
pub(crate) fn end_with_parent() -> io::Result<()> {
    // SAFETY: this option takes a signal number alone.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Raises RLIMIT_NOFILE as far as allowed.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to the limit, which lives through the call.
    let mut failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel only reads it.
    failed = failed || unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
