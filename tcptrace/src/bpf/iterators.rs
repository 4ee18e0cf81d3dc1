//! The iterator programs: they list sockets and their holders when their files are read.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{Program, ProgramError},
};
use rustix::param::page_size;
use tcptrace_common::{filter::Filter, listing::Request};

use super::{
    kernel::{self, Kernel},
    object::{Loaded, Object, ObjectSettings, Target, load_programs},
    rings::sizes::Sizes,
};
use crate::{
    bpf::{
        error::Error,
        maps::{Plain, take_map},
    },
    model::state::StateSet,
};

/// A program, and what it goes through.
const SOCKETS: (&str, &str) = ("list_sockets", "tcp");
const HOLDERS: (&str, &str) = ("list_holders", "task_file");

/// The programs, to be loaded.
pub(super) const PROGRAMS: [(&str, Target); 2] =
    [(SOCKETS.0, Target::Each(SOCKETS.1)), (HOLDERS.0, Target::Each(HOLDERS.1))];

/// The loaded programs.
pub struct Iterators {
    /// Gives the [`tcptrace_common::listing::SocketEntry`]s of the sockets of the calling thread's network namespace.
    pub sockets: KernelIterator,
    /// Gives the [`tcptrace_common::listing::HolderEntry`]s of all TCP sockets of all namespaces.
    pub holders: KernelIterator,
    request: Array<MapData, Plain<Request>>,
}

impl Iterators {
    /// Loads nothing but the iterators.
    ///
    /// # Errors
    /// Where the kernel's BTF cannot be used, or does not have the iterators.
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
            attach_points: kernel::ITERATORS.to_vec(),
        };
        let Object { mut ebpf, kernel, btf, .. } = Object::load(&settings)?;
        let wanted = if kernel.no_listing.is_none() { &PROGRAMS[..] } else { &[] };
        let loaded = load_programs(&mut ebpf, wanted, &btf);
        let taken = Self::take(&mut ebpf, &kernel, loaded);
        drop(btf); // its memory is used for the sockets
        taken
    }

    /// Takes the iterators of an object. They work as long as this lives, also without the object.
    pub(super) fn take(ebpf: &mut Ebpf, kernel: &Kernel, mut loaded: Loaded) -> Result<Self, Error> {
        if let Some(reason) = &kernel.no_listing {
            return Err(Error::NoListing(reason.clone()));
        }
        Ok(Self {
            sockets: iterator(ebpf, &mut loaded, SOCKETS)?,
            holders: iterator(ebpf, &mut loaded, HOLDERS)?,
            request: take_map(ebpf, "REQUEST")?,
        })
    }

    /// Tells the programs what is wanted: sockets in these states (empty: all); and for up to `seeds` sockets that they did
    /// not know they remember holders as owners, when these are read. Those of listeners that they know, always. With
    /// `ailing` they show connections of other states that wait for a process, too.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn ask(&mut self, states: StateSet, seeds: u32, ailing: bool) -> io::Result<()> {
        let seeding = if seeds > 0 { 1 } else { 2 };
        let request = Request { states: states.bits(), seeding, ailing: ailing.into(), seeds };
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
        // Its descriptor by its number in the kernel would be had with CAP_SYS_ADMIN alone (`bpf_prog_get_fd_by_id`).
        Program::Iter(program) => Ok(program.fd()?.as_fd().try_clone_to_owned()?),
        _ => Err(ProgramError::UnexpectedProgramType),
    });
    program.map(KernelIterator).map_err(|source| Error::Attach { hook, source })
}

/// A program that goes through something.
pub struct KernelIterator(OwnedFd);

/// bpf(2) with the first words of its attributes, for commands that make a descriptor.
fn bpf(command: libc::c_long, attributes: [u32; 4]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads so many bytes of the attributes, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of_val(&attributes)) };
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made it for this process, and nothing else knows it.
        Ok(descriptor @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

impl KernelIterator {
    /// A file whose reading runs the program, once through all.
    fn open(&self) -> io::Result<File> {
        /// Of `enum bpf_cmd` and `enum bpf_attach_type` (`include/uapi/linux/bpf.h`).
        const BPF_LINK_CREATE: libc::c_long = 28;
        const BPF_ITER_CREATE: libc::c_long = 33;
        const BPF_TRACE_ITER: u32 = 28;
        let link = bpf(BPF_LINK_CREATE, [self.0.as_raw_fd() as u32, 0, BPF_TRACE_ITER, 0])?;
        bpf(BPF_ITER_CREATE, [link.as_raw_fd() as u32, 0, 0, 0]).map(File::from)
    }

    /// Goes through all, and hands over what the program writes, in pieces of whole entries.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        /// The kernel gives no more at once (`kernel/bpf/bpf_iter.c`, `bpf_seq_read`).
        const PIECE_PAGES: usize = 8;
        let mut file = self.open()?;
        let mut piece = vec![0; PIECE_PAGES * page_size()];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => take(&piece[..length]),
                // It looked at many that the program was silent on, and makes room for others.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
