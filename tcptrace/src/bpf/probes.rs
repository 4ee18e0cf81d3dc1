//! Loads the programs with their constants, attaches those whose hooks the kernel has, and provides access to their
//! maps.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, lpm_trie},
    programs::{Program, ProgramError},
};
use aya_log::{EbpfLogger, Level};
use tcptrace_common::{
    counters::Counters,
    filter::{Filter, PORT_WORDS, PORT_WORDS_PER_SET, PrefixData, part},
    listener::{Listener, ListenerKey},
};

use super::{
    aggregate::CountTables,
    hooks::{self, ACCEPT, ACCEPT_EFFECT, COUNT_TRANSITION, OPTIONAL, REQUIRED, TRANSITION, Tracepoint},
    iterators::{self, Iterators},
    kernel::{AcceptShape, Kernel},
    object::{Loaded, Object, ObjectSettings, Target, load_programs},
    rings::{Rings, cpus::Cpus, sizes::Sizes},
};
use crate::{
    bpf::{
        error::{Error, in_short},
        maps::{Plain, map_mut, take_map},
        object::Aggregate,
        rings::sizes::possible_cpus,
    },
    model::{decode::NetnsAlias, kernel_counts::By},
};

/// Maximum number of listeners whose owners are remembered for the connections that they accept.
const MAX_LISTENERS: u32 = 1 << 16;

/// Settings for loading the programs.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Total size in bytes of the rings of all CPUs: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Use one shared ring even where per-CPU rings are possible.
    pub shared_ring: bool,
    /// Maximum number of sockets that the kernel side tracks.
    pub max_sockets: u32,
    /// Which events the programs send.
    pub filter: KernelFilter,
    /// Messages of the programs up to this level go to the `log` crate's logger; `None` removes their logging code.
    pub log_level: Option<Level>,
    /// Do not load the iterators.
    pub no_iterators: bool,
    /// Count in the kernel instead of sending events; the iterators are then not loaded.
    pub aggregate: Option<Aggregate>,
}

impl ProbeSettings {
    /// True if anything depends on the owners of sockets. In aggregate mode mostly nothing does.
    fn owner_matters(&self) -> bool {
        let is_filtered = self.filter.constants.parts & (part::PID | part::CGROUP) != 0;
        self.aggregate.is_none_or(|aggregate| is_filtered || aggregate.by == By::Cgroup)
    }

    /// The program on the required tracepoint.
    fn required(&self) -> &'static str {
        if self.aggregate.is_some() { COUNT_TRANSITION } else { TRANSITION }
    }

    fn optional(&self) -> impl Iterator<Item = &'static Tracepoint> {
        let owner_matters = self.owner_matters();
        OPTIONAL.iter().filter(move |tracepoint| owner_matters || !tracepoint.is_for_owners)
    }
}

/// The filter, including the sets that do not fit in constants.
#[derive(Clone, Debug, Default)]
pub struct KernelFilter {
    /// The part of the filter that is patched into the programs.
    pub constants: Filter,
    /// Port ranges, inclusive, each with its set ([`tcptrace_common::filter::SET_LOCAL`] and so on).
    pub ports: Vec<(u8, u16, u16)>,
    /// Prefixes: set, address (IPv4-mapped for IPv4) and length in bits (0 to 128).
    pub prefixes: Vec<(u8, [u8; 16], u32)>,
    /// PIDs of the owners to select.
    pub pids: Vec<u32>,
    /// Cookie of the network namespace, if known.
    pub netns_cookie: Option<u64>,
}

/// A hook that was not attached, and its consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingHook {
    /// Name of the tracepoint or function.
    pub hook: &'static str,
    /// Why it could not be attached.
    pub reason: String,
    /// What tcptrace cannot report without it.
    pub effect: &'static str,
}

/// The attached programs. Dropping this detaches them.
pub struct Probes {
    ebpf: Ebpf,
    /// Hooks that could not be attached.
    pub missing: Vec<MissingHook>,
    /// True if events pass the owner filter when the programs do not know the owner: without iterators, the owners of
    /// sockets older than the tracer are unknown.
    pub owner_unchecked: bool,
    /// Names of RST reasons by the kernel's number.
    pub reset_reasons: std::collections::HashMap<u32, String>,
}

/// Everything that attaching produces. The rings and the counters remain readable after the probes are dropped.
pub struct Attached {
    /// The attached programs, which stay attached until this is dropped.
    pub probes: Probes,
    /// The rings that deliver events.
    pub rings: Rings,
    /// The programs' counters of events sent, filtered and lost.
    pub counters: KernelCounters,
    /// The listeners that the programs know.
    pub listeners: ListenerTable,
    /// The counts of aggregate mode.
    pub counts: CountTables,
    /// The iterators, or why there are none.
    pub iterators: Result<Iterators, Error>,
    /// How the programs identify the selected network namespace, unless by its inode number.
    pub netns_alias: Option<NetnsAlias>,
}

/// The programs' own counters, and those that the kernel keeps about them. They remain readable after the programs are
/// detached.
pub struct KernelCounters {
    counters: PerCpuArray<MapData, Plain<Counters>>,
    cpus: Cpus,
    numbers: Vec<u32>,
    programs: Vec<OwnedFd>,
}

/// The listeners that the programs know, with their owners.
pub struct ListenerTable {
    map: HashMap<MapData, Plain<ListenerKey>, Plain<Listener>>,
    alias: Option<NetnsAlias>,
}

impl ListenerTable {
    /// Adds a listener unless the programs already know one at this key. Returns true if it was added.
    pub fn seed(&mut self, key: ListenerKey, listener: Listener) -> bool {
        const BPF_NOEXIST: u64 = 1;
        self.map.insert(Plain(self.theirs(key)), Plain(listener), BPF_NOEXIST).is_ok()
    }

    /// Removes a listener that no longer exists.
    pub fn remove(&mut self, key: ListenerKey) {
        let _ = self.map.remove(&Plain(self.theirs(key))); // the programs may have removed it already
    }

    fn theirs(&self, key: ListenerKey) -> ListenerKey {
        match self.alias {
            Some(alias) if alias.inode == key.netns => ListenerKey { netns: alias.name, ..key },
            _ => key,
        }
    }
}

impl KernelCounters {
    /// The counters of each possible CPU, in the order of the CPU numbers.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn read(&self) -> Result<Vec<Counters>, MapError> {
        let counters = self.counters.get(&0, 0)?;
        let with_sent = |(number, counters): (&u32, &Plain<Counters>)| Counters {
            sent: self.cpus.reserved(*number as usize),
            ..counters.0
        };
        Ok(self.numbers.iter().zip(counters.iter()).map(with_sent).collect())
    }

    /// How often the kernel skipped a program because it was already running on that CPU, preempted by an interrupt or,
    /// where tracepoints are preemptible, by another task (`kernel/trace/bpf_trace.c`, `__bpf_trace_run`; nothing is
    /// skipped before 5.12).
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.programs.iter().map(|program| recursion_misses(program.as_raw_fd())).sum()
    }
}

/// Reads the counter in a program's fdinfo (`kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`).
fn recursion_misses(program: RawFd) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{program}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

impl Probes {
    /// Names of all hooks that [`Probes::attach`] attaches to, the required ones first.
    pub fn hooks() -> impl Iterator<Item = &'static str> {
        hooks::tracepoints().chain([ACCEPT])
    }

    /// Loads the programs and attaches them.
    ///
    /// # Errors
    /// If the kernel's BTF cannot be used, or a required program cannot be loaded or attached.
    pub fn attach(settings: &ProbeSettings) -> Result<Attached, Error> {
        let rings = Sizes::of(settings.ring_bytes, settings.shared_ring)?;
        let Object { mut ebpf, kernel, btf, owner_unchecked, netns_alias } = Object::load(&ObjectSettings {
            rings,
            max_sockets: settings.max_sockets,
            max_listeners: MAX_LISTENERS,
            filter: settings.filter.constants,
            netns_cookie: settings.filter.netns_cookie,
            no_iterators: settings.no_iterators,
            iterators_alone: false,
            aggregate: settings.aggregate,
            log_level: settings.log_level,
            attach_points: hooks::btf_names(),
        })?;
        fill_filter(&mut ebpf, &settings.filter)?;
        let mut wanted = programs(&kernel, settings);
        if !owner_unchecked {
            wanted.extend(iterators::PROGRAMS);
        }
        let mut loaded = load_programs(&mut ebpf, &wanted, &btf);
        let (counters, cpus) = (take_map(&mut ebpf, "COUNTERS")?, Cpus::map(&ebpf, rings)?);
        let rings = Rings::take(&mut ebpf, rings)?;
        let mut probes =
            Self { ebpf, missing: Vec::new(), owner_unchecked, reset_reasons: kernel.reset_reasons.clone() };
        probes.attach_all(&kernel, settings, &mut loaded)?;
        let iterators = if settings.no_iterators {
            Err(Error::Forbidden)
        } else {
            Iterators::take(&mut probes.ebpf, &kernel, loaded)
        };
        if iterators.is_err() && !owner_unchecked {
            // Without iterators nothing supplies the owners of existing sockets, so attach again with that setting:
            // unknown owners then pass the filter.
            drop(probes);
            let attached = Self::attach(&ProbeSettings { no_iterators: true, ..settings.clone() })?;
            return Ok(Attached { iterators, ..attached });
        }
        let is_for_owners = |name: &str| OPTIONAL.iter().any(|row| row.program == name && row.is_for_owners);
        let programs = probes.ebpf.programs().filter(|(name, _)| !is_for_owners(name));
        // Programs that were not loaded have no descriptor.
        let programs = programs.filter_map(|(_, program)| program.fd().ok()?.as_fd().try_clone_to_owned().ok());
        let counters = KernelCounters { counters, cpus, numbers: possible_cpus()?, programs: programs.collect() };
        let listeners = ListenerTable { map: take_map(&mut probes.ebpf, "LISTENERS")?, alias: netns_alias };
        let counts = CountTables::take(&mut probes.ebpf)?;
        Ok(Attached { probes, rings, counters, listeners, counts, iterators, netns_alias })
    }

    /// The programs' log, which passes messages to `logger` whenever it is flushed.
    ///
    /// # Errors
    /// If the object was loaded without logging.
    pub fn logger<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>, Error> {
        Ok(EbpfLogger::init_with_logger(&mut self.ebpf, logger)?)
    }

    fn attach_all(&mut self, kernel: &Kernel, settings: &ProbeSettings, loaded: &mut Loaded) -> Result<(), Error> {
        self.attach_one(settings.required(), loaded)?.map_err(|source| Error::Attach { hook: REQUIRED, source })?;
        for &Tracepoint { program, hook, effect, .. } in settings.optional() {
            if !kernel.has_tracepoint(hook) {
                self.missing.push(MissingHook { hook, reason: "this kernel has no such tracepoint".into(), effect });
            } else if let Err(error) = self.attach_one(program, loaded)? {
                self.missing.push(MissingHook { hook, reason: in_short(&error), effect });
            }
        }
        let reason = match kernel.accept {
            _ if !settings.owner_matters() => None,
            None => Some("its arguments are not known".to_owned()),
            Some(shape) => self.attach_one(accept(shape), loaded)?.err().map(|error| in_short(&error)),
        };
        if let Some(reason) = reason {
            self.missing.push(MissingHook { hook: ACCEPT, reason, effect: ACCEPT_EFFECT });
        }
        Ok(())
    }

    /// Attaches a loaded program. The outer error means that the object itself is wrong.
    fn attach_one(&mut self, name: &'static str, loaded: &mut Loaded) -> Result<Result<(), ProgramError>, Error> {
        let program = self.ebpf.program_mut(name).ok_or(Error::NotInObject(name))?;
        let result = loaded.remove(name).unwrap_or(Err(ProgramError::NotLoaded));
        Ok(result.and_then(|()| match program {
            Program::BtfTracePoint(program) => program.attach().map(drop),
            Program::FExit(program) => program.attach().map(drop),
            _ => Err(ProgramError::UnexpectedProgramType),
        }))
    }
}

/// The programs whose hooks this kernel has.
fn programs(kernel: &Kernel, settings: &ProbeSettings) -> Vec<(&'static str, Target)> {
    let optional = settings.optional().filter(|tracepoint| kernel.has_tracepoint(tracepoint.hook));
    let optional = optional.map(|tracepoint| (tracepoint.program, Target::Tracepoint(tracepoint.hook)));
    let exit = kernel.accept.filter(|_| settings.owner_matters()).map(|shape| (accept(shape), Target::Exit(ACCEPT)));
    [(settings.required(), Target::Tracepoint(REQUIRED))].into_iter().chain(optional).chain(exit).collect()
}

const fn accept(shape: AcceptShape) -> &'static str {
    match shape {
        AcceptShape::Two => "accept_2",
        AcceptShape::Four => "accept_4",
    }
}

fn fill_filter(ebpf: &mut Ebpf, filter: &KernelFilter) -> Result<(), Error> {
    const PORTS: &str = "FILTER_PORTS";
    const PREFIXES: &str = "FILTER_PREFIXES";
    const PIDS: &str = "FILTER_PIDS";
    let mut ports: Array<_, u64> = map_mut(ebpf, PORTS)?;
    for (index, word) in (0..PORT_WORDS).zip(port_words(&filter.ports)).filter(|(_, word)| *word != 0) {
        ports.set(index, word, 0).map_err(|source| Error::Map { name: PORTS, source })?;
    }
    let mut prefixes: LpmTrie<_, Plain<PrefixData>, u8> = map_mut(ebpf, PREFIXES)?;
    for &(set, address, bits) in &filter.prefixes {
        let key = lpm_trie::Key::new(8 + bits, Plain(PrefixData { set, address }));
        prefixes.insert(&key, 1, 0).map_err(|source| Error::Map { name: PREFIXES, source })?;
    }
    let mut pids: HashMap<_, u32, u8> = map_mut(ebpf, PIDS)?;
    for pid in &filter.pids {
        pids.insert(pid, 1, 0).map_err(|source| Error::Map { name: PIDS, source })?;
    }
    Ok(())
}

/// The bitmaps of the three port sets, in the layout that the programs expect.
fn port_words(ranges: &[(u8, u16, u16)]) -> Vec<u64> {
    let mut words = vec![0; PORT_WORDS as usize];
    for &(set, first, last) in ranges {
        for port in first..=last {
            let index = usize::from(set) * PORT_WORDS_PER_SET as usize + usize::from(port >> 6);
            if let Some(word) = words.get_mut(index) {
                *word |= 1u64 << (port & 63);
            }
        }
    }
    words
}
