//! `tcptrace report`: a page out of a recording.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use super::{assert_refused, run};

/// A recording of version 1, which the golden tests keep.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings/v1");

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-report-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn report(more: &[&str]) -> String {
    let run = run(&[&["report", RECORDING, "-o", "-", "-q"], more].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    run.stdout
}

#[test]
fn the_page_has_what_was_recorded() {
    let page = report(&[]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for words in ["SYN_SENT", "curl[501]", "2026-03-04 05:06:07", "nginx", "9 inputs are missing", "ended by a signal"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(page, report(&[]), "the same every time");
    assert!(!page.contains("http://") || page.matches("http://").all(|at| at == "http://"), "{page}");
    for loads in ["<script", "<link", "<img", "<iframe", "javascript:", "style=\"", " onload", " onclick"] {
        assert!(!page.contains(loads), "{loads}");
    }
    let sources = page.matches("src=").count() + page.matches("href=\"").count() - page.matches("href=\"#").count();
    assert_eq!(sources, 0, "nothing leads away from the page");
}

#[test]
fn filters_and_times_choose_a_part() {
    let none = report(&["--port", "444"]);
    assert!(none.contains("0 events") && none.contains("There was no change of state"), "{none}");
    let early = report(&["--to", "+0s"]);
    assert!(early.contains("1 event,") && early.contains("a part of the recording"), "{early}");
    let other = run(&["report", RECORDING, "-o", "-", "--from", "2001-01-01T00:00:00Z"]);
    assert!(other.code == Some(1) && other.stderr.contains("it contains 2026-03-04T"), "{}", other.stderr);
}

#[test]
fn no_name_survives_anonymizing() {
    let (named, page) = (report(&[]), report(&["--anonymize"]));
    for name in ["curl", "nginx", "blue", "10.0.0.1", "10.0.0.2", "web.service", "ada", "db.example"] {
        assert!(!page.contains(name), "{name}");
    }
    assert!(named.contains("curl[501]") && page.contains("process-") && page.contains("[501]"), "{page}");
    assert_eq!(named.matches("<td>ESTABLISHED").count(), page.matches("<td>ESTABLISHED").count(), "the structure stays");
    for flag in ["--address=10.0.0.1", "--comm=curl", "--unit=web.service", "--where=port == 443"] {
        assert_refused(&["report", RECORDING, "-o", "-", "--anonymize", flag], &[&flag[..6], "--anonymize"]);
    }
    assert!(report(&["--anonymize", "--port", "443"]).contains("SYN_SENT"));
}

#[test]
fn the_file_is_private_and_replaces_an_older_one() {
    let folder = Folder::new("file");
    let path = folder.file("incident.html");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    fs::write(&path, "older").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let written = run(&["report", RECORDING, "-o", &path, "-q"]);
    assert_eq!((written.code, written.stdout.as_str(), mode()), (Some(0), "", 0o600), "{}", written.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), report(&[]));
    let (target, link) = (folder.file("target"), folder.file("link"));
    fs::write(&target, "mine").unwrap();
    symlink(&target, &link).unwrap();
    let refused = run(&["report", RECORDING, "-o", &link]);
    assert!(refused.code == Some(1) && refused.stderr.contains(&link), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    let into_folder = run(&["report", RECORDING, "-o", folder.0.to_str().unwrap()]);
    assert!(into_folder.code == Some(1) && into_folder.stderr.contains("it is a folder"), "{}", into_folder.stderr);
}

#[test]
fn what_is_no_recording_leaves_no_report() {
    let folder = Folder::new("none");
    let (recording, page) = (folder.file("r"), folder.file("p.html"));
    fs::write(&recording, "something else").unwrap();
    let failed = run(&["report", &recording, "-o", &page]);
    assert!(failed.code == Some(1) && failed.stderr.contains("it is no recording"), "{}", failed.stderr);
    assert!(!fs::exists(&page).unwrap());
    let cut = folder.file("cut");
    fs::write(&cut, &fs::read(RECORDING).unwrap()[..200]).unwrap();
    let cut = run(&["report", &cut, "-o", "-"]);
    assert!(cut.code == Some(0) && cut.stdout.contains("Not complete: "), "{}", cut.stderr);
    assert_refused(&["report", RECORDING], &["--output <FILE>"]);
    assert_refused(&["report"], &["RECORDING"]);
}
