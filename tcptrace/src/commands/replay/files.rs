//! The files of a recording, and the times in them.

use std::{
    cell::RefCell,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    cli::args::replay::When,
    outputs::{
        messages::{info, warn},
        recorder::segments,
    },
    pipeline::{
        input::Input,
        recording::{
            Error,
            chunk::RawChunk,
            frames::{Frame, visit},
            header::Header,
            index::Index,
            reader::{End, Reader},
        },
    },
    sys::files,
};

/// The files of one run, in order.
pub(in crate::commands) struct Recording {
    /// The header of the first file.
    pub header: Header,
    files: Vec<PathBuf>,
    /// What is wrong with it, in words without names of files.
    pub(in crate::commands) flaws: RefCell<Vec<String>>,
    /// Times of the first and last input: CLOCK_MONOTONIC in ns.
    first_ns: u64,
    last_ns: u64,
}

fn open(path: &Path) -> anyhow::Result<File> {
    files::read(path).with_context(|| path.display().to_string())
}

impl Recording {
    /// Finds the files and reads their headers. Of several runs only the last one is taken.
    pub(in crate::commands) fn open(path: &Path) -> anyhow::Result<Self> {
        // The older files are beside the file itself.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut runs: Vec<(Header, PathBuf, Index)> = Vec::new();
        let mut flaws = Vec::new();
        for file in segments(path)? {
            let read = files::read(&file).map_err(anyhow::Error::new).and_then(|mut file| Ok(Index::read(&mut file)?));
            match read {
                Ok((header, index)) => runs.push((header, file, index)),
                Err(error) if file == *path => return Err(error),
                Err(error) => {
                    flaws.push("one of its files cannot be read".to_owned());
                    warn(format_args!("{}: {error}", file.display()));
                }
            }
        }
        let Some((last, ..)) = runs.last() else { bail!("nothing can be read") };
        let run = (last.boot_id.clone(), last.run_ns);
        let is_last = |(header, ..): &(Header, PathBuf, Index)| (&header.boot_id, header.run_ns) == (&run.0, run.1);
        let before = runs.len();
        runs.retain(is_last);
        if runs.len() < before {
            let count = before - runs.len();
            info(format_args!("{count} files are of earlier runs: give the name of such a file to see it"));
        }
        for pair in runs.windows(2) {
            if let [(one, ..), (other, ..)] = pair
                && one.segment.checked_add(1) != Some(other.segment)
            {
                flaws.push("some of its files are missing".to_owned());
                warn(format_args!("files between number {} and {} of the run are missing", one.segment, other.segment));
            }
        }
        let times: Vec<_> = runs.iter().filter_map(|(_, _, index)| index.times()).collect();
        let Some((header, ..)) = runs.first() else { bail!("nothing can be read") };
        let header = header.clone();
        Ok(Self {
            first_ns: times.iter().map(|times| *times.start()).min().unwrap_or(header.start_ns),
            last_ns: times.iter().map(|times| *times.end()).max().unwrap_or(header.start_ns),
            files: runs.into_iter().map(|(_, file, _)| file).collect(),
            header,
            flaws: RefCell::new(flaws),
        })
    }

    /// Times of the first and last input: CLOCK_MONOTONIC in ns.
    pub(super) const fn span(&self) -> (u64, u64) {
        (self.first_ns, self.last_ns)
    }

    /// CLOCK_MONOTONIC in ns of a time that the user gave.
    pub(in crate::commands) fn resolve(&self, when: When) -> anyhow::Result<u64> {
        let ns = |time: std::time::Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        let wall = |mono_ns: u64| i128::from(self.header.wall.wall_ns(mono_ns));
        let zone = TimeZone::system();
        let wanted_ns = match when {
            When::At(time) => time.as_nanosecond(),
            When::Local(local) => local.to_zoned(zone)?.timestamp().as_nanosecond(),
            When::TimeOfDay(time) => {
                let begins = Timestamp::from_nanosecond(wall(self.first_ns))?.to_zoned(zone);
                let today = begins.with().time(time).build()?;
                let first = if today < begins { today.tomorrow()? } else { today };
                first.timestamp().as_nanosecond()
            }
            When::AfterStart(after) => wall(self.first_ns).saturating_add(ns(after)),
            When::BeforeEnd(before) => wall(self.last_ns).saturating_sub(ns(before)),
        };
        if !(wall(self.first_ns)..=wall(self.last_ns)).contains(&wanted_ns) {
            let show = |ns: i128| Timestamp::from_nanosecond(ns).map(|time| time.to_string());
            bail!(
                "it contains {} to {}, not {}",
                show(wall(self.first_ns))?,
                show(wall(self.last_ns))?,
                show(wanted_ns)?
            );
        }
        Ok(u64::try_from(wanted_ns - i128::from(self.header.wall.0)).unwrap_or(0))
    }

    /// The inode number of the namespace with this name, as of the first file.
    pub(in crate::commands) fn netns_named(&self, name: &str) -> Option<u32> {
        let mut found = None;
        let mut reader = Reader::new(BufReader::new(open(self.files.first()?).ok()?)).ok()?;
        while let Some(chunk) = reader.next_chunk().filter(|_| found.is_none()) {
            let look = |frame: Frame<'_>| {
                if let Frame::Input(Input::NetnsNames(names)) = frame {
                    found = found.or(names.iter().find(|(_, known)| known == name).map(|(inode, _)| *inode));
                }
                Ok::<_, Error>(())
            };
            visit(&chunk.bytes, look).ok()?;
        }
        found
    }

    /// Passes all chunks on, until one is refused; returns false if it was. Says what is missing.
    pub(in crate::commands) fn chunks(
        &self,
        mut on_chunk: impl FnMut(&RawChunk) -> Result<bool, Error>,
    ) -> anyhow::Result<bool> {
        for (number, path) in self.files.iter().enumerate() {
            let mut reader = Reader::new(BufReader::new(open(path)?))?;
            let mut begin = reader.offset;
            while let Some(chunk) = reader.next_chunk() {
                match on_chunk(&chunk) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(error) => {
                        (reader.end, reader.offset) = (Some(End::Damaged(error)), begin);
                        break;
                    }
                }
                begin = reader.offset;
                reader.reuse(chunk);
            }
            let is_last = number + 1 == self.files.len();
            let flaw = match &reader.end {
                Some(End::Damaged(_)) => Some("it is damaged, and what follows in that file is missing"),
                Some(End::CutOff) => Some("it was cut off"),
                Some(End::Complete) | None => None,
            };
            self.flaws.borrow_mut().extend(flaw.map(str::to_owned));
            match &reader.end {
                Some(End::Damaged(error)) => {
                    warn(format_args!("{}: {error}; what follows byte {} is missing", path.display(), reader.offset))
                }
                Some(End::CutOff) if !is_last => warn(format_args!("{}: it was cut off", path.display())),
                Some(End::CutOff) => {
                    warn(format_args!("{}: it was cut off, or is still being written", path.display()))
                }
                Some(End::Complete) | None => {}
            }
        }
        Ok(true)
    }
}
