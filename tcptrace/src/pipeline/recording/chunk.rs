//! A chunk: a header of fixed size, and frames compressed by zstd.

use std::{
    io::{self, Read},
    ops::RangeInclusive,
};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

use super::Error;

/// Most bytes of a chunk before compression: a listing of about 400,000 sockets.
pub const MAX_RAW: usize = 32 << 20;
/// Most bytes of a chunk after compression.
const MAX_STORED: usize = MAX_RAW + (1 << 20);
/// Records become hardly smaller with level 1, which takes twice as long.
const LEVEL: i32 = -1;
/// Largest buffer that is kept from chunk to chunk, in bytes.
const MAX_KEPT: usize = 4 << 20;
/// The first bytes of each chunk.
const MAGIC: [u8; 4] = *b"\xf0chk";

/// What a chunk contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// Inputs of the session, and names.
    Inputs = 1,
    /// The index, the last chunk of a file.
    Index = 2,
}

/// What stands before the bytes of a chunk. 48 bytes, integers in little endian.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ChunkHeader {
    magic: [u8; 4],
    kind: U32,
    /// Bytes after this header.
    stored: U32,
    /// Bytes once they are decompressed.
    raw: U32,
    /// Times of the first and last input: CLOCK_MONOTONIC in ns.
    first_ns: U64,
    last_ns: U64,
    /// Number of records and other inputs.
    inputs: U64,
    reserved: U32,
    /// CRC-32C of this header up to here, and of the bytes after it.
    crc: U32,
}

/// Size of [`ChunkHeader`] in bytes.
pub const HEADER_LEN: usize = size_of::<ChunkHeader>();
const _: () = assert!(HEADER_LEN == 48);

/// A chunk before compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawChunk {
    /// What it contains.
    pub kind: ChunkKind,
    /// Times of its first and last input: CLOCK_MONOTONIC in ns.
    pub times: RangeInclusive<u64>,
    /// Number of inputs.
    pub inputs: u64,
    /// The frames.
    pub bytes: Vec<u8>,
}

/// Compresses chunks.
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Compressor {
    /// A compressor, which keeps its memory from chunk to chunk.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, buffer: Vec::new() })
    }

    /// The bytes of a chunk in the file.
    ///
    /// # Errors
    /// If the chunk is too large.
    pub fn encode(&mut self, chunk: &RawChunk) -> io::Result<&[u8]> {
        if chunk.bytes.len() > MAX_RAW {
            return Err(io::Error::other("a chunk is too large"));
        }
        let most = HEADER_LEN + zstd::zstd_safe::compress_bound(chunk.bytes.len());
        if self.buffer.len() < most || self.buffer.len() > most.max(MAX_KEPT) {
            self.buffer = vec![0; most];
        }
        let (begin, rest) = self.buffer.split_at_mut(HEADER_LEN);
        let len = self.zstd.compress_to_buffer(&chunk.bytes, rest)?;
        let stored = rest.get(..len).unwrap_or_default();
        let mut header = ChunkHeader {
            magic: MAGIC,
            kind: (chunk.kind as u32).into(),
            stored: (stored.len() as u32).into(),
            raw: (chunk.bytes.len() as u32).into(),
            first_ns: (*chunk.times.start()).into(),
            last_ns: (*chunk.times.end()).into(),
            inputs: chunk.inputs.into(),
            reserved: 0.into(),
            crc: 0.into(),
        };
        header.crc = header.checksum(stored).into();
        begin.copy_from_slice(header.as_bytes());
        Ok(self.buffer.get(..HEADER_LEN + len).unwrap_or_default())
    }
}

impl ChunkHeader {
    /// Reads a header that claims a length within bounds. Its checksum is checked together with the bytes.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        let header = Self::read_from_bytes(bytes).map_err(|_| Error::Damaged("a chunk's header"))?;
        let fits = header.stored() <= MAX_STORED && header.raw.get() as usize <= MAX_RAW;
        if header.magic != MAGIC || !fits || header.first_ns > header.last_ns {
            return Err(Error::Damaged("a chunk's header"));
        }
        Ok(header)
    }

    /// Number of bytes after the header.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.stored.get() as usize
    }

    /// What the chunk contains; `None` if this tcptrace does not know.
    #[must_use]
    pub fn kind(&self) -> Option<ChunkKind> {
        [ChunkKind::Inputs, ChunkKind::Index].into_iter().find(|kind| *kind as u32 == self.kind.get())
    }

    /// Times of the first and last input.
    #[must_use]
    pub fn times(&self) -> RangeInclusive<u64> {
        self.first_ns.get()..=self.last_ns.get()
    }

    /// Number of inputs.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.inputs.get()
    }

    fn checksum(&self, stored: &[u8]) -> u32 {
        let own = self.as_bytes().get(..HEADER_LEN - 4).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c(own), stored)
    }

    /// Checks and decompresses the bytes after the header, into this buffer.
    ///
    /// # Errors
    /// If they are not those that were written.
    pub fn decode(&self, stored: &[u8], mut bytes: Vec<u8>) -> Result<RawChunk, Error> {
        if stored.len() != self.stored() || self.checksum(stored) != self.crc.get() {
            return Err(Error::Damaged("a chunk's checksum is wrong"));
        }
        let kind = self.kind().ok_or(Error::Damaged("a chunk of an unknown kind"))?;
        let raw = self.raw.get() as usize;
        bytes.clear();
        bytes.reserve(raw);
        zstd::bulk::Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(stored, &mut bytes))
            .map_err(|_| Error::Damaged("a chunk cannot be decompressed"))?;
        if bytes.len() != raw {
            return Err(Error::Damaged("a chunk is shorter than it says"));
        }
        Ok(RawChunk { kind, times: self.times(), inputs: self.inputs(), bytes })
    }
}

/// Fills `buffer`; returns false if the file ends before it does.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
