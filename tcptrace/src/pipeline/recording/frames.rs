//! The content of a chunk: records of the kernel, one after another, and a list of steps that says what comes between them.
//!
//! ```text
//! records │ steps │ length of the steps
//! ```
//!
//! A step is a number. An even one stands for as many records as half of it; an odd one for a frame of as many bytes as
//! half of it, which follow. Records are kept apart from the rest because zstd finds more in them so.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::{
    analysis::rates::meter::Round,
    model::{
        decode::split,
        event::{Owner, StartTicks},
    },
    pipeline::input::Input,
};

/// Something between records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// An input of the session.
    #[serde(borrow)]
    Input(Input<'a>),
    /// The path of a cgroup by its id, from the next input on.
    Cgroup(u64, Option<String>),
    /// The recorder asked for the names of this process, if they were not asked for before.
    Owner(Owner),
    /// The names of this process, PID and start time, cannot be asked for with the next input.
    Refused(u32, Option<StartTicks>),
    /// This many inputs before this one were not recorded, because the disk was too slow.
    Lost(u64),
    /// The kernel's TCP counters at a time. Since version 2.
    Sample(Cow<'a, Round>),
}

/// Collects the content of a chunk.
#[derive(Debug, Default)]
pub(super) struct Frames {
    steps: Vec<u8>,
    records: Vec<u8>,
    /// Records since the last step.
    run: u64,
    pub(super) inputs: u64,
    /// A buffer for the records of the next chunk.
    spare: Vec<u8>,
}

impl Frames {
    pub(super) fn len(&self) -> usize {
        self.steps.len() + self.records.len()
    }

    /// Adds a record; returns where it stands.
    #[inline]
    pub(super) fn record(&mut self, record: &[u8]) -> &mut [u8] {
        let start = self.records.len();
        self.records.extend_from_slice(record);
        self.run += 1;
        self.inputs += 1;
        self.records.get_mut(start..).unwrap_or_default()
    }

    /// Adds a frame; returns its size in bytes.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> usize {
        let bytes = postcard::to_stdvec(frame).unwrap_or_default(); // memory takes all
        self.flush();
        varint(&mut self.steps, (bytes.len() as u64) << 1 | 1);
        self.steps.extend_from_slice(&bytes);
        self.inputs += u64::from(matches!(frame, Frame::Input(_)));
        bytes.len()
    }

    fn flush(&mut self) {
        if self.run > 0 {
            varint(&mut self.steps, self.run << 1);
            self.run = 0;
        }
    }

    /// Takes a buffer for the next chunk: touching new memory costs more than copying the records.
    pub(super) fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare = buffer;
    }

    /// Returns the bytes and the number of inputs, and leaves this empty; `None` if it is.
    pub(super) fn take(&mut self) -> Option<(Vec<u8>, u64)> {
        self.flush();
        if self.steps.is_empty() {
            return None;
        }
        let steps = self.steps.len() as u32; // of a chunk, which is smaller than that
        let mut bytes = std::mem::replace(&mut self.records, std::mem::take(&mut self.spare));
        bytes.append(&mut self.steps);
        bytes.extend_from_slice(&steps.to_le_bytes());
        Some((bytes, std::mem::take(&mut self.inputs)))
    }
}

/// Passes the content of a chunk on, in order; `on_frame` gets records as inputs.
///
/// # Errors
/// If the bytes are no content of a chunk.
pub fn visit<E: From<Error>>(bytes: &[u8], mut on_frame: impl FnMut(Frame<'_>) -> Result<(), E>) -> Result<(), E> {
    let damaged = || E::from(Error::Damaged("the content of a chunk"));
    let (rest, len) = bytes.split_last_chunk().ok_or_else(damaged)?;
    let middle = rest.len().checked_sub(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
    let (records, mut steps) = rest.split_at_checked(middle).ok_or_else(damaged)?;
    let mut records = split(records);
    while !steps.is_empty() {
        let (step, rest) = read_varint(steps).ok_or_else(damaged)?;
        if step & 1 == 0 {
            for _ in 0..step >> 1 {
                let record = records.next().and_then(Result::ok).ok_or_else(damaged)?;
                on_frame(Frame::Input(Input::Record(record)))?;
            }
            steps = rest;
        } else {
            let len = usize::try_from(step >> 1).map_err(|_| damaged())?;
            let (frame, rest) = rest.split_at_checked(len).ok_or_else(damaged)?;
            on_frame(postcard::from_bytes(frame).map_err(|_| damaged())?)?;
            steps = rest;
        }
    }
    if records.next().is_none() { Ok(()) } else { Err(damaged()) }
}

/// Appends a number, seven bits a byte, the lowest first (LEB128).
fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}
