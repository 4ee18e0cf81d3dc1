//! The network namespace that the user chose, and whether it still exists.

use std::{ffi::OsStr, thread};

use super::netns::{Error, Netns, find, named, own};
use crate::{
    listing::netns::{EnterError, cookie, is_called},
    model::netns_choice::NetnsChoice,
};

/// The namespace that a user selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenNetns {
    /// Inode number of its nsfs file.
    pub inode: u32,
    /// Its name when it was found, if any.
    pub name: Option<String>,
    /// Its cookie, if known.
    pub cookie: Option<u64>,
}

impl ChosenNetns {
    /// Finds it, and enters it to read its cookie, if permitted.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn find(choice: &NetnsChoice) -> Result<Option<Self>, Error> {
        let found = find(Some(choice))?.0.into_iter().next();
        Ok(found.map(|found| {
            let entered = || found.enter().ok().and_then(|()| cookie());
            // In a separate thread, which leaves the namespace by ending.
            let cookie = thread::scope(|scope| scope.spawn(entered).join().unwrap_or_default());
            Self { inode: found.inode, name: found.name, cookie }
        }))
    }

    /// Whether it certainly exists: it still has its name, or is tcptrace's own.
    #[must_use]
    pub fn has_its_name(&self) -> bool {
        self.name.as_deref().is_some_and(|name| is_called(name, self.inode))
            || own().is_ok_and(|own| own.inode == self.inode)
    }

    /// Whether it no longer exists. If it lost its name, all threads are searched for it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.has_its_name()
            && match find(Some(&NetnsChoice::Inode(self.inode))) {
                Err(error) => error.is_gone(),
                Ok((found, _)) => {
                    let mut found = found.into_iter().map(|found| Netns { cookie: self.cookie, ..found });
                    let enters = || found.all(|found| matches!(found.enter(), Err(EnterError::Gone(_))));
                    thread::scope(|scope| scope.spawn(enters).join().unwrap_or(false))
                }
            }
    }

    /// Text for people about a namespace that is no longer found.
    #[must_use]
    pub fn gone_message(&self) -> String {
        let Self { inode, name, .. } = self;
        match name {
            Some(name) if named(OsStr::new(name)).is_ok() => {
                format!("the network namespace {name} ({inode}) is gone, and {name} is now another one")
            }
            Some(name) => format!("the network namespace {name} ({inode}) is gone"),
            None => format!("the network namespace {inode} is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_chosen_one_is_said() {
        let gone =
            |name: Option<&str>| ChosenNetns { inode: 7, name: name.map(str::to_owned), cookie: None }.gone_message();
        assert_eq!(gone(None), "the network namespace 7 is gone");
        assert_eq!(gone(Some("tcptrace-none")), "the network namespace tcptrace-none (7) is gone");
        let own = ChosenNetns::find(&NetnsChoice::Own).unwrap().unwrap();
        assert!(own.has_its_name() && !own.is_gone(), "one's own is there");
    }
}
