//! The iterator programs: they list sockets and their holders when their files are read.

use std::io::{self, Read as _};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{Iter, ProgramError},
};
use tcptrace_common::{filter::Filter, listing::Request};

use super::{
    kernel::{self, Kernel},
    mapping::page_len,
    object::{Error, Loaded, Object, ObjectSettings, Plain, Target, load_programs, take_map},
    rings::sizes::Sizes,
};
use crate::{heap::drop_beside, state::StateSet};

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
            rings: Sizes::of(page_len() as u32, false)?,
            max_sockets: 1,
            max_listeners: 1,
            filter: Filter::default(),
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
        drop_beside(ebpf);
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
    let result = loaded.remove(name).unwrap_or(Err(ProgramError::NotLoaded));
    let own = result.and_then(|()| Iter::from_program_info(program.info()?, name.into()));
    own.map(KernelIterator).map_err(|source| Error::Attach { hook, source })
}

/// A program that goes through something.
pub struct KernelIterator(Iter);

impl KernelIterator {
    /// Goes through all, and hands over what the program writes, in pieces of whole entries.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        /// The kernel gives no more at once (`kernel/bpf/bpf_iter.c`, `bpf_seq_read`).
        const PIECE_PAGES: usize = 8;
        let Self(program) = self;
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(io::Error::other)?;
        let mut file = link.into_file().map_err(io::Error::other)?;
        let mut piece = vec![0; PIECE_PAGES * page_len()];
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
