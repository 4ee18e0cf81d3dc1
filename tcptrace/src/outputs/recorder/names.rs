//! The names of the files of a recording: FILE is the current one, FILE.000000, FILE.000001 and so on are older ones.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of an older file.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number:06}"));
    name.into()
}

/// The number of an older file of this recording.
pub(super) fn number(path: &Path, file: &Path) -> Option<u32> {
    let name = file.file_name()?.to_str()?.strip_prefix(path.file_name()?.to_str()?)?;
    let digits =
        name.strip_prefix('.').filter(|digits| digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// The older files of a recording, the oldest first.
pub(super) fn older(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder(path);
    let mut old = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(number) = number(path, Path::new(&name)) {
            old.push((number, folder.join(name)));
        }
    }
    old.sort();
    Ok(old.into_iter().map(|(_, path)| path).collect())
}

/// The files of a recording, the oldest first.
///
/// # Errors
/// If its folder cannot be read.
pub fn segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = older(path)?;
    if files.is_empty() || fs::symlink_metadata(path).is_ok() {
        files.push(path.to_owned());
    }
    Ok(files)
}
