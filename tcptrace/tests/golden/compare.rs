//! Golden files: read, compared, and written anew when asked.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// The variable that asks for new files.
const BLESS: &str = "TCPTRACE_BLESS";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares `files` (names and what they should hold now) with those of the directory that `is_ours` by their names.
/// All that differs is told at once; a file that nothing makes any more is a difference too.
pub(crate) fn compare(files: &[(String, String)], is_ours: impl Fn(&str) -> bool) {
    let bless = env::var_os(BLESS).is_some_and(|value| value == "1");
    let mut stale: BTreeSet<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is_ours(name))
        .collect();
    let mut differences = Vec::new();
    for (name, now) in files {
        assert!(is_ours(name), "{name} would not be looked for");
        stale.remove(name);
        let path = directory().join(name);
        if bless {
            fs::write(path, now).unwrap();
        } else {
            differences.extend(difference(name, &fs::read_to_string(path).unwrap_or_default(), now));
        }
    }
    for name in stale {
        if bless {
            fs::remove_file(directory().join(name)).unwrap();
        } else {
            differences.push(format!("{name}: no story makes it any more"));
        }
    }
    assert!(differences.is_empty(), "{}\nif this is right: {BLESS}=1 cargo test --test golden", differences.join("\n"));
}

/// The first line that differs.
fn difference(name: &str, want: &str, now: &str) -> Option<String> {
    if want == now {
        return None;
    }
    let mut lines = (want.split('\n').map(Some).chain([None])).zip(now.split('\n').map(Some).chain([None]));
    let at = lines.position(|(want, now)| want != now).unwrap_or(0);
    let line = |text: &str| text.split('\n').nth(at).map_or_else(|| "(no line)".to_owned(), |line| format!("{line:?}"));
    Some(format!("{name}, line {}:\n  was {}\n  is  {}", at + 1, line(want), line(now)))
}

#[test]
fn a_difference_names_its_line() {
    assert_eq!(difference("a", "1\n2\n", "1\n2\n"), None);
    let told = difference("a", "1\n2\n", "1\n3\n").unwrap();
    assert!(told.contains("line 2") && told.contains("was \"2\"") && told.contains("is  \"3\""), "{told}");
    assert!(difference("a", "1\n", "1\n2\n").unwrap().contains("line 2"));
    assert!(difference("a", "", "1").unwrap().contains("line 1"));
}
