//! The processes related to a socket, shared between sockets that have the same ones.

use std::{
    hash::{Hash, Hasher},
    rc::Rc,
};

use crate::model::{event::Owner, keyed::KeyedSet};

/// Processes by their role for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) owner: Option<Owner>,
    pub(super) creator: Option<Owner>,
    pub(super) acceptor: Option<Owner>,
    pub(super) closed_by: Option<u32>,
    /// The previous owner, which no longer holds the socket.
    pub(super) former: Option<Owner>,
    /// The process at the other end, as it was last known.
    pub(super) peer: Option<Owner>,
}

impl Hash for Roles {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for owner in [&self.owner, &self.creator, &self.acceptor, &self.former, &self.peer] {
            owner.map(|owner| (owner.id(), owner.source)).hash(state);
        }
        self.closed_by.hash(state);
    }
}

/// All distinct role sets; `None` stands for the empty one.
#[derive(Default)]
pub(super) struct AllRoles {
    shared: KeyedSet<Rc<Roles>>,
    /// Number in use at the last cleanup.
    in_use: usize,
}

impl AllRoles {
    /// Returns the shared copy of these roles.
    pub(super) fn share(&mut self, roles: Roles) -> Option<Rc<Roles>> {
        if roles == Roles::default() {
            return None;
        }
        if let Some(shared) = self.shared.get(&roles) {
            return Some(Rc::clone(shared));
        }
        if self.shared.len() > 2 * self.in_use + 64 {
            self.shared.retain(|roles| Rc::strong_count(roles) > 1);
            self.in_use = self.shared.len();
        }
        let roles = Rc::new(roles);
        self.shared.insert(Rc::clone(&roles));
        Some(roles)
    }

    /// Drops unused role sets if there are many compared to `sockets`. After many sockets have left there is nothing to
    /// share for a while.
    pub(super) fn shrink(&mut self, sockets: usize) {
        if self.shared.len() > 2 * sockets + 64 {
            self.shared.retain(|roles| Rc::strong_count(roles) > 1);
            self.shared.shrink_to(2 * self.shared.len() + 64);
            self.in_use = self.shared.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shared.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Command, OwnerSource};

    #[test]
    fn roles_are_kept_once_and_as_long_as_a_socket_has_them() {
        let owner = |pid| Owner {
            pid,
            uid: 0,
            cgroup: 0,
            start: None,
            command: Command::new([0; 16]),
            source: OwnerSource::Connect,
        };
        let roles = |pid| Roles { owner: Some(owner(pid)), ..Roles::default() };
        let mut all = AllRoles::default();
        assert_eq!(all.share(Roles::default()), None);
        let kept = all.share(roles(7)).unwrap();
        assert!(Rc::ptr_eq(&kept, &all.share(roles(7)).unwrap()));
        for pid in 1000..2000 {
            assert_eq!(all.share(roles(pid)).unwrap().owner, Some(owner(pid)));
            assert!(all.shared.len() <= 200, "{}", all.shared.len());
        }
        assert!(Rc::ptr_eq(&kept, &all.share(roles(7)).unwrap()));
    }
}
