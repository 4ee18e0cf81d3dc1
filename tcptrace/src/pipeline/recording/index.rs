//! The index at the end of a file: where each chunk is, and what time it covers. A file that was cut off has none, and is
//! scanned: chunk by chunk, by their headers alone.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::RangeInclusive,
};

use serde::{Deserialize, Serialize};

use super::{
    Error,
    chunk::{ChunkHeader, ChunkKind, HEADER_LEN, RawChunk, fill},
    header::Header,
};

/// Last bytes of a complete file: this, and where the index begins.
const END: [u8; 8] = *b"tcptrEND";
/// Most chunks in an index: as many as a file of 64 GiB has.
const MAX_ENTRIES: usize = 1 << 18;

/// A chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it begins in the file.
    pub offset: u64,
    /// Time of its first input: CLOCK_MONOTONIC in ns.
    pub first_ns: u64,
    /// Time of its last input.
    pub last_ns: u64,
    /// Number of inputs.
    pub inputs: u64,
}

/// The chunks of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The chunks with inputs, in the order of the file.
    pub entries: Vec<Entry>,
    /// False if the file was cut off and so had no index.
    pub is_complete: bool,
}

impl Index {
    /// Adds a chunk, if there is room.
    pub fn add(&mut self, offset: u64, chunk: &RawChunk) {
        self.push(offset, &chunk.times, chunk.inputs);
    }

    fn push(&mut self, offset: u64, times: &RangeInclusive<u64>, inputs: u64) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(Entry { offset, first_ns: *times.start(), last_ns: *times.end(), inputs });
        }
    }

    /// The index as a chunk.
    #[must_use]
    pub fn to_chunk(&self) -> RawChunk {
        let times = self.times().unwrap_or(0..=0);
        let bytes = postcard::to_stdvec(&self.entries).unwrap_or_default(); // memory takes all
        RawChunk { kind: ChunkKind::Index, times, inputs: 0, bytes }
    }

    /// The last bytes of a file whose index begins there.
    #[must_use]
    pub fn trailer(offset: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (place, end) = bytes.split_at_mut(8);
        place.copy_from_slice(&offset.to_le_bytes());
        end.copy_from_slice(&END);
        bytes
    }

    /// Times of the first and last input; `None` if there is none.
    #[must_use]
    pub fn times(&self) -> Option<RangeInclusive<u64>> {
        Some(self.entries.first()?.first_ns..=self.entries.iter().map(|entry| entry.last_ns).max()?)
    }

    /// Reads header and index of a file; rebuilds the index by a scan where it is missing or damaged.
    ///
    /// # Errors
    /// If it is no recording, or cannot be read.
    pub fn read(file: &mut (impl Read + Seek)) -> Result<(Header, Self), Error> {
        let failed = |error: std::io::Error| Error::Read(error.to_string());
        file.rewind().map_err(failed)?;
        let (header, begins) = Header::read(file)?;
        let index = match Self::stored(file, begins) {
            Some(entries) => Self { entries, is_complete: true },
            None => Self::scan(file, begins).map_err(failed)?,
        };
        Ok((header, index))
    }

    fn stored(file: &mut (impl Read + Seek), begins: u64) -> Option<Vec<Entry>> {
        let len = file.seek(SeekFrom::End(-16)).ok()?;
        let mut trailer = [0; 16];
        file.read_exact(&mut trailer).ok()?;
        let (place, end) = trailer.split_at(8);
        let offset = u64::from_le_bytes(place.try_into().ok()?);
        if end != END || !(begins..len).contains(&offset) {
            return None;
        }
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut header = [0; HEADER_LEN];
        file.read_exact(&mut header).ok()?;
        let header = ChunkHeader::parse(&header).ok()?;
        if header.stored() as u64 > len - offset {
            return None;
        }
        let mut stored = vec![0; header.stored()];
        file.read_exact(&mut stored).ok()?;
        let chunk = header.decode(&stored, Vec::new()).ok().filter(|chunk| chunk.kind == ChunkKind::Index)?;
        postcard::from_bytes(&chunk.bytes).ok()
    }

    fn scan(file: &mut (impl Read + Seek), begins: u64) -> std::io::Result<Self> {
        let mut index = Self::default();
        let len = file.seek(SeekFrom::End(0))?;
        let mut offset = file.seek(SeekFrom::Start(begins))?;
        let mut header = [0; HEADER_LEN];
        while fill(file, &mut header)? {
            let Ok(chunk) = ChunkHeader::parse(&header) else { break };
            let next = offset + (HEADER_LEN + chunk.stored()) as u64;
            if next > len {
                break;
            }
            if chunk.kind() == Some(ChunkKind::Inputs) {
                index.push(offset, &chunk.times(), chunk.inputs());
            }
            offset = file.seek(SeekFrom::Start(next))?;
        }
        Ok(index)
    }
}
