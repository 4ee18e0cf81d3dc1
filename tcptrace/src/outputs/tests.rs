use std::{
    fs,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use super::*;
use crate::pipeline::records::{Records, RecordsBuilder};

fn records(numbers: std::ops::Range<u32>) -> Records {
    let mut collecting = RecordsBuilder::default();
    for number in numbers {
        collecting.add(|to| to.extend_from_slice(format!("{number:07}\n").as_bytes()));
    }
    collecting.take()
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcptrace-outputs-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Names and contents of its files, decompressed, in order.
    fn files(&self) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found.into_iter().map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    let mut text = String::new();
    match path.extension().and_then(|last| last.to_str()) {
        Some("gz") => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        Some("zst") => zstd::Decoder::new(file).unwrap().read_to_string(&mut text),
        _ => { file }.read_to_string(&mut text),
    }
    .unwrap();
    text
}

/// A sink that behaves as instructed in each call, and keeps what it took.
struct Scripted {
    answers: mpsc::Receiver<Result<usize, DeliveryError>>,
    took: Arc<Mutex<Vec<u8>>>,
}

impl Sink for Scripted {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        let Ok(answer) = self.answers.recv() else { return Err(DeliveryError::Closed("over".into())) };
        let count = *answer.as_ref().unwrap_or(&0);
        for record in records.iter().take(count) {
            self.took.lock().unwrap().extend_from_slice(record);
        }
        records.take(count);
        answer.map(drop)
    }
}

struct Rig {
    output: Output,
    answers: mpsc::Sender<Result<usize, DeliveryError>>,
    took: Arc<Mutex<Vec<u8>>>,
    reported: Arc<Mutex<Vec<String>>>,
}

fn rig(queue_bytes: usize) -> Rig {
    let (answers, receiver) = mpsc::channel();
    let (took, reported) = (Arc::new(Mutex::default()), Arc::new(Mutex::<Vec<String>>::default()));
    let (sink, to) = (Scripted { answers: receiver, took: Arc::clone(&took) }, Arc::clone(&reported));
    let tell = move |words: &str| to.lock().unwrap().push(words.to_owned());
    Rig { output: Output::start("some".into(), Box::new(sink), queue_bytes, tell).unwrap(), answers, took, reported }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Waits until `is_so` returns true.
fn until(is_so: impl Fn() -> bool) {
    let limit = soon();
    while !is_so() {
        assert!(Instant::now() < limit);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_fails_is_tried_again_and_what_is_refused_is_counted() {
    let rig = rig(1 << 20);
    rig.output.push(records(0..10));
    let down = || Err(DeliveryError::Later("down".into()));
    rig.answers.send(Ok(3)).unwrap();
    rig.answers.send(down()).unwrap();
    rig.answers.send(down()).unwrap();
    rig.answers.send(Err(DeliveryError::Refused { records: 2, reason: "wrong".into() })).unwrap();
    rig.answers.send(Ok(99)).unwrap();
    assert!(rig.output.drained(soon()));
    let state = rig.output.state();
    assert_eq!((state.delivered, state.refused, state.dropped, state.waiting, state.retries), (8, 2, 0, 0, 2));
    assert_eq!(*rig.took.lock().unwrap(), [records(0..3).bytes(), records(5..10).bytes()].concat());
    let reported = rig.reported.lock().unwrap();
    assert_eq!(reported.len(), 3, "each trouble once, and its end: {reported:?}");
    assert!(
        reported[0].contains("down") && reported[1].contains("wrong") && reported[2].contains("2 records were lost"),
        "{reported:?}"
    );
}

#[test]
fn where_there_is_no_room_the_oldest_that_wait_are_dropped() {
    let rig = rig(4 * 80);
    rig.output.push(records(0..10));
    until(|| rig.output.state().queued_bytes == 0); // the first is being delivered, and waits for its reply
    for start in 1..8 {
        rig.output.push(records(10 * start..10 * (start + 1)));
    }
    let state = rig.output.state();
    assert_eq!((state.dropped, state.queued_bytes, state.delivered, state.waiting), (30, 320, 0, 50));
    for _ in 0..5 {
        rig.answers.send(Ok(10)).unwrap();
    }
    assert!(rig.output.drained(soon()));
    assert_eq!((rig.output.state().delivered, rig.output.state().dropped), (50, 30), "80 in all");
    assert_eq!(*rig.took.lock().unwrap(), [records(0..10).bytes(), records(40..80).bytes()].concat());
    rig.answers.send(Ok(0)).unwrap();
    rig.output.push(records(0..10));
    until(|| rig.output.state().queued_bytes == 0);
    rig.output.push(records(0..1000));
    assert_eq!((rig.output.state().dropped, rig.output.state().queued_bytes), (30, 8000), "the newest always waits");
    rig.output.push(records(0..5));
    assert_eq!(rig.output.state().dropped, 1030, "it makes room where it is more than there is room for");
}

#[test]
fn at_the_end_what_waits_is_delivered_or_counted() {
    for is_down in [false, true] {
        let rig = rig(1 << 20);
        rig.output.push(records(0..10));
        rig.output.push(records(10..20));
        for _ in 0..200 {
            rig.answers.send(if is_down { Err(DeliveryError::Later("down".into())) } else { Ok(10) }).unwrap();
        }
        let patience = if is_down { Duration::from_millis(300) } else { Duration::from_secs(20) };
        let end = Instant::now() + patience;
        rig.output.end_at(end);
        assert!(rig.output.has_ended(end));
        let state = rig.output.state();
        assert_eq!((state.delivered, state.dropped), if is_down { (0, 20) } else { (20, 0) });
        rig.output.push(records(0..5));
        assert_eq!(rig.output.state().dropped, state.dropped + 5, "nobody takes what comes after");
    }
}

#[test]
fn at_the_end_of_its_time_what_waits_is_given_up() {
    let rig = rig(1 << 20);
    (0..3).for_each(|start| rig.output.push(records(10 * start..10 * (start + 1))));
    until(|| rig.output.state().queued_bytes == 160); // the first is being delivered
    rig.output.end_at(Instant::now());
    rig.output.end_at(soon()); // too late
    rig.answers.send(Ok(10)).unwrap();
    assert!(rig.output.has_ended(soon()));
    assert_eq!((rig.output.state().delivered, rig.output.state().dropped), (10, 20));
}

#[test]
fn before_the_last_record_all_others_are_delivered_or_counted() {
    let (fine, down) = (rig(1 << 20), rig(1 << 20));
    for _ in 0..200 {
        fine.answers.send(Ok(99)).unwrap();
        down.answers.send(Err(DeliveryError::Later("down".into()))).unwrap();
    }
    let outputs = Outputs::new(vec![(fine.output, false), (down.output, false)]);
    outputs.push([records(0..10), records(0..10)].into_iter());
    outputs.drain();
    let counts: Vec<_> = outputs.states().iter().map(|state| (state.delivered, state.dropped)).collect();
    assert_eq!((counts, outputs.lost()), (vec![(10, 0), (0, 10)], 10));
    outputs.push([records(0..1), records(0..1)].into_iter());
    assert_eq!(outputs.end(), Err("cannot write to some: down; 11 of 11 records are lost".into()));
    assert_eq!(*fine.took.lock().unwrap(), [records(0..10).bytes(), records(0..1).bytes()].concat());
}

/// Takes everything, but takes long to finish.
struct Tidy(mpsc::Receiver<()>);

impl Sink for Tidy {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        records.take(records.len());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DeliveryError> {
        let _ = self.0.recv();
        Ok(())
    }
}

#[test]
fn an_output_that_only_tidies_up_at_the_end_has_not_failed() {
    let (_goes_on, receiver) = mpsc::channel();
    let output = Output::start("some".into(), Box::new(Tidy(receiver)), 1 << 20, |_| ()).unwrap();
    output.push(records(0..10));
    assert_eq!(Outputs::new(vec![(output, false)]).end(), Ok(()));
}

#[test]
fn an_output_without_a_reader_is_over() {
    let rig = rig(1 << 20);
    drop(rig.answers);
    rig.output.push(records(0..10));
    until(|| rig.output.is_over());
    assert!(rig.output.has_no_reader());
    assert_eq!(rig.output.state().dropped, 10);
}

/// Hangs forever with the records it was given.
struct Hangs(mpsc::Receiver<()>);

impl Sink for Hangs {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        let _ = self.0.recv();
        records.take(records.len());
        Ok(())
    }
}

#[test]
fn what_an_output_that_hangs_was_given_is_counted_once_and_for_all() {
    let (let_go, receiver) = mpsc::channel();
    let output = Output::start("some".into(), Box::new(Hangs(receiver)), 1 << 20, |_| ()).unwrap();
    output.push(records(0..10));
    until(|| output.state().queued_bytes == 0); // it has them
    output.push(records(10..20));
    output.end(Instant::now());
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.waiting), (0, 20, 0));
    assert_eq!(state.trouble.as_deref(), Some("the receiver does not respond"));
    drop(let_go); // too late: what it delivers now is counted already
    output.push(records(20..25));
    until(|| !output.hangs() && Arc::strong_count(&output.queue) == 1);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.waiting), (0, 25, 0));
}

/// Fails forever, or panics.
struct Broken(bool);

impl Sink for Broken {
    fn deliver(&mut self, _: &mut Records) -> Result<(), DeliveryError> {
        assert!(self.0, "as it should");
        Err(DeliveryError::Failed("full".into()))
    }
}

#[test]
fn an_output_that_fails_for_ever_is_over_and_an_error() {
    for (is_fault, why) in [(false, "full"), (true, "a bug in tcptrace")] {
        let reported = Arc::new(Mutex::<Vec<String>>::default());
        let to = Arc::clone(&reported);
        let tell = move |words: &str| to.lock().unwrap().push(words.to_owned());
        let output = Output::start("some".into(), Box::new(Broken(!is_fault)), 1 << 20, tell).unwrap();
        output.push(records(0..10));
        until(|| output.is_over());
        assert_eq!((output.state().dropped, output.state().waiting), (10, 0));
        assert_eq!(reported.lock().unwrap().len(), usize::from(!is_fault));
        let words = format!("cannot write to some: {why}; 10 of 10 records are lost");
        let outputs = Outputs::new(vec![(output, false)]);
        assert!(outputs.are_over());
        assert_eq!(outputs.end(), Err(words));
    }
}

fn file(settings: FileSettings) -> FileSink {
    FileSink::open(settings).unwrap()
}

#[test]
fn a_file_is_appended_to_or_replaced_and_a_half_line_is_ended() {
    let folder = Folder::new();
    let path = folder.0.join("out");
    fs::write(&path, "half").unwrap();
    let settings = FileSettings { path: path.clone(), ..FileSettings::default() };
    for _ in 0..2 {
        file(settings.clone()).deliver(&mut records(1..2)).unwrap();
    }
    assert_eq!(read(&path), "half\n0000001\n0000001\n");
    file(FileSettings { replace: true, ..settings.clone() }).deliver(&mut records(2..3)).unwrap();
    assert_eq!(read(&path), "0000002\n");
    assert!(FileSink::open(FileSettings { path: folder.0.join("no/such"), ..settings }).is_err());
}

#[test]
fn a_file_that_was_moved_away_is_opened_again() {
    let folder = Folder::new();
    let (path, moved) = (folder.0.join("out"), folder.0.join("moved"));
    let mut sink = file(FileSettings { path: path.clone(), head: b"head\n".to_vec(), ..FileSettings::default() });
    sink.deliver(&mut records(0..1)).unwrap();
    fs::rename(&path, &moved).unwrap();
    sink.deliver(&mut records(1..2)).unwrap();
    sink.reopen();
    sink.deliver(&mut records(2..3)).unwrap();
    assert_eq!((read(&moved), read(&path)), ("head\n0000000\n0000001\n".into(), "head\n0000002\n".into()));
}

#[test]
fn files_are_rotated_by_size_compressed_and_removed() {
    for (compression, suffix) in [(Compression::None, ""), (Compression::Gzip, ".gz"), (Compression::Zstd, ".zst")] {
        let folder = Folder::new();
        fs::write(folder.0.join("out.20260101T000000Z.0000"), "old\n").unwrap();
        fs::write(folder.0.join("out.other"), "not ours\n").unwrap();
        let mut sink = file(FileSettings {
            path: folder.0.join("out"),
            rotate_bytes: 5 + 8 * 10,
            keep: 3,
            compression,
            head: b"head\n".to_vec(),
            ..FileSettings::default()
        });
        let mut some = records(0..45);
        sink.deliver(&mut some).unwrap();
        assert!(some.is_empty());
        sink.finish().unwrap();
        let files = folder.files();
        assert_eq!(files.len(), 5, "{files:?}");
        assert_eq!(files[0].1, format!("head\n{}", String::from_utf8_lossy(records(40..45).bytes())));
        for (index, (name, text)) in files[1..4].iter().enumerate() {
            let first = 10 + 10 * index as u32;
            assert_eq!(*text, format!("head\n{}", String::from_utf8_lossy(records(first..first + 10).bytes())));
            assert!(name.starts_with("out.20") && name.ends_with(suffix), "{name}");
        }
        assert_eq!(files[4].0, "out.other");
    }
}

#[test]
fn where_no_other_file_can_be_begun_the_present_one_goes_on() {
    let folder = Folder::new();
    let path = folder.0.join("x".repeat(240)); // no room for the time suffix
    let sink = file(FileSettings { path: path.clone(), rotate_bytes: 80, ..FileSettings::default() });
    let reported = Arc::new(Mutex::<Vec<String>>::default());
    let to = Arc::clone(&reported);
    let tell = move |words: &str| to.lock().unwrap().push(words.to_owned());
    let output = Output::start("some".into(), Box::new(sink), 1 << 20, tell).unwrap();
    for start in 0..3 {
        output.push(records(100 * start..100 * (start + 1)));
        assert!(output.drained(soon()));
    }
    assert_eq!(read(&path).as_bytes(), records(0..300).bytes());
    assert_eq!(output.state().delivered, 300);
    let reported = reported.lock().unwrap();
    assert!(reported.len() == 1 && reported[0].contains("cannot rotate"), "once: {reported:?}");
}

#[test]
fn a_file_that_is_gone_when_another_one_is_due_is_not_in_the_way() {
    let folder = Folder::new();
    let path = folder.0.join("out");
    let mut sink = file(FileSettings { path: path.clone(), rotate_bytes: 80, ..FileSettings::default() });
    sink.deliver(&mut records(0..10)).unwrap();
    fs::remove_file(&path).unwrap();
    sink.deliver(&mut records(10..12)).unwrap();
    assert_eq!(read(&path).as_bytes(), records(10..12).bytes());
}

#[test]
fn a_named_pipe_takes_what_its_reader_takes_and_is_never_waited_for_long() {
    let folder = Folder::new();
    let path = folder.0.join("pipe");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let mut sink = file(FileSettings { path: path.clone(), ..FileSettings::default() });
    let mut some = records(0..30_000); // 240 KB
    assert!(matches!(sink.deliver(&mut some), Err(DeliveryError::Later(_))));
    assert_eq!(some.len(), 30_000, "without a reader nothing is delivered");

    let reader = || fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut first = reader();
    let reported = sink.deliver(&mut some).unwrap_err().to_string();
    assert!(reported.contains("its reader has stopped reading"), "{reported}");
    sink.reopen();
    let mut text = Vec::new();
    while !some.is_empty() {
        let _ = first.read_to_end(&mut text); // nothing more is there now
        let _ = sink.deliver(&mut some);
    }
    let _ = first.read_to_end(&mut text);
    assert_eq!(text, records(0..30_000).bytes());

    // When a reader goes it may have part of a record; the next one begins with a whole record.
    let mut some = records(0..30_000);
    assert!(sink.deliver(&mut some).is_err());
    drop(first);
    assert!(sink.deliver(&mut some).is_err());
    let mut second = reader();
    let rest = some.clone();
    let _ = sink.deliver(&mut some);
    text.clear();
    let _ = second.read_to_end(&mut text);
    assert!(text.len() > 1000 && rest.bytes().starts_with(&text), "{}", text.len());
}

#[test]
fn files_are_rotated_by_time() {
    let folder = Folder::new();
    let mut sink = file(FileSettings {
        path: folder.0.join("out"),
        rotate_every: Duration::from_secs(1),
        ..FileSettings::default()
    });
    sink.deliver(&mut records(0..1)).unwrap();
    let limit = soon();
    while !sink_idle(&mut sink, &folder) {
        assert!(Instant::now() < limit);
    }
    assert_eq!(folder.files().iter().filter(|(_, text)| text == "0000000\n").count(), 1);
    sink.deliver(&mut records(1..2)).unwrap();
    assert_eq!(read(&folder.0.join("out")), "0000001\n");
}

fn sink_idle(sink: &mut FileSink, folder: &Folder) -> bool {
    sink.idle().unwrap();
    folder.files().iter().any(|(name, _)| name.starts_with("out.20"))
}
