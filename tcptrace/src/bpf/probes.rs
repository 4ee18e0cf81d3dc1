//! Loads the programs with their constants, attaches those that the kernel has hooks for, and hands out their maps.

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

/// Listeners whose owners are remembered for the connections that come through them, at most.
const MAX_LISTENERS: u32 = 1 << 16;

/// What the programs are loaded with.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// Size of the rings of all CPUs together in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// CPUs get no rings of their own, also where they can have some.
    pub shared_ring: bool,
    /// Sockets that the kernel side remembers at most.
    pub max_sockets: u32,
    /// What passes.
    pub filter: KernelFilter,
    /// Messages of the programs up to this level are sent to the `log` crate's logger; `None` removes their code.
    pub log_level: Option<Level>,
    /// Do without the iterators.
    pub no_iterators: bool,
    /// Count in the kernel, and send nothing; there are no iterators then.
    pub aggregate: Option<Aggregate>,
}

impl ProbeSettings {
    /// Does anything depend on whose the sockets are? Where nothing is sent it mostly does not.
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

/// The filter with the sets that do not fit into constants.
#[derive(Clone, Debug, Default)]
pub struct KernelFilter {
    /// Constants.
    pub constants: Filter,
    /// Set ([`tcptrace_common::filter::SET_LOCAL`] and its like) and range of ports, both ends included.
    pub ports: Vec<(u8, u16, u16)>,
    /// Set, address (IPv4 mapped) and length of its prefix in bits (0 to 128).
    pub prefixes: Vec<(u8, [u8; 16], u32)>,
    /// PIDs of owners.
    pub pids: Vec<u32>,
    /// Cookie of the network namespace, where it is known.
    pub netns_cookie: Option<u64>,
}

/// A hook that is not attached, and what is missing for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingHook {
    /// Name of the tracepoint or function.
    pub hook: &'static str,
    /// Why it could not be attached.
    pub reason: String,
    /// What tcptrace does not know for lack of it.
    pub effect: &'static str,
}

/// The running programs. They are detached when this is dropped.
pub struct Probes {
    ebpf: Ebpf,
    /// Hooks that could not be attached.
    pub missing: Vec<MissingHook>,
    /// Events of sockets whose owner the programs do not know pass the filter by owner: without the iterators they know
    /// no owners of sockets from before the start.
    pub owner_unchecked: bool,
    /// Names of the reasons of RSTs by the kernel's number.
    pub reset_reasons: std::collections::HashMap<u32, String>,
}

/// All that comes of attaching. The rings and the counters stay readable when the probes are gone.
pub struct Attached {
    /// The programs.
    pub probes: Probes,
    /// Where the events come from.
    pub rings: Rings,
    /// What the programs count.
    pub counters: KernelCounters,
    /// The listeners that the programs know.
    pub listeners: ListenerTable,
    /// What they count in aggregate mode.
    pub counts: CountTables,
    /// The iterators, or why there are none.
    pub iterators: Result<Iterators, Error>,
    /// How the programs name the network namespace that is chosen, where that is not by its inode number.
    pub netns_alias: Option<NetnsAlias>,
}

/// The counters of the programs, and those that the kernel keeps of them; they can be read when the programs are
/// detached.
pub struct KernelCounters {
    counters: PerCpuArray<MapData, Plain<Counters>>,
    cpus: Cpus,
    numbers: Vec<u32>,
    programs: Vec<OwnedFd>,
}

/// The listeners that the programs know.
pub struct ListenerTable {
    map: HashMap<MapData, Plain<ListenerKey>, Plain<Listener>>,
    alias: Option<NetnsAlias>,
}

impl ListenerTable {
    /// Adds a listener, if the programs do not know one there. Gives whether it was added.
    pub fn seed(&mut self, key: ListenerKey, listener: Listener) -> bool {
        const BPF_NOEXIST: u64 = 1;
        self.map.insert(Plain(self.theirs(key)), Plain(listener), BPF_NOEXIST).is_ok()
    }

    /// Takes one away that is not there any more.
    pub fn remove(&mut self, key: ListenerKey) {
        let _ = self.map.remove(&Plain(self.theirs(key))); // the programs may have done so
    }

    fn theirs(&self, key: ListenerKey) -> ListenerKey {
        match self.alias {
            Some(alias) if alias.inode == key.netns => ListenerKey { netns: alias.name, ..key },
            _ => key,
        }
    }
}

impl KernelCounters {
    /// The counters of each CPU that the kernel may have, in the order of their numbers.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub fn read(&self) -> Result<Vec<Counters>, MapError> {
        let counters = self.counters.get(&0, 0)?;
        let with_sent = |(number, counters): (&u32, &Plain<Counters>)| Counters {
            sent: self.cpus.reserved(*number as usize),
            ..counters.0
        };
        Ok(self.numbers.iter().zip(counters.iter()).map(with_sent).collect())
    }

    /// How often the kernel passed a program over, because the same program was already running on that CPU, stopped
    /// by an interrupt or, where tracepoints may be preempted, by another task (`kernel/trace/bpf_trace.c`,
    /// `__bpf_trace_run`; nothing is passed over before 5.12).
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.programs.iter().map(|program| recursion_misses(program.as_raw_fd())).sum()
    }
}

/// What the kernel shows of a program's descriptor (`kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`).
fn recursion_misses(program: RawFd) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{program}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

impl Probes {
    /// Names of all hooks that [`Probes::attach`] attaches to; of the last ones some may be missing.
    pub fn hooks() -> impl Iterator<Item = &'static str> {
        hooks::tracepoints().chain([ACCEPT])
    }

    /// Loads the programs and attaches them.
    ///
    /// # Errors
    /// Where the kernel's BTF cannot be used, or a program that is needed cannot be loaded or attached.
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
            // The programs keep back what has no wanted owner, as if iterators had told them all owners.
            drop(probes);
            let attached = Self::attach(&ProbeSettings { no_iterators: true, ..settings.clone() })?;
            return Ok(Attached { iterators, ..attached });
        }
        let is_for_owners = |name: &str| OPTIONAL.iter().any(|row| row.program == name && row.is_for_owners);
        let programs = probes.ebpf.programs().filter(|(name, _)| !is_for_owners(name));
        // Programs that are not attached have no descriptor.
        let programs = programs.filter_map(|(_, program)| program.fd().ok()?.as_fd().try_clone_to_owned().ok());
        let counters = KernelCounters { counters, cpus, numbers: possible_cpus()?, programs: programs.collect() };
        let listeners = ListenerTable { map: take_map(&mut probes.ebpf, "LISTENERS")?, alias: netns_alias };
        let counts = CountTables::take(&mut probes.ebpf)?;
        Ok(Attached { probes, rings, counters, listeners, counts, iterators, netns_alias })
    }

    /// What the programs log, to be flushed from time to time; `logger` gets it.
    ///
    /// # Errors
    /// Where the object was loaded without its log.
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

    /// Attaches a program that was loaded. What is wrong with the object is the outer error.
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

/// The programs that this kernel has hooks for.
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

/// The bitmaps of the three sets, as the programs look them up.
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
