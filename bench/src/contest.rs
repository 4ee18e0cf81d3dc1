//! The contestants, and one measurement of one of them: a burst of connections while it traces.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::{self as this_process, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use xtask::{netns, programs};

use crate::{
    bpf::{self, Empty, Runs},
    process::{Ready, Tracer},
    worker::{Done, Order, TRANSITIONS, Worker},
};

/// The same tracepoint as the others', by bpftrace.
const ONE_LINER: &str = "tracepoint:sock:inet_sock_set_state \
    { printf(\"%d %d %d %d %d\\n\", pid, args->sport, args->dport, args->oldstate, args->newstate); }";

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Who<'a> {
    /// Nobody traces.
    Nobody,
    /// An empty program, which nobody reads from.
    Empty,
    /// tcptrace with these options.
    Tcptrace(&'a [&'a str]),
    /// The one of libbpf-tools.
    Tcpstates,
    /// A one-liner.
    Bpftrace,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => to.pad("untraced"),
            Self::Empty => to.pad("empty program"),
            Self::Tcptrace(options) => to.pad([&["tcptrace"][..], options].concat().join(" ").trim()),
            Self::Tcpstates => to.pad("tcpstates"),
            Self::Bpftrace => to.pad("bpftrace, a one-liner"),
        }
    }
}

/// The programs that are compared, found once.
pub(crate) struct Tools {
    pub(crate) tracer: PathBuf,
    pub(crate) ss: PathBuf,
    tcpstates: PathBuf,
    bpftrace: PathBuf,
    ready: ReadyFile,
    /// Whether the tracer has `--aggregate`.
    pub(crate) aggregates: bool,
}

impl Tools {
    pub(crate) fn find(tracer: &Path) -> Result<Self> {
        // One that is not installed is an error only once it is called.
        let find = |name: &str| programs::find(name).unwrap_or_else(|| name.into());
        let help = programs::stdout_of(Command::new(tracer).arg("--help"))?;
        Ok(Self {
            tracer: tracer.to_owned(),
            ss: find("ss"),
            tcpstates: find("tcpstates"),
            bpftrace: find("bpftrace"),
            ready: ReadyFile::new(),
            aggregates: help.contains("--aggregate"),
        })
    }

    /// The command of a contestant that has one, with all output discarded, and how it signals that it is attached.
    pub(crate) fn command(&self, who: Who) -> Option<(Command, Ready<'_>)> {
        let (mut command, ready) = match who {
            Who::Nobody | Who::Empty => return None,
            Who::Tcptrace(options) => {
                let mut command = Command::new(&self.tracer);
                command.args(options).arg("--ready-file").arg(&self.ready.0);
                // With findings nothing is filtered in the kernel, and filters in the kernel are measured here.
                if options.iter().any(|option| FILTERS.contains(option)) {
                    command.args(["--findings", "off"]);
                }
                (command, Ready::File(&self.ready.0))
            }
            Who::Tcpstates => (Command::new(&self.tcpstates), Ready::Waits),
            Who::Bpftrace => {
                let mut command = Command::new(&self.bpftrace);
                command.args(["-e", ONE_LINER]);
                (command, Ready::Waits)
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some((command, ready))
    }

    /// Starts tcptrace with `options`.
    pub(crate) fn tcptrace(&self, options: &[&str]) -> Result<Tracer> {
        let (mut command, ready) = self.command(Who::Tcptrace(options)).context("tcptrace has a command")?;
        Tracer::start(&mut command, ready, None)
    }
}

/// Options of the filters that are measured.
const FILTERS: [&str; 4] = ["--state", "--port", "--address", "--pid"];

/// The file by which a tracer signals that it is ready; removed at the end.
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn new() -> Self {
        // Only root writes there, so nobody else can make the file.
        Self(PathBuf::from(format!("/run/tcptrace-bench-{}.ready", this_process::id())))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It exists only if a tracer was not waited for.
        let _ = fs::remove_file(&self.0);
    }
}

/// What one burst showed.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    /// Connections a second, of all workers together.
    pub(crate) per_second: f64,
    /// Connections per second of the workers' CPU time, which other processes of the machine hardly influence.
    pub(crate) per_cpu_second: f64,
    /// CPU time of the tracer for each transition that the load made, in ns.
    pub(crate) cpu_ns: f64,
    /// Its memory (VmRSS) after the burst, in MB.
    pub(crate) memory_mb: f64,
    /// Runs of its programs by name. Empty if the kernel keeps no statistics.
    pub(crate) programs: BTreeMap<String, Runs>,
}

/// A load, and where it runs.
pub(crate) struct Arena<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) workers: Vec<Worker>,
    /// Connections of each worker in a burst.
    pub(crate) burst: u64,
    /// The CPU of tracers' user space; `None` for any.
    pub(crate) tracer_cpu: Option<usize>,
}

impl<'a> Arena<'a> {
    /// Workers on these CPUs, one on each, in a new network namespace. They make connections until as many are in
    /// TIME_WAIT as ever will be.
    pub(crate) fn new(tools: &'a Tools, cpus: &[usize], tracer_cpu: Option<usize>, burst: u64) -> Result<Self> {
        /// Ports of two destinations, of which the kernel takes every other one.
        const WARM_UP: u64 = 65_536;
        enter_namespace()?;
        // Where a tracer may run on these CPUs as well, it must get its share.
        let first = tracer_cpu.is_some();
        let workers = cpus.iter().enumerate().map(|(index, &cpu)| Worker::start(index as u16, Some((cpu, first))));
        let mut this = Self { tools, workers: workers.collect::<Result<_>>()?, burst, tracer_cpu };
        Worker::all(&mut this.workers, Order::Connect { count: WARM_UP })?;
        Ok(this)
    }

    /// Has `who` trace a burst, after a smaller one to warm up.
    pub(crate) fn sample(&mut self, who: Who) -> Result<Sample> {
        /// Tracers have read all that there was by then.
        const DRAINED: Duration = Duration::from_millis(250);
        let mut tracer = None;
        let mut empty = None;
        match self.tools.command(who) {
            Some((mut command, ready)) => tracer = Some(Tracer::start(&mut command, ready, self.tracer_cpu)?),
            None if who == Who::Empty => empty = Some(Empty::attach()?),
            None => {}
        }
        self.connect(self.burst / 10)?;
        let look = || -> Result<_> {
            let cpu_ns = tracer.as_ref().map_or(Ok(0), Tracer::cpu_ns)?;
            let runs = match (&tracer, &empty) {
                (Some(tracer), _) => bpf::runs_of(tracer.pid())?,
                (None, Some(empty)) => [(0, empty.runs()?)].into(),
                (None, None) => BTreeMap::new(),
            };
            Ok((cpu_ns, runs))
        };
        if tracer.is_some() {
            thread::sleep(DRAINED);
        }
        let (cpu_before, runs_before) = look()?;
        let [per_second, per_cpu_second] = self.connect(self.burst)?;
        if tracer.is_some() {
            thread::sleep(DRAINED);
        }
        let (cpu_after, runs_after) = look()?;
        let memory_mb = tracer.as_ref().map_or(Ok(0.0), |tracer| tracer.memory_mb("VmRSS"))?;
        let mut programs = BTreeMap::<String, Runs>::new();
        for (id, after) in runs_after {
            let before = runs_before.get(&id).copied().unwrap_or_default();
            if after.count > before.count {
                let name = if id == 0 {
                    "empty".to_owned()
                } else {
                    String::from_utf8_lossy(bpf::info(id)?.name()).into_owned()
                };
                let runs = programs.entry(name).or_default();
                runs.count += after.count - before.count;
                runs.ns += after.ns - before.ns;
            }
        }
        let transitions = self.burst * self.workers.len() as u64 * TRANSITIONS;
        let cpu_ns = (cpu_after - cpu_before) as f64 / transitions as f64;
        Ok(Sample { per_second, per_cpu_second, cpu_ns, memory_mb, programs })
    }

    /// Returns connections a second, of time and of CPU time.
    fn connect(&mut self, count: u64) -> Result<[f64; 2]> {
        let done = Worker::all(&mut self.workers, Order::Connect { count })?;
        let sum = |rate: fn(Done) -> f64| done.iter().map(|&done| rate(done)).sum();
        Ok([sum(Done::per_second), sum(Done::per_cpu_second)])
    }
}

/// Enters a new network namespace in which connections can follow each other quickly.
pub(crate) fn enter_namespace() -> Result<()> {
    const SYSCTLS: [(&str, &str); 5] = [
        // Not the ports of workers.
        ("ip_local_port_range", "4096 65535"),
        // Ports are reused after a second in TIME_WAIT, so that there are some ten thousand of these, and no more.
        ("tcp_tw_reuse", "1"),
        ("tcp_max_tw_buckets", "1000000"),
        ("tcp_max_syn_backlog", "65536"),
        ("tcp_syncookies", "0"),
    ];
    netns::enter_new()?;
    set_sysctls(&SYSCTLS)
}

/// Sets sysctls of the network namespace that this process is in.
pub(crate) fn set_sysctls(sysctls: &[(&str, &str)]) -> Result<()> {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).with_context(|| format!("{path}: cannot be set to {value}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_have_the_names_that_goals_know() {
        let of = |who: Who| who.to_string();
        assert_eq!(of(Who::Tcptrace(&["--format", "json"])), "tcptrace --format json");
        assert_eq!(of(Who::Tcptrace(&[])), "tcptrace");
        assert_eq!(of(Who::Tcpstates), "tcpstates");
    }
}
