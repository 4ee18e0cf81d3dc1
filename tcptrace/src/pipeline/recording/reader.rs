//! Reads the chunks of a file in order.

use std::io::Read;

use super::{
    Error,
    chunk::{ChunkHeader, ChunkKind, HEADER_LEN, RawChunk, fill},
    header::Header,
};

/// Reads a file from its beginning.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// Buffers: touching new memory for each chunk costs as much as decompressing it.
    stored: Vec<u8>,
    spare: Vec<u8>,
    /// Where the file begins, and how it was made.
    pub header: Header,
    /// Bytes read so far that are whole.
    pub offset: u64,
    /// How the file ends, once that is known.
    pub end: Option<End>,
}

/// How a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As the recorder ended it.
    Complete,
    /// It was cut off between two chunks, or is still being written.
    CutOff,
    /// What follows is damaged, or only a part of a chunk; the rest is not read.
    Damaged(Error),
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is no recording that this tcptrace can read.
    pub fn new(mut from: R) -> Result<Self, Error> {
        let (header, offset) = Header::read(&mut from)?;
        Ok(Self { from, stored: Vec::new(), spare: Vec::new(), header, offset, end: None })
    }

    /// The next chunk with inputs; `None` at the end, see [`Reader::end`].
    pub fn next_chunk(&mut self) -> Option<RawChunk> {
        if self.end.is_some() {
            return None;
        }
        match self.read() {
            Ok(Some(chunk)) if chunk.kind == ChunkKind::Inputs => return Some(chunk),
            Ok(Some(_)) => self.end = Some(End::Complete),
            Ok(None) => self.end = Some(End::CutOff),
            Err(error) => self.end = Some(End::Damaged(error)),
        }
        None
    }

    /// Takes the memory of a chunk, for the next one.
    pub fn reuse(&mut self, chunk: RawChunk) {
        self.spare = chunk.bytes;
    }

    fn read(&mut self) -> Result<Option<RawChunk>, Error> {
        let failed = |error: std::io::Error| Error::Read(error.to_string());
        let mut header = [0; HEADER_LEN];
        let mut first = [0; 1];
        if !fill(&mut self.from, &mut first).map_err(failed)? {
            return Ok(None);
        }
        let cut = Error::Damaged("it ends within a chunk");
        let (begin, rest) = header.split_at_mut(1);
        begin.copy_from_slice(&first);
        if !fill(&mut self.from, rest).map_err(failed)? {
            return Err(cut);
        }
        let header = ChunkHeader::parse(&header)?;
        // No more memory than there are bytes, whatever the header says.
        self.stored.clear();
        (&mut self.from).take(header.stored() as u64).read_to_end(&mut self.stored).map_err(failed)?;
        if self.stored.len() < header.stored() {
            return Err(cut);
        }
        let chunk = header.decode(&self.stored, std::mem::take(&mut self.spare))?;
        self.offset += (HEADER_LEN + self.stored.len()) as u64;
        Ok(Some(chunk))
    }
}
