//! What runs of all kinds need from the machine: signals and timers.

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

use crate::sys::clock::now_ns;

/// Gives memory that is free back to the system. What starts a run, and a listing of many sockets, needs much for a
/// moment, and glibc keeps it.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number only, and may be called in any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// All of an end takes so long at most: the listing, and the outputs twice.
pub const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Signals that end a run: those that would end the process, and that are sent from outside. SIGQUIT stays as it is, for
/// who wants a core dump.
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

/// A second SIGINT or SIGTERM that comes this soon is the same one: `timeout` sends each twice.
const SAME_NS: u64 = 100_000_000;

/// CLOCK_MONOTONIC at which the end began, and of the first SIGINT or SIGTERM, in ns; 0 before.
static ENDS_NS: AtomicU64 = AtomicU64::new(0);
static FIRST_NS: AtomicU64 = AtomicU64::new(0);
/// The ready file as a C string, which lives for ever; null where there is none.
static READY_FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// What ends a run from outside.
pub struct Stop {
    signals: Vec<(i32, Signal)>,
    /// When its time is over.
    pub deadline: Option<Instant>,
}

impl Stop {
    /// From now on, signals that would end the process end the run, and with it the process within [`ENDS_WITHIN`],
    /// whatever hangs; a second SIGINT or SIGTERM ends it at once. With `reopens`, SIGHUP means something else. Signals that are ignored
    /// (`nohup`) stay so, but for those two and SIGALRM.
    ///
    /// # Errors
    /// Where signals cannot be handled.
    pub fn new(reopens: bool) -> io::Result<Self> {
        // A file that may not grow (`ulimit -f`) is as a full disk.
        // SAFETY: it is only ignored.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let is_wanted = |number: &i32| match *number {
            libc::SIGINT | libc::SIGTERM | libc::SIGALRM => true,
            libc::SIGHUP if reopens => false,
            number => !is_ignored(number),
        };
        let handle = |number: i32| {
            // SAFETY: what is called does only what a signal handler may (signal-safety(7)).
            unsafe { signal_hook_registry::register(number, move || came(number)) }?;
            Ok((number, signal(SignalKind::from_raw(number))?))
        };
        let signals = ENDING.into_iter().filter(is_wanted).map(handle).collect::<io::Result<_>>()?;
        Ok(Self { signals, deadline: None })
    }

    /// Waits for the first of them, and names it as the `end` record does.
    pub async fn reached(&mut self) -> &'static str {
        let Self { signals, deadline } = self;
        let deadline = *deadline;
        let time_is_over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
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
        }
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: all zero is a valid value, and the call writes there.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// The end begins, if it has not: in [`ENDS_WITHIN`] an alarm ends the process.
pub fn ends() {
    if ENDS_NS.compare_exchange(0, now_ns(), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        // SAFETY: alarm(2) takes a number.
        unsafe { libc::alarm(ENDS_WITHIN.as_secs() as u32) };
    }
}

/// In a signal handler: a signal came that ends the run.
fn came(number: i32) {
    let is_late = now_ns().saturating_sub(ENDS_NS.load(Ordering::SeqCst)) > (ENDS_WITHIN.as_nanos() / 2) as u64;
    let (words, code): (&[u8], i32) = match number {
        libc::SIGALRM if ENDS_NS.load(Ordering::SeqCst) > 0 && is_late => {
            (b"tcptrace: it did not end in time: what the outputs have not taken is lost\n", 1)
        }
        libc::SIGINT | libc::SIGTERM if !is_first() => {
            (b"tcptrace: ended at once by a second signal: what the outputs have not taken is lost\n", 128 + number)
        }
        _ => return ends(),
    };
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid entry, bytes that are valid for their length, and a string that lives for ever or null; all of it
    // may be done in a signal handler. Nothing is written where that might block.
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

/// Is this the first SIGINT or SIGTERM?
fn is_first() -> bool {
    let now_ns = now_ns();
    match FIRST_NS.compare_exchange(0, now_ns, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => true,
        Err(first_ns) => now_ns.saturating_sub(first_ns) < SAME_NS,
    }
}

/// From now on this file is removed also where the process ends at once; `None`: none is.
pub fn removes_at_once(path: Option<&Path>) {
    let path = path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    READY_FILE.store(path.map_or(ptr::null_mut(), CString::into_raw), Ordering::SeqCst);
}

/// SIGHUP, which asks for files to be opened again.
pub struct Hangup(Option<Signal>);

impl Hangup {
    /// With `is_taken` SIGHUP is waited for from now on.
    ///
    /// # Errors
    /// Where signals cannot be handled.
    pub fn new(is_taken: bool) -> io::Result<Self> {
        is_taken.then(|| signal(SignalKind::hangup())).transpose().map(Self)
    }

    /// Waits for it.
    pub async fn came(&mut self) {
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
