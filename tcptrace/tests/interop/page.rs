//! A report in a real browser: Chromium opens it from disk, and axe-core checks whether everybody can use it.
//!
//! CI does not run this. It needs Chromium and, in the folder that [`MODULES`] names, what
//! `npm install puppeteer-core axe-core` puts there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Case, tracer};

/// Names the folder `node_modules`.
const MODULES: &str = "TCPTRACE_NODE_MODULES";

pub(crate) const CASES: &[Case] = &[Case::long("opens_and_everybody_can_use_it", opens_and_everybody_can_use_it)];

/// Why it cannot be played; `None` if it can.
pub(crate) fn obstacle() -> Option<String> {
    let is_set = env::var_os(MODULES).is_some_and(|folder| Path::new(&folder).join("axe-core").exists());
    (!is_set).then(|| format!("{MODULES} names no folder with puppeteer-core and axe-core"))
}

fn opens_and_everybody_can_use_it() {
    let tests = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    let folder = tracer::temporary("page");
    fs::create_dir_all(&folder).unwrap();
    let named = folder.join("report.html");
    let output = Command::new(tracer::binary())
        .args(["report", tests.join("golden/recordings/v1").to_str().unwrap(), "-o", named.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for page in [named, tests.join("golden/found_stuck.html"), tests.join("golden/found_leak.html")] {
        let checked = Command::new("node")
            .arg(tests.join("interop/programs/page.js"))
            .args([&page, &folder])
            .env("NODE_PATH", env::var_os(MODULES).unwrap())
            .output()
            .unwrap();
        println!("{}: {}", page.display(), String::from_utf8_lossy(&checked.stdout));
        assert!(checked.status.success(), "{}: {}", page.display(), String::from_utf8_lossy(&checked.stderr));
    }
    fs::remove_dir_all(&folder).unwrap();
}
