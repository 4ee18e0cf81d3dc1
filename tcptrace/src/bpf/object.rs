//! The compiled object with its constants patched in and its maps created; its programs are loaded one by one.

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
    config::{Config, Layout, feature::TRACKING},
    filter::Filter,
    state,
    tracked::{self, WAYS},
};
use zerocopy::IntoBytes as _;

// SAFETY: `T` has neither padding nor invalid values, and the wrapper adds nothing.
unsafe impl<T: zerocopy::FromBytes + zerocopy::IntoBytes + Copy + 'static> Pod for Plain<T> {}
/// Size of the ring buffer for log messages of the programs.
const LOG_BYTES: u32 = 1 << 20;

/// Settings for loading the object.
pub(super) struct ObjectSettings {
    pub(super) rings: Sizes,
    pub(super) max_sockets: u32,
    pub(super) max_listeners: u32,
    pub(super) filter: Filter,
    /// Cookie of the network namespace in the filter, if known.
    pub(super) netns_cookie: Option<u64>,
    pub(super) log_level: Option<Level>,
    pub(super) no_iterators: bool,
    /// True if only the iterators are loaded.
    pub(super) iterators_alone: bool,
    pub(super) aggregate: Option<Aggregate>,
    /// BTF names that the wanted programs attach to.
    pub(super) attach_points: Vec<String>,
}

/// The loaded object, and what its programs need for loading.
pub(super) struct Object {
    pub(super) ebpf: Ebpf,
    pub(super) kernel: Kernel,
    pub(super) btf: Btf,
    pub(super) owner_unchecked: bool,
    pub(super) netns_alias: Option<NetnsAlias>,
}

/// Creates a loader without the kernel's BTF. `EbpfLoader::new` always reads and parses all of it (about 20 ms and 40
/// MB), even if the caller then replaces it, unless there is none. So it is called in a thread whose root directory is
/// an empty folder. If that is not permitted (CAP_SYS_CHROOT), loading is merely slower.
fn new_loader<'a>() -> EbpfLoader<'a> {
    // SAFETY: takes only numbers; affects only this thread, which ends soon.
    if unsafe { libc::unshare(libc::CLONE_FS) } == 0 {
        // SAFETY: the path is NUL-terminated; this thread has a root directory of its own by now.
        unsafe { libc::chroot(c"/proc/self/fdinfo".as_ptr()) };
    }
    EbpfLoader::new()
}

impl Object {
    /// Creates the maps, and sets the constants for this kernel.
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
        // Only the ids of the attach points: all types would take 38 MB.
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

    /// Loads the object for a kernel with these types. Also returns the kernel, whether owners are left unchecked, and
    /// how the programs identify the filter's network namespace.
    fn load_for(
        settings: &ObjectSettings,
        types: &KernelBtf<'_>,
        loader: EbpfLoader<'_>,
    ) -> Result<(Ebpf, Kernel, bool, Option<NetnsAlias>), Error> {
        let kernel = Kernel::from_btf(types)?;
        let owner_unchecked = settings.no_iterators || kernel.no_listing.is_some();
        let (rings, tracked_sets) = (settings.rings, tracked::set_count(settings.max_sockets));
        let keys = settings.aggregate.map_or(1, |aggregate| aggregate.keys);
        let counts = settings.aggregate.map_or(1, Aggregate::entries);
        // User space cannot check counted events again.
        let unknown_owner_passes = owner_unchecked && settings.aggregate.is_none();
        let states = settings.filter.states;
        let becomes = states & (state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2)) != 0;
        let closes = if becomes { state::bit(state::CLOSE) } else { 0 };
        let (netns_alias, layout) = known_by_cookie(settings, &kernel);
        let netns = netns_alias.map_or(settings.filter.netns, |alias| alias.name);
        let config = Plain(Config {
            filter: Filter { unknown_owner_passes: unknown_owner_passes.into(), netns, ..settings.filter },
            layout,
            features: kernel.features | if settings.iterators_alone { 0 } else { TRACKING },
            // A quarter full, which leaves user space the rest as time to react.
            ring_slots: rings.slots,
            wake_slots: rings.slots / 4,
            wake_bytes: rings.shared / 4,
            wake_check_mask: rings.wake_mask(),
            hz: (1_000_000_000 / clock::tick_ns()) as u32,
            own_pid: std::process::id(),
            own_pidns: pids::namespace().inode,
            own_pidns_device: pids::namespace().device,
            tracked_sets_mask: tracked_sets - 1,
            aggregate: settings.aggregate.map_or(by::OFF, |aggregate| aggregate.by.number()),
            reported_states: states.into(),
            timed_states: (state::timed_states(states) | closes).into(),
        });
        let object = constants::put(OBJECT, &config.0)?;
        let level = settings.log_level.map_or(0, |level| level as u8);
        let mut loader = loader; // shortens its lifetime to that of its arguments
        loader
            .btf(None) // the object has no BTF relocations
            .override_global("CONFIG", &config, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries("EVENTS", rings.shared)
            .map_max_entries("CPU_RINGS", rings.cpus)
            .map_max_entries("SLOTS", (rings.cpus * rings.slots).max(1))
            .map_max_entries("TRACKED_KEYS", tracked_sets)
            .map_max_entries("TRACKED", tracked_sets * WAYS + rings.cpus)
            .map_max_entries("LISTENERS", settings.max_listeners)
            .map_max_entries("GROUPS", keys)
            .map_max_entries("TIMES", counts)
            .map_max_entries("COUNTS", counts)
            .map_max_entries("AYA_LOGS", if settings.log_level.is_some() { LOG_BYTES } else { 4096 });
        Ok((loader.load(object.as_bytes())?, kernel, owner_unchecked, netns_alias))
    }
}

/// If one network namespace is selected, the programs compare and report the lower half of its cookie instead of an
/// inode number; they report no events of other namespaces.
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

/// What a program attaches to.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A tracepoint, by name.
    Tracepoint(&'static str),
    /// The return of a kernel function (fexit).
    Exit(&'static str),
    /// The objects that an iterator visits.
    Each(&'static str),
}

/// Result of loading each program, by name.
pub(super) type Loaded = HashMap<&'static str, Result<(), ProgramError>>;

/// Loads these programs, in order. The kernel's verifier takes most of the time, and can check several programs in
/// parallel.
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
            let _ = beside(scope, work); // if it fails, this thread does all the work
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

/// Settings of aggregate mode.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate {
    /// Key by which counts are grouped.
    pub by: By,
    /// Maximum number of ports or cgroups that are counted separately.
    pub keys: u32,
}

/// Entries of a count table for each port or cgroup that is counted separately; [`ENTRIES`] are for all others
/// together.
pub(crate) const ENTRIES_PER_KEY: u32 = 32;

pub(crate) const ENTRIES: u32 = 512;

impl Aggregate {
    /// Number of entries in each count table.
    pub(crate) fn entries(self) -> u32 {
        match self.by {
            By::Transition => ENTRIES,
            By::Port | By::Cgroup => ENTRIES.saturating_add(self.keys.saturating_mul(ENTRIES_PER_KEY)),
        }
    }
}
