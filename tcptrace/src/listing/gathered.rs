//! Sockets as a listing finds them.

use rustc_hash::FxHashMap;

use super::entry;
use crate::{snapshot::ListedSocket, state::StateSet};

/// Sockets, each once. One that moves from one table of the kernel's to another while they are walked is met twice, or a
/// request and its child are, or a full socket and its mini-socket: the later one counts.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    sockets: Vec<ListedSocket>,
    /// Where a socket of this namespace with this cookie, or else at this address, was put last.
    places: FxHashMap<(u32, u64), usize>,
    /// Where those lie that were met again.
    earlier: Vec<usize>,
    /// How many entries could not be understood.
    pub(super) broken: u64,
}

impl Gathered {
    /// Makes room: a list of megabytes that grows is copied again and again.
    pub(super) fn reserve(&mut self, count: usize) {
        self.sockets.reserve(count);
        self.places.reserve(count);
    }

    /// How many there are, those that were met again among them.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Those that were added after there were so many.
    pub(super) fn since(&self, len: usize) -> &[ListedSocket] {
        self.sockets.get(len..).unwrap_or_default()
    }

    /// Adds the sockets of these entries that are in one of `states` (empty: all); `tick_ns` is the length of a jiffy.
    pub(super) fn add_entries(&mut self, bytes: &[u8], states: StateSet, tick_ns: u64) {
        let broken = entry::sockets(bytes, tick_ns, |socket| {
            if states.is_empty() || states.contains(socket.state) {
                self.add(socket);
            }
        });
        self.broken += broken;
    }

    /// Adds a socket.
    pub(super) fn add(&mut self, socket: ListedSocket) {
        if let Some(name) = socket.cookie.or(socket.sk) {
            self.earlier.extend(self.places.insert((socket.netns, name), self.sockets.len()));
        }
        self.sockets.push(socket);
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Vec<ListedSocket> {
        self.earlier.sort_unstable_by(|one, other| other.cmp(one));
        let mut index = 0;
        if !self.earlier.is_empty() {
            self.sockets.retain(|_| {
                index += 1;
                self.earlier.pop_if(|earlier| *earlier == index - 1).is_none()
            });
        }
        self.sockets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::inet_diag::tests::{V4, diag, listed};

    #[test]
    fn of_one_socket_the_last_is_kept() {
        let full = listed(&diag(V4, [5, 2, 0], 1, 1));
        let mini = listed(&diag(V4, [6, 3, 0], 0, 1));
        let nameless = ListedSocket { cookie: None, ..full };
        let other = ListedSocket { netns: full.netns + 1, ..full };
        let mut gathered = Gathered::default();
        [full, nameless, other, full, mini, nameless].into_iter().for_each(|socket| gathered.add(socket));
        assert_eq!(gathered.since(3), [full, mini, nameless]);
        assert_eq!(gathered.finish(), [nameless, other, mini, nameless]);
    }
}
