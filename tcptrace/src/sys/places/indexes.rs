//! Lists of containers, by what they are looked up by. Each is kept until its file or folder changes, so that a node
//! with thousands of pods is not read again for each of them.

use std::collections::HashMap;

use super::root::{Root, Version};

/// Lists that are kept: those of one node, and of the nodes of a cluster whose nodes are containers here.
const MAX_INDEXES: usize = 16;

/// Lists, the most recently used one last.
#[derive(Debug)]
pub(super) struct Indexes<T>(Vec<(Version, HashMap<Box<str>, T>)>);

impl<T> Default for Indexes<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Indexes<T> {
    /// Looks up `key` in the list of the file or folder at `path`, which `read` reads if it has changed.
    pub(super) fn get(
        &mut self,
        root: &Root,
        path: &str,
        key: &str,
        read: impl FnOnce() -> HashMap<Box<str>, T>,
    ) -> Option<&T> {
        let version = root.version(path).ok()?;
        let known = self.0.iter().position(|(known, _)| *known == version);
        let index = match known {
            Some(place) => self.0.remove(place),
            None => {
                self.0.retain(|(known, _)| !known.is_of_same_file(&version));
                if self.0.len() >= MAX_INDEXES {
                    self.0.remove(0);
                }
                (version, read())
            }
        };
        self.0.push(index);
        self.0.last().and_then(|(_, index)| index.get(key))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{cell::Cell, fs, path::Path};

    use super::*;

    #[test]
    fn a_list_is_read_again_only_if_it_changed() {
        let folder = std::env::temp_dir().join(format!("tcptrace-indexes-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let root = Root::open(&folder).unwrap();
        let reads = Cell::new(0);
        let mut indexes = Indexes::default();
        let mut get = |path: &str, key: &str| {
            let read = || {
                reads.set(reads.get() + 1);
                let text = String::from_utf8(root.read(path, 100).unwrap()).unwrap();
                text.lines().map(|line| (line.into(), line.len())).collect()
            };
            (indexes.get(&root, path, key, read).copied(), reads.get())
        };
        let write = |name: &str, text: &str| fs::write(folder.join(Path::new(name)), text).unwrap();
        assert_eq!(get("/0", "a"), (None, 0), "there is no file");
        write("0", "a\nbb");
        assert_eq!(get("/0", "a"), (Some(1), 1));
        assert_eq!(get("/0", "bb"), (Some(2), 1));
        assert_eq!(get("/0", "ccc"), (None, 1));
        write("0", "a\nccc");
        assert_eq!(get("/0", "ccc"), (Some(3), 2));
        for file in 1..MAX_INDEXES {
            write(&file.to_string(), "a");
            assert_eq!(get(&format!("/{file}"), "a"), (Some(1), 2 + file));
        }
        assert_eq!(get("/0", "a"), (Some(1), 1 + MAX_INDEXES), "none had to make room");
        write("more", "a");
        assert_eq!(get("/more", "a"), (Some(1), 2 + MAX_INDEXES));
        assert_eq!(get("/0", "a"), (Some(1), 2 + MAX_INDEXES), "it was used just before");
        assert_eq!(get("/1", "a"), (Some(1), 3 + MAX_INDEXES), "it was not used for longest");
        fs::remove_dir_all(folder).unwrap();
    }
}
