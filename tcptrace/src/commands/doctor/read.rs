//! Reads the facts for the checks. What cannot be read is left out, and its check becomes `unknown`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use rustix::param::page_size;
use thiserror::Error;

use crate::{
    bpf::{
        btf::{KernelBtf, VMLINUX},
        iterators::Iterators,
        kernel::Kernel,
        probes::{Attached, KernelFilter, ProbeSettings, Probes},
        vmlinux::Vmlinux,
    },
    cli::args::Area,
    commands::doctor::{
        check::CheckUp,
        config_files::ConfigFile,
        hooks::{Hook, Hooks},
        judge::{self, Facts, checks},
        machine::{Machine, Types},
        settings,
        sysctl::Sysctls,
    },
    listing::netns::{self, EnterError},
    model::{
        netns_choice::NetnsChoice,
        state::{State, StateSet},
    },
    sys::{
        capabilities::Capabilities,
        cgroup,
        clock::now_ns,
        descriptors,
        kernel::{memlock_bytes, release},
        pids,
        sandbox::{seccomp, writes},
    },
};

/// Most bytes read of a file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Settings that do not belong to a network namespace, or are visible only in the initial one.
const OF_THE_HOST: [&str; 3] =
    ["kernel.unprivileged_bpf_disabled", "kernel.bpf_stats_enabled", "net.core.bpf_jit_enable"];

/// Directories of sysctl files; files in earlier ones take precedence (sysctl.d(5)).
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// Why the checks could not be run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Find(#[from] netns::Error),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Runs the checks of these areas, with the settings of the chosen network namespace.
///
/// # Errors
/// If that namespace does not exist or cannot be entered.
pub fn check_up(areas: &[Area], choice: &NetnsChoice) -> Result<CheckUp, Error> {
    let is_wanted = |area| areas.contains(&area);
    let found = match netns::find(Some(choice)) {
        Ok((found, _)) => found.into_iter().next(),
        // Without `/proc` everything else can still be checked.
        Err(netns::Error::Own(_)) if *choice == NetnsChoice::Own => None,
        Err(error) => return Err(error.into()),
    };
    let mut facts = Facts::default();
    facts.sysctls.page_bytes = page_size() as u64;
    facts.sysctls.memory_bytes = memory_bytes();
    facts.hooks = is_wanted(Area::Hooks).then(|| attach(facts.sysctls.page_bytes));
    if is_wanted(Area::Machine) {
        facts.machine = machine_with(types());
    }
    if is_wanted(Area::Files) {
        facts.files = files();
    }
    add_sysctls(&mut facts.sysctls, OF_THE_HOST.map(str::to_owned));
    // On a separate thread, since a thread leaves a namespace by ending.
    let entered = thread::scope(|scope| {
        let reader = thread::Builder::new().spawn_scoped(scope, || {
            found.as_ref().map_or(Ok(()), netns::Netns::enter)?;
            add_sysctls(&mut facts.sysctls, names_of_tcp());
            facts.sockstat = read("/proc/thread-self/net/sockstat").unwrap_or_default();
            Ok::<_, EnterError>(())
        })?;
        Ok::<_, io::Error>(reader.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    entered??;
    Ok(CheckUp {
        mono_ns: now_ns(),
        release: release(),
        netns: found.map(|found| (found.inode, found.name)),
        checks: checks(&facts, areas),
    })
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `MemTotal` of proc_meminfo(5).
fn memory_bytes() -> Option<u64> {
    let text = read("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn add_sysctls(to: &mut Sysctls, names: impl IntoIterator<Item = String>) {
    for name in names {
        if let Ok(text) = read(Path::new("/proc/sys").join(name.replace('.', "/"))) {
            to.values.insert(name, text);
        }
    }
}

/// Names of the TCP settings of the thread's network namespace.
fn names_of_tcp() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/net/ipv4").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let of_tcp = names.filter(|name| name.starts_with("tcp_") || name.starts_with("ip_local_"));
    of_tcp.map(|name| format!("net.ipv4.{name}")).chain(["net.core.somaxconn".to_owned()]).collect()
}

/// The TCP settings of the thread's network namespace that are checked, as names and values: others hold secrets
/// (`tcp_fastopen_key`).
pub(crate) fn tcp_settings() -> Vec<(String, String)> {
    let mut sysctls = Sysctls::default();
    add_sysctls(&mut sysctls, settings::names());
    sysctls.values.into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect()
}

/// The first reason why this machine cannot be traced (see [`judge::obstacle`]). Of BTF it only checks the existence; if
/// anything is missing in it, loading the programs fails.
#[must_use]
pub fn obstacle() -> Option<String> {
    let known = Types::Known { abilities: u32::MAX, no_listing: None };
    judge::obstacle(&machine_with(if Path::new(VMLINUX).exists() { known } else { Types::Missing }))
}

fn machine_with(types: Types) -> Machine {
    Machine {
        release: release(),
        types,
        capabilities: Capabilities::own(),
        has_proc: Path::new("/proc/self").exists(),
        has_own_users: pids::in_user_namespace(),
        view: pids::view(),
        descriptors: descriptors::allowed(),
        lockdown: read("/sys/kernel/security/lockdown").ok(),
        hides_processes: pids::hides_processes(),
        has_cgroup2: cgroup::find(Path::new("/")).is_ok(),
        memlock_bytes: memlock_bytes(),
        has_seccomp: seccomp::is_available(),
        landlock: writes::version(),
        program: std::env::current_exe().map_or_else(|_| "tcptrace".to_owned(), |path| path.display().to_string()),
    }
}

fn types() -> Types {
    let bytes = match Vmlinux::open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Types::Missing,
        Err(error) => return Types::Unusable(format!("cannot read {VMLINUX}: {error}")),
        Ok(bytes) => bytes,
    };
    match KernelBtf::parse(&bytes).and_then(|btf| Kernel::from_btf(&btf)) {
        Err(error) => Types::Unusable(error.to_string()),
        Ok(kernel) => Types::Known { abilities: kernel.features, no_listing: kernel.no_listing },
    }
}

/// Attaches all programs, reads both iterators, and detaches everything again.
fn attach(page_bytes: u64) -> Hooks {
    let bytes = u32::try_from(page_bytes).unwrap_or(4096);
    // As small as possible: events are not read.
    let settings = ProbeSettings {
        ring_bytes: bytes,
        shared_ring: false,
        max_sockets: 1,
        filter: KernelFilter::default(),
        log_level: None,
        no_iterators: false,
        aggregate: None,
    };
    let Attached { probes, iterators, .. } = Probes::attach(&settings).map_err(|error| error.to_string())?;
    let mut hooks: Vec<_> = Probes::hooks()
        .map(|name| {
            let missing = probes.missing.iter().find(|missing| missing.hook == name);
            Hook { name, missing: missing.map(|missing| (missing.reason.clone(), missing.effect)) }
        })
        .collect();
    drop(probes);
    hooks.extend(run_iterators(iterators.map_err(|error| error.to_string())));
    Ok(hooks)
}

fn run_iterators(iterators: Result<Iterators, String>) -> [Hook; 2] {
    let missing =
        |reason: String| (reason, "sockets and holders are listed through sock_diag and /proc, which is slower");
    let failure = |result: io::Result<()>| result.err().map(|error| missing(error.to_string()));
    let (sockets, holders) = match iterators {
        Err(reason) => (Some(missing(reason.clone())), Some(missing(reason))),
        Ok(mut iterators) => {
            let few: StateSet = [State::Listen].into_iter().collect();
            let prepared = iterators.set_request(few, 0, false);
            (failure(prepared.and_then(|()| iterators.sockets.read(|_| {}))), failure(iterators.holders.read(|_| {})))
        }
    };
    [Hook { name: "iter/tcp", missing: sockets }, Hook { name: "iter/task_file", missing: holders }]
}

/// The sysctl files in the order in which they are read at boot: a file hides files of the same name in later directories,
/// and `/etc/sysctl.conf` comes last (sysctl(8), `--system`).
fn files() -> Vec<ConfigFile> {
    let mut by_name: BTreeMap<_, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                by_name.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    let mut paths: Vec<_> = by_name.into_values().collect();
    let last = PathBuf::from("/etc/sysctl.conf");
    let same = |path: &PathBuf| path.canonicalize().ok() == last.canonicalize().ok();
    if last.exists() && !paths.iter().any(same) {
        paths.push(last);
    }
    // A link to /dev/null hides other files, too, but is not a file itself.
    paths.retain(|path| path.metadata().map_or(true, |metadata| metadata.is_file()));
    paths.into_iter().map(|path| ConfigFile { text: read(&path).ok(), path: path.display().to_string() }).collect()
}
