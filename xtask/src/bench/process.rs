//! Runs contestants, and takes what they cost from the kernel's own accounts.

use std::{
    fs,
    io::{self, Read as _},
    mem,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::programs;

/// What one run of a program cost.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// From before fork to after its end, in ms.
    pub(super) wall_ms: f64,
    /// CPU time of user and kernel, in ms.
    pub(super) cpu_ms: f64,
}

/// Where a program's output goes.
#[derive(Clone, Copy)]
pub(super) enum Sink {
    /// To `/dev/null`.
    Null,
    /// To a pipe that is read at once.
    Pipe,
}

/// Runs `command` to its end.
pub(super) fn run(command: &mut Command, sink: Sink) -> Result<Cost> {
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

/// Waits for a child; gives its status and its CPU time in ms.
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

/// A tracer that runs until this is dropped.
pub(super) struct Tracer {
    child: Child,
    /// From before fork until its ready file was there, in ms.
    pub(super) ready_ms: f64,
}

impl Tracer {
    /// Starts the tracer, and waits until all is attached and listed. `ready` is the path of its ready file.
    pub(super) fn start(tracer: &Path, args: &[&str], ready: &Path) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let start = Instant::now();
        let mut command = Command::new(tracer);
        command.args(args).arg("--ready-file").arg(ready);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("`{}` cannot be started", programs::line(&command)))?;
        let mut this = Self { child, ready_ms: 0.0 };
        while !ready.exists() {
            if let Some(status) = this.child.try_wait().context("tcptrace: cannot wait for it")? {
                bail!("`{}` ended before it was ready: {status}", programs::line(&command));
            }
            if start.elapsed() > PATIENCE {
                bail!("`{}` was not ready within {} s", programs::line(&command), PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_micros(500));
        }
        this.ready_ms = milliseconds(start.elapsed());
        // It goes with its parent only where the tracer ends by itself.
        fs::remove_file(ready).with_context(|| format!("{}: cannot be removed", ready.display()))?;
        Ok(this)
    }

    /// CPU time of all its threads so far, those that ended included, in ns.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let pid = libc::pid_t::try_from(self.child.id()).context("tcptrace: its PID is out of range")?;
        let mut clock = 0;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both calls write to values that live through them.
        let failed =
            unsafe { libc::clock_getcpuclockid(pid, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0 };
        if failed {
            bail!("tcptrace: its CPU time cannot be read");
        }
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// A line of `/proc/PID/status` such as VmRSS, in MB.
    pub(super) fn memory_mb(&self, line: &str) -> Result<f64> {
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

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
