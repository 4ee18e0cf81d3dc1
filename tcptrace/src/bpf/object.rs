//! The compiled object: loaded with its constants, its programs yet to be loaded one by one.

use super::{OBJECT, btf::KernelBtf, constants, kernel::Kernel, rings::sizes::Sizes, vmlinux::Vmlinux};
use crate::model::kernel_counts::By;
pub(crate) use crate::{
    bpf::{error::Error, maps::Plain},
    model::decode::NetnsAlias,
    sys::{clock, pids, threads::beside},
};
use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, Pod,
    programs::{Program, ProgramError},
};
use aya_log::Level;
use tcptrace_common::{
    aggregate::by,
    config::{Config, Layout, kernel::MEMOS},
    filter::Filter,
    memo::{self, WAYS},
    state,
};
use zerocopy::IntoBytes as _;

// SAFETY: `T` has neither padding nor invalid values, and the wrapper adds nothing.
unsafe impl<T: zerocopy::FromBytes + zerocopy::IntoBytes + Copy + 'static> Pod for Plain<T> {}
/// Size of the ring buffer for the programs' log.
const LOG_BYTES: u32 = 1 << 20;

/// What the object is loaded with.
pub(super) struct ObjectSettings {
    pub(super) rings: Sizes,
    pub(super) max_sockets: u32,
    pub(super) max_listeners: u32,
    pub(super) filter: Filter,
    /// Cookie of the network namespace of the filter, where it is known.
    pub(super) netns_cookie: Option<u64>,
    pub(super) log_level: Option<Level>,
    pub(super) no_iterators: bool,
    /// Are there no other programs than the iterators?
    pub(super) iterators_alone: bool,
    pub(super) aggregate: Option<Aggregate>,
    /// Names of what the programs that are wanted are attached to.
    pub(super) attach_points: Vec<&'static str>,
}

/// The loaded object, and what its programs are loaded with.
pub(super) struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) kernel: Kernel,
    pub(super) btf: Btf,
    pub(super) owner_unchecked: bool,
    pub(super) netns_alias: Option<NetnsAlias>,
}

/// A loader without the kernel's BTF. `EbpfLoader::new` reads and parses all of it (some 20 ms and 40 MB) before one can
/// say that it is not wanted, unless it finds none: so it is called where there is none to be found, in a thread whose
/// root is an empty folder. Where that may not be done (CAP_SYS_CHROOT), all works as well, only slower.
fn new_loader<'a>() -> EbpfLoader<'a> {
    // SAFETY: takes numbers only; affects this thread alone, which ends at once.
    if unsafe { libc::unshare(libc::CLONE_FS) } == 0 {
        // SAFETY: the path is NUL-terminated; the thread's root is its own by now.
        unsafe { libc::chroot(c"/proc/self/fdinfo".as_ptr()) };
    }
    EbpfLoader::new()
}

impl Object {
    /// Makes the maps, and sets the constants for this kernel.
    pub(super) fn load(settings: &ObjectSettings) -> Result<Self, Error> {
        let vmlinux = Vmlinux::open().map_err(|source| Error::ReadBtf { source })?;
        let bytes: &[u8] = &vmlinux;
        let (parsed, loader) = thread::scope(|scope| {
            let loader = beside(scope, new_loader);
            (
                KernelBtf::parse(bytes),
                loader.map_or_else(|_| EbpfLoader::new(), |thread| thread.join().unwrap_or_default()),
            )
        });
        let parsed = parsed?;
        // No more than the ids of what is attached to: all types would be 38 MB.
        let ids = || Btf::parse(&parsed.ids_of(&settings.attach_points), Endianness::default());
        let (loaded, btf) = thread::scope(|scope| {
            let btf = beside(scope, ids);
            let loaded = Self::load_for(settings, &parsed, loader);
            (loaded, btf.map_or_else(|_| ids(), |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))))
        });
        let ((ebpf, kernel, owner_unchecked, netns_alias), btf) =
            (loaded?, btf.map_err(|source| Error::ParseBtf { source })?);
        Ok(Self { ebpf, kernel, btf, owner_unchecked, netns_alias })
    }

    /// The object, set for a kernel with these types; the kernel; whether owners are not checked; and how the programs name
    /// the namespace of the filter.
    fn load_for(
        settings: &ObjectSettings,
        types: &KernelBtf<'_>,
        loader: EbpfLoader<'_>,
    ) -> Result<(Ebpf, Kernel, bool, Option<NetnsAlias>), Error> {
        let kernel = Kernel::from_btf(types)?;
        let owner_unchecked = settings.no_iterators || kernel.no_listing.is_some();
        let (rings, memo_sets) = (settings.rings, memo::sets(settings.max_sockets));
        let keys = settings.aggregate.map_or(1, |aggregate| aggregate.keys);
        let counts = settings.aggregate.map_or(1, Aggregate::entries);
        // What is counted is not looked at once more.
        let unknown_owner_passes = owner_unchecked && settings.aggregate.is_none();
        let states = settings.filter.states;
        let becomes = states & (state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2)) != 0;
        let closes = if becomes { state::bit(state::CLOSE) } else { 0 };
        let (netns_alias, layout) = known_by_cookie(settings, &kernel);
        let netns = netns_alias.map_or(settings.filter.netns, |alias| alias.name);
        let config = Plain(Config {
            filter: Filter { unknown_owner_passes: unknown_owner_passes.into(), netns, ..settings.filter },
            layout,
            kernel: kernel.abilities | if settings.iterators_alone { 0 } else { MEMOS },
            // A quarter full: user space has the rest to come in time.
            slots: rings.slots,
            wake_slots: rings.slots / 4,
            wake_bytes: rings.shared / 4,
            wake_mask: rings.wake_mask(),
            hz: (1_000_000_000 / clock::tick_ns()) as u32,
            own_pid: std::process::id(),
            own_pidns: pids::namespace().inode,
            own_pidns_device: pids::namespace().device,
            memo_sets_mask: memo_sets - 1,
            aggregate: settings.aggregate.map_or(by::OFF, |aggregate| aggregate.by.number()),
            told: states.into(),
            timed: (state::timed(states) | closes).into(),
        });
        let object = constants::put(OBJECT, &config.0)?;
        let level = settings.log_level.map_or(0, |level| level as u8);
        let mut loader = loader; // lives no longer than what it is given
        loader
            .btf(None) // the object has no relocations by it
            .override_global("CONFIG", &config, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries("EVENTS", rings.shared)
            .map_max_entries("CPUS", rings.cpus)
            .map_max_entries("SLOTS", (rings.cpus * rings.slots).max(1))
            .map_max_entries("MEMO_KEYS", memo_sets)
            .map_max_entries("MEMOS", memo_sets * WAYS + rings.cpus)
            .map_max_entries("LISTENERS", settings.max_listeners)
            .map_max_entries("KEYS", keys)
            .map_max_entries("TIMES", counts)
            .map_max_entries("COUNTS", counts)
            .map_max_entries("AYA_LOGS", if settings.log_level.is_some() { LOG_BYTES } else { 4096 });
        Ok((loader.load(object.as_bytes())?, kernel, owner_unchecked, netns_alias))
    }
}

/// Where one network namespace is wanted, the programs take the lower half of its cookie for the number that they compare
/// and tell: of the others they tell nothing.
fn known_by_cookie(settings: &ObjectSettings, kernel: &Kernel) -> (Option<NetnsAlias>, Layout) {
    let inode = settings.filter.netns;
    let name = settings.netns_cookie.map_or(0, |cookie| cookie as u32);
    match kernel.net_cookie {
        Some(net_cookie) if inode != 0 && name != 0 => {
            (Some(NetnsAlias { name, inode }), Layout { net_ns_inum: net_cookie, ..kernel.layout })
        }
        _ => (None, kernel.layout),
    }
}

/// What a program is loaded for.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A tracepoint.
    Tracepoint(&'static str),
    /// The end of a function.
    Exit(&'static str),
    /// What an iterator goes through.
    Each(&'static str),
}

/// What became of programs by their names.
pub(super) type Loaded = HashMap<&'static str, Result<(), ProgramError>>;

/// Loads these programs, the first ones first. What takes long is the kernel's verifier, which works on several at a
/// time.
pub(super) fn load_programs(ebpf: &mut Ebpf, wanted: &[(&'static str, Target)], btf: &Btf) -> Loaded {
    let mut programs: HashMap<_, _> = ebpf.programs_mut().collect();
    let found = wanted.iter().filter_map(|(name, target)| Some((*name, *target, programs.remove(name)?)));
    let left = Mutex::new(found.collect::<Vec<_>>().into_iter());
    let loaded = Mutex::new(Loaded::new());
    let work = || {
        let next = || left.lock().ok()?.next();
        while let Some((name, target, program)) = next() {
            let result = load(program, target, btf);
            loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(name, result);
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from).min(wanted.len()) {
            let _ = beside(scope, work); // without it there is less help
        }
        work();
    });
    loaded.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn load(program: &mut Program, target: Target, btf: &Btf) -> Result<(), ProgramError> {
    match (program, target) {
        (Program::BtfTracePoint(program), Target::Tracepoint(name)) => program.load(name, btf),
        (Program::FExit(program), Target::Exit(name)) => program.load(name, btf),
        (Program::Iter(program), Target::Each(name)) => program.load(name, btf),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// What is counted in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate {
    /// What is counted apart.
    pub by: By,
    /// Ports or cgroups that are counted apart at most.
    pub keys: u32,
}

/// Entries of a table of counts that each port or cgroup gets; what all together get, as there is one for all others.
pub(crate) const ENTRIES_PER_KEY: u32 = 32;

pub(crate) const ENTRIES: u32 = 512;

impl Aggregate {
    /// Entries of each table of counts.
    pub(crate) fn entries(self) -> u32 {
        match self.by {
            By::Transition => ENTRIES,
            By::Port | By::Cgroup => ENTRIES.saturating_add(self.keys.saturating_mul(ENTRIES_PER_KEY)),
        }
    }
}
