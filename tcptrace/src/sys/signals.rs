//! Signals and timers of a run.

use std::{
    ffi::{CString, c_char},
    future::poll_fn,
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::sys::{
    clock::now_ns,
    terminal::{self, Keys},
};

/// Returns free heap memory to the system. The start of a run and a listing of many sockets need a lot of memory
/// briefly, and glibc keeps it.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes only a number, and may be called in any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Upper limit on the time to shut down: the final listing, and the outputs twice.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Signals that stop a run: those sent from outside that would terminate the process. SIGQUIT keeps its default action,
/// for a core dump.
const ENDING: [i32; 11] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGXCPU,
];

/// Leaves the signals that stop a run to other threads, for the calling thread and those that it starts: the handler may
/// have to remove a file, which this thread may not.
pub(crate) fn leave_to_others() {
    // SAFETY: all zeros is a valid value, which the calls write and read.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        for signal in ENDING {
            libc::sigaddset(&raw mut signals, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, ptr::null_mut());
    }
}

/// A second SIGINT or SIGTERM within this time is the same request: `timeout` sends each signal twice.
const SAME_NS: u64 = 100_000_000;

/// CLOCK_MONOTONIC in ns of the start of shutdown, and of the first SIGINT or SIGTERM; 0 before.
static SHUTDOWN_NS: AtomicU64 = AtomicU64::new(0);
static FIRST_NS: AtomicU64 = AtomicU64::new(0);
/// Path of the ready file as a C string that is never freed; null if there is none.
static READY_FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Stops a run on a signal or at a deadline.
pub struct Stop {
    signals: Vec<(i32, Signal)>,
    /// When the run's `--duration` ends, if it has one.
    pub deadline: Option<Instant>,
    /// The keys of the terminal, if `q` ends the run as Ctrl-C does.
    pub keys: Option<Keys>,
}

impl Stop {
    /// From now on, signals that would terminate the process stop the run instead, and the process exits within
    /// [`SHUTDOWN_LIMIT`] even if something hangs; a second SIGINT or SIGTERM terminates it at once. With `reopens`,
    /// SIGHUP has another meaning. Ignored signals (`nohup`) stay ignored, except SIGINT, SIGTERM and SIGALRM.
    ///
    /// # Errors
    /// If signal handlers cannot be installed.
    pub fn new(reopens: bool) -> io::Result<Self> {
        // Exceeding the file size limit (`ulimit -f`) is handled like a full disk. SAFETY: the signal is only ignored.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let is_wanted = |number: &i32| match *number {
            libc::SIGINT | libc::SIGTERM | libc::SIGALRM => true,
            libc::SIGHUP if reopens => false,
            number => !is_ignored(number),
        };
        let handle = |number: i32| {
            // SAFETY: the handler is async-signal-safe (signal-safety(7)).
            unsafe { signal_hook_registry::register(number, move || handle_signal(number)) }?;
            Ok((number, signal(SignalKind::from_raw(number))?))
        };
        let signals = ENDING.into_iter().filter(is_wanted).map(handle).collect::<io::Result<_>>()?;
        Ok(Self { signals, deadline: None, keys: None })
    }

    /// Waits for the first of them, and returns its name in the `end` record.
    pub async fn wait(&mut self) -> &'static str {
        let Self { signals, deadline, keys } = self;
        let deadline = *deadline;
        let time_is_over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let quit = async {
            match keys {
                Some(keys) => keys.quit().await,
                None => std::future::pending().await,
            }
        };
        let signal = poll_fn(|context| {
            let came =
                signals.iter_mut().find_map(|(number, signal)| signal.poll_recv(context).is_ready().then_some(*number));
            came.map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            number = signal => if number == libc::SIGINT { "interrupted" } else { "terminated" },
            () = time_is_over => "duration",
            () = quit => "interrupted",
        }
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: all zeros is a valid value, and the call writes there.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Starts the shutdown, if it has not started: after [`SHUTDOWN_LIMIT`] an alarm terminates the process.
pub fn begin_shutdown() {
    if SHUTDOWN_NS.compare_exchange(0, now_ns(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        // SAFETY: alarm(2) takes a number.
        unsafe { libc::alarm(SHUTDOWN_LIMIT.as_secs() as u32) };
    }
}

/// True once a signal or the run itself has started the shutdown.
#[must_use]
pub fn is_shutting_down() -> bool {
    SHUTDOWN_NS.load(Ordering::SeqCst) > 0
}

/// Signal handler for the signals that stop a run.
fn handle_signal(number: i32) {
    let is_late = now_ns().saturating_sub(SHUTDOWN_NS.load(Ordering::SeqCst)) > (SHUTDOWN_LIMIT.as_nanos() / 2) as u64;
    let (words, code): (&[u8], i32) = match number {
        libc::SIGALRM if SHUTDOWN_NS.load(Ordering::SeqCst) > 0 && is_late => {
            (b"tcptrace: the shutdown took too long: undelivered records are lost\n", 1)
        }
        libc::SIGINT | libc::SIGTERM if !is_first() => {
            (b"tcptrace: terminated by a second signal: undelivered records are lost\n", 128 + number)
        }
        _ => return begin_shutdown(),
    };
    terminal::restore();
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid entry, bytes valid for their length, and a string that is never freed, or null; all calls are
    // async-signal-safe. Nothing is written if that might block.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 && stderr.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
        }
        let ready_file = READY_FILE.load(Ordering::SeqCst);
        if !ready_file.is_null() {
            libc::unlink(ready_file);
        }
        libc::_exit(code)
    }
}

/// True for the first SIGINT or SIGTERM.
fn is_first() -> bool {
    let now_ns = now_ns();
    match FIRST_NS.compare_exchange(0, now_ns, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => true,
        Err(first_ns) => now_ns.saturating_sub(first_ns) < SAME_NS,
    }
}

/// Sets the ready file, which is removed even if the process terminates at once; `None` unsets it.
pub fn set_ready_file(path: Option<&Path>) {
    let path = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    READY_FILE.store(path.map_or(ptr::null_mut(), CString::into_raw), Ordering::SeqCst);
}

/// SIGHUP as a request to reopen files.
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// Handles SIGHUP from now on if `is_taken`; otherwise [`Self::received`] never returns.
    ///
    /// # Errors
    /// If the signal handler cannot be installed.
    pub fn new(is_taken: bool) -> io::Result<Self> {
        is_taken.then(|| signal(SignalKind::hangup())).transpose().map(Self)
    }

    /// Waits for the next SIGHUP.
    pub async fn received(&mut self) {
        match &mut self.0 {
            Some(hangup) => _ = hangup.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// A timer that first ticks after `period`.
#[must_use]
pub fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
