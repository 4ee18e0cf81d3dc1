use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, symlink},
    path::PathBuf,
    time::Duration,
};

use tcptrace_common::record::WIRE_VERSION;

use super::{names::segments, segments::Segments, settings::RecorderSettings};
use crate::{
    findings::{Kind, Severity},
    pipeline::{
        finding_watch::Noticed,
        recording::{
            chunk::{ChunkKind, RawChunk},
            header::Header,
            reader::Reader,
        },
    },
};

const S: u64 = 1_000_000_000;
/// 2026-11-30T03:12:00Z.
const UNIX_S: u64 = 1_796_008_320;

/// A recording in a folder of its own, which is removed on drop.
struct Recording {
    folder: PathBuf,
    segments: Segments,
}

impl Recording {
    fn new(name: &str, max_bytes: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("tcptrace-around-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let settings = RecorderSettings::new(folder.join("r"), None, Some(max_bytes), Some(Severity::Warning));
        Self { segments: Segments::create(&settings, &header(0)).unwrap(), folder }
    }

    /// Writes a chunk of this time into the current file.
    fn write(&mut self, second: u64) {
        let bytes = second.to_le_bytes().repeat(3);
        let times = second * S..=second * S;
        self.segments.write(&RawChunk { kind: ChunkKind::Inputs, times, inputs: 1, bytes }).unwrap();
    }

    /// Begins another file, and writes a chunk of this time into it.
    fn next(&mut self, second: u64) {
        self.segments.next(&header(second)).unwrap();
        self.write(second);
    }

    fn keep(&mut self, second: u64, kind: Kind) {
        let (time_ns, unix_ns) = (second * S, (UNIX_S + second) * S);
        self.segments.keep(&Noticed { kind, severity: Severity::Warning, time_ns, unix_ns });
    }

    /// The names of files in the folder that begin so.
    fn files(&self, begin: &str) -> Vec<String> {
        let names = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(begin)).collect();
        names.sort();
        names
    }

    /// The times of the chunks of a recording, in seconds, as replay reads them.
    fn seconds(&self, name: &str) -> Vec<u64> {
        let mut seconds = Vec::new();
        for file in segments(&self.folder.join(name)).unwrap() {
            let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
            while let Some(chunk) = reader.next_chunk() {
                seconds.push(chunk.times.start() / S);
            }
        }
        seconds
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn header(second: u64) -> Header {
    Header { wire: WIRE_VERSION, start_ns: second * S, ..Header::default() }
}

#[test]
fn files_are_short_enough_for_a_finding() {
    let settings = |keep, max_bytes, on_finding| RecorderSettings::new(PathBuf::new(), keep, max_bytes, on_finding);
    let hours = Some(Duration::from_secs(7200));
    assert_eq!(settings(hours, None, None).file_age(), Some(Duration::from_secs(900)));
    assert_eq!(settings(hours, None, Some(Severity::Info)).file_age(), Some(Duration::from_secs(150)));
    assert_eq!(settings(None, Some(1), Some(Severity::Info)).file_age(), Some(Duration::from_secs(150)));
    let around = settings(None, None, Some(Severity::Info));
    assert_eq!((around.keep, around.file_age()), (Some(Duration::from_secs(600)), Some(Duration::from_secs(75))));
    assert_eq!(settings(None, None, None).file_age(), None);
}

#[test]
fn the_minutes_around_a_finding_stay() {
    let mut recording = Recording::new("minutes", 1 << 20);
    recording.write(1);
    [200, 400].iter().for_each(|second| recording.next(*second));
    recording.next(550);
    recording.keep(560, Kind::CloseWaitLeak);
    recording.keep(561, Kind::AcceptQueueFull); // a storm makes one file
    let name = "r.finding-20261130T032120Z-close-wait-leak";
    assert_eq!(recording.files("r.finding"), [name.to_owned(), format!("{name}.000000")]);
    assert_eq!(recording.seconds(name), [400, 550], "it can be read at once");
    [700, 900, 1000].iter().for_each(|second| recording.next(*second));
    for file in recording.files("r.0") {
        fs::remove_file(recording.folder.join(file)).unwrap(); // as the recorder does some day
    }
    assert_eq!(recording.seconds(name), [400, 550, 700, 900], "five minutes before and after, in whole files");
    assert_eq!(recording.seconds("r"), [1000]);
    assert_eq!(recording.segments.kept(), 1);
    let mode = fs::metadata(recording.folder.join(name)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    recording.keep(1001, Kind::AcceptQueueFull);
    assert_eq!(recording.files("r.finding-20261130T032841Z-accept-queue-full").len(), 1, "the next one is separate");
}

#[test]
fn the_oldest_finding_goes() {
    let mut recording = Recording::new("oldest", 1 << 20);
    fs::write(recording.folder.join("r.finding-notes"), "somebody else's").unwrap();
    for number in 0..20 {
        recording.keep(1000 * number, Kind::CloseWaitLeak);
        recording.write(1000 * number + 400);
        recording.next(1000 * number + 500);
    }
    let files = recording.files("r.finding-2");
    assert_eq!((files.len(), files[0].as_str()), (16, "r.finding-20261130T041840Z-close-wait-leak"), "{files:?}");
    assert_eq!(recording.files("r.finding-notes").len(), 1);
}

#[test]
fn findings_have_a_largest_size() {
    let mut recording = Recording::new("size", 5000);
    for number in 0..20 {
        recording.keep(1000 * number, Kind::CloseWaitLeak);
        (0..4).for_each(|second| recording.write(1000 * number + 400 + second));
        recording.next(1000 * number + 500);
    }
    let files = recording.files("r.finding-2");
    let size: u64 = files.iter().map(|file| fs::metadata(recording.folder.join(file)).unwrap().len()).sum();
    assert!((2000..=5000).contains(&size) && files.len() < 16, "{size} {files:?}");
    assert_eq!(recording.seconds(files.last().unwrap()).last(), Some(&19_403), "the latest stays");
}

#[test]
fn what_is_in_the_place_of_a_finding_stays() {
    let mut recording = Recording::new("planted", 1 << 20);
    let secret = recording.folder.join("secret");
    fs::write(&secret, "secret").unwrap();
    let name = recording.folder.join("r.finding-20261130T031210Z-close-wait-leak");
    symlink(&secret, &name).unwrap();
    recording.keep(10, Kind::CloseWaitLeak);
    recording.next(20);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(name.is_symlink());
    recording.keep(30, Kind::CloseWaitLeak);
    assert_eq!(recording.files("r.finding-20261130T031230Z-close-wait-leak").len(), 2, "the next one is kept");
}
