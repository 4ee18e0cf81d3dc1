//! The iterator programs, which list sockets and their holders when user space reads their files.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError},
    programs::{Program, ProgramError},
};
use rustix::param::page_size;
use tcptrace_common::{
    filter::Filter,
    listing::{ListingRequest, seeding},
};

use super::{
    hooks::{self, HOLDERS, SOCKETS},
    kernel::Kernel,
    object::{Loaded, Object, ObjectSettings, Target, load_programs},
    rings::sizes::Sizes,
};
use crate::{
    bpf::{
        error::{Error, failed},
        maps::Plain,
    },
    model::state::StateSet,
};

/// The programs to load.
pub(super) const PROGRAMS: [(&str, Target); 2] =
    [(SOCKETS.0, Target::Each(SOCKETS.1)), (HOLDERS.0, Target::Each(HOLDERS.1))];

/// The loaded iterator programs.
pub struct Iterators {
    /// Writes the [`tcptrace_common::listing::SocketEntry`]s of the calling thread's network namespace.
    pub sockets: KernelIterator,
    /// Writes the [`tcptrace_common::listing::HolderEntry`]s of the TCP sockets of all namespaces.
    pub holders: KernelIterator,
    request: Array<MapData, Plain<ListingRequest>>,
    /// The same map, for copies.
    map: OwnedFd,
}

impl Iterators {
    /// Loads only the iterators.
    ///
    /// # Errors
    /// If the kernel's BTF cannot be used, or lacks the iterators.
    pub fn alone() -> Result<Self, Error> {
        let settings = ObjectSettings {
            rings: Sizes::of(page_size() as u32, false)?,
            max_sockets: 1,
            max_listeners: 1,
            filter: Filter::default(),
            netns_cookie: None,
            log_level: None,
            no_iterators: false,
            iterators_alone: true,
            aggregate: None,
            attach_points: hooks::iterator_names(),
        };
        let Object { mut ebpf, kernel, btf, .. } = Object::load(&settings)?;
        let wanted = if kernel.no_listing.is_none() { &PROGRAMS[..] } else { &[] };
        let loaded = load_programs(&mut ebpf, wanted, &btf);
        let taken = Self::take(&mut ebpf, &kernel, loaded);
        drop(btf); // frees memory for the sockets
        taken
    }

    /// Takes the iterators out of an object. They remain usable after the object is dropped.
    pub(super) fn take(ebpf: &mut Ebpf, kernel: &Kernel, mut loaded: Loaded) -> Result<Self, Error> {
        if let Some(reason) = &kernel.no_listing {
            return Err(Error::NoListing(reason.clone()));
        }
        const REQUEST: &str = "REQUEST";
        let Some(Map::Array(request)) = ebpf.take_map(REQUEST) else { return Err(Error::NotInObject(REQUEST)) };
        let map = request.fd().as_fd().try_clone_to_owned().map_err(|source| failed(REQUEST, source))?;
        Ok(Self {
            sockets: iterator(ebpf, &mut loaded, SOCKETS)?,
            holders: iterator(ebpf, &mut loaded, HOLDERS)?,
            request: Array::try_from(Map::Array(request)).map_err(|source| Error::Map { name: REQUEST, source })?,
            map,
        })
    }

    /// The same programs and map by other descriptors, without loading anything. Both are not to list at the same time.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn try_clone(&self) -> Result<Self, MapError> {
        let request = MapData::from_fd(self.map.try_clone().map_err(MapError::IoError)?)?;
        let iterator =
            |iterator: &KernelIterator| iterator.0.try_clone().map(KernelIterator).map_err(MapError::IoError);
        Ok(Self {
            sockets: iterator(&self.sockets)?,
            holders: iterator(&self.holders)?,
            request: Array::try_from(Map::Array(request))?,
            map: self.map.try_clone().map_err(MapError::IoError)?,
        })
    }

    /// Sets what the programs list: sockets in these states (empty: all), and with `stuck` also connections in other
    /// states that wait for a process. When the holders are read, the programs remember them as owners of up to
    /// `new_owners` sockets that were not tracked before, and always of tracked listeners.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_request(&mut self, states: StateSet, new_owners: u32, stuck: bool) -> io::Result<()> {
        let seeding = if new_owners > 0 { seeding::ALL } else { seeding::LISTENERS };
        let request = ListingRequest { states: states.bits(), seeding, stuck: stuck.into(), seeds_left: new_owners };
        self.request.set(0, Plain(request), 0).map_err(io::Error::other)
    }
}

fn iterator(
    ebpf: &mut Ebpf,
    loaded: &mut Loaded,
    (name, hook): (&'static str, &'static str),
) -> Result<KernelIterator, Error> {
    let program = ebpf.program(name).ok_or(Error::NotInObject(name))?;
    let loaded = loaded.remove(name).unwrap_or(Err(ProgramError::NotLoaded));
    let program = loaded.and_then(|()| match program {
        // Getting a descriptor by program id would require CAP_SYS_ADMIN (`bpf_prog_get_fd_by_id`).
        Program::Iter(program) => Ok(program.fd()?.as_fd().try_clone_to_owned()?),
        _ => Err(ProgramError::UnexpectedProgramType),
    });
    program.map(KernelIterator).map_err(|source| Error::Attach { hook, source })
}

/// A loaded iterator program.
pub struct KernelIterator(OwnedFd);

/// Calls bpf(2) with the first words of its attributes, for commands that return a descriptor.
fn bpf(command: libc::c_long, attributes: [u32; 4]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads that many bytes of the attributes, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of_val(&attributes)) };
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just created it for this process; it has no other owner.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

impl KernelIterator {
    /// Opens a file that runs the program over all objects once when it is read.
    fn open(&self) -> io::Result<File> {
        /// From `enum bpf_cmd` and `enum bpf_attach_type` (`include/uapi/linux/bpf.h`).
        const BPF_LINK_CREATE: libc::c_long = 28;
        const BPF_ITER_CREATE: libc::c_long = 33;
        const BPF_TRACE_ITER: u32 = 28;
        let link = bpf(BPF_LINK_CREATE, [self.0.as_raw_fd() as u32, 0, BPF_TRACE_ITER, 0])?;
        bpf(BPF_ITER_CREATE, [link.as_raw_fd() as u32, 0, 0, 0]).map(File::from)
    }

    /// Runs the iterator to its end and passes its output to `take` in chunks of whole entries.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        /// The kernel returns at most this much per read (`kernel/bpf/bpf_iter.c`, `bpf_seq_read`).
        const PIECE_PAGES: usize = 8;
        let mut file = self.open()?;
        let mut piece = vec![0; PIECE_PAGES * page_size()];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&piece[..length]),
                // The kernel visited many objects for which the program wrote nothing, and yields the CPU.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
