//! Where files may be written, and that nothing is executed (landlock(7)).
//!
//! Landlock holds for the calling thread and those that it starts. A thread under Landlock may not look at processes
//! outside of it, not even at the links `exe`, `fd` and `ns` in `/proc` (`security/landlock/task.c`,
//! `hook_ptrace_access_check`): threads that do are confined by a filter of system calls instead.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, make_bitflags,
};

/// What is handled; older kernels handle less of it. The rights of devices for ioctl(2) are left out: a terminal is opened
/// again by its descriptor.
const NEWEST: ABI = ABI::V4;

/// Where files are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writable {
    /// Folders in which files are made, written, renamed and removed.
    pub folders: Vec<PathBuf>,
    /// Devices, pipes and files that are only written.
    pub files: Vec<PathBuf>,
}

/// Allows writing there alone, to the calling thread and those that it starts. Needs `no_new_privs`. Returns whether the
/// kernel has Landlock.
///
/// # Errors
/// If the kernel has Landlock, but refuses.
pub(super) fn confine(writable: &Writable) -> Result<bool, RulesetError> {
    let handled = AccessFs::from_write(NEWEST) | AccessFs::Execute;
    let mut rules = Ruleset::default().handle_access(handled)?.create()?;
    let in_folder = make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    for (paths, access) in
        [(&writable.folders, in_folder), (&writable.files, make_bitflags!(AccessFs::{WriteFile | Truncate}))]
    {
        for path in paths {
            rules = with(rules, path, access)?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Adds a rule. What is not there cannot be written; a pipe without a name is in no folder, and always allowed.
fn with(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let (Ok(opened), Ok(copy)) = (PathFd::new(path), rules.try_clone()) else { return Ok(rules) };
    match copy.add_rule(PathBeneath::new(opened, access)) {
        Err(error) if path.is_dir() => Err(error),
        with => Ok(with.unwrap_or(rules)),
    }
}

/// The version of Landlock's interface that the kernel has, if any.
#[must_use]
pub fn version() -> Option<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: asks for a number, and takes no pointer.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, io, thread};

    use super::*;

    #[test]
    fn files_are_written_in_the_folders_that_are_named_and_nowhere_else() {
        if version().is_none() {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        let parent = std::env::temp_dir().join(format!("tcptrace-writes-{}", std::process::id()));
        let (here, there) = (parent.join("here"), parent.join("there"));
        fs::create_dir_all(&here).unwrap();
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join("one"), "some").unwrap();
        fs::write(there.join("other"), "some").unwrap();
        let writable = Writable { folders: vec![here.clone()], files: vec![there.join("one"), parent.join("nowhere")] };
        let its = there.clone();
        let test = move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(confine(&writable).unwrap());
            fs::write(here.join("new"), "text").unwrap();
            fs::rename(here.join("new"), here.join("old")).unwrap();
            fs::hard_link(here.join("old"), here.join("linked")).unwrap();
            fs::remove_file(here.join("old")).unwrap();
            fs::write(its.join("one"), "text").unwrap();
            let refused = |result: io::Result<()>| {
                let errno = result.unwrap_err().raw_os_error();
                assert!([Some(libc::EACCES), Some(libc::EXDEV)].contains(&errno), "{errno:?}");
            };
            refused(fs::write(its.join("other"), "text"));
            refused(fs::write(its.join("new"), "text"));
            refused(fs::remove_file(its.join("one")));
            refused(fs::rename(here.join("linked"), its.join("moved")));
            refused(fs::create_dir(here.join("folder")));
            refused(std::process::Command::new("/bin/true").spawn().map(drop));
        };
        thread::spawn(test).join().unwrap();
        assert_eq!(fs::read_to_string(there.join("other")).unwrap(), "some");
        fs::remove_dir_all(&parent).unwrap();
    }
}
