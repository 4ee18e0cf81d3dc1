//! The file of `--ready-file`, which exists while all probes are attached.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use crate::{
    commands::trace::error::Error,
    sys::{files, signals::set_ready_file},
};

pub(crate) struct ReadyFile {
    path: PathBuf,
    /// Locked, so that other runs can see that this one is alive.
    file: File,
}

impl ReadyFile {
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        let locked = |file: File| files::lock(&file).map(|()| file);
        match files::create(&path, None).and_then(locked) {
            Ok(file) => {
                set_ready_file(Some(&path));
                Ok(Self { path, file })
            }
            Err(source) => Err(Error::ReadyFile { path, source }),
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        set_ready_file(None);
        // Somebody else may have removed or replaced it.
        if files::is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
