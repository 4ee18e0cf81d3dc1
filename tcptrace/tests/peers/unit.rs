//! The systemd unit, judged by systemd's own tools.

use std::{fs, process::Command};

use crate::{
    Test,
    program::{Folder, missing as absent, output},
};

pub(crate) const TESTS: &[Test] =
    &[("systemd_understands_all_of_it", systemd_understands_all_of_it), ("it_may_do_little", it_may_do_little)];

/// The unit as it is delivered.
pub(crate) const UNIT: &str = include_str!("../../../dist/tcptrace.service");

/// Ten times the exposure that `systemd-analyze security` may find: 0 is best, 100 worst.
const EXPOSURE: &str = "20";

pub(crate) fn missing() -> Option<String> {
    absent(&["systemd-analyze"])
}

fn systemd_understands_all_of_it() {
    let folder = Folder::new("unit");
    let path = folder.0.join("tcptrace.service");
    // The program need not be installed here.
    fs::write(&path, UNIT.replace("/usr/bin/tcptrace", env!("CARGO_BIN_EXE_tcptrace"))).unwrap();
    let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{words}");
    assert!(!words.contains("tcptrace.service"), "{words}");
}

fn it_may_do_little() {
    let folder = Folder::new("security");
    let path = folder.0.join("tcptrace.service");
    fs::write(&path, UNIT).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE]).arg(&path);
    // It fails where the unit may do more.
    let said = output(&mut command);
    let overall = said.lines().find(|line| line.contains("Overall exposure level for tcptrace.service")).unwrap();
    println!("{overall}");
}
