//! Chooses the sockets to end out of a listing.

use std::time::Duration;

use crate::{
    commands::lookup::HolderLookup,
    findings::{Cause, Kind},
    model::{
        age::{Age, AgeSource},
        filter::{ConnectionFacts, Filter, ListedSubject},
        holders::Holder,
        keyed::{KeyedMap, KeyedSet},
        snapshot::Snapshot,
        socket::{self, ListedSocket},
        state::State,
    },
    sys::cgroup,
};

/// Which sockets to end. All that are given must match.
pub struct Criteria {
    /// The filter for sockets.
    pub filter: Filter,
    /// Cookies; empty for any.
    pub cookies: Vec<u64>,
    /// Findings; empty if none need be open.
    pub findings: Vec<Kind>,
    /// Least known time in the state.
    pub older_than: Option<Duration>,
    /// Whether listeners are ended, too.
    pub listeners: bool,
}

/// A socket of an open finding.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Its cookie.
    pub cookie: u64,
    /// The finding.
    pub kind: Kind,
    /// The cause that the finding has.
    pub cause: Cause,
    /// The state of the socket in the finding.
    pub state: State,
    /// Its time in that state by then.
    pub age: Age,
}

/// Why a socket was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It belongs to a finding with this cause.
    Finding(Kind, Cause),
    /// Its cookie was given.
    Cookie,
    /// The filter matches.
    Filter,
}

impl Reason {
    /// The name in machine-readable outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finding(..) => "finding",
            Self::Cookie => "cookie",
            Self::Filter => "filter",
        }
    }
}

/// A socket to end.
#[derive(Clone, Debug)]
pub struct Target {
    /// The socket as it was listed.
    pub socket: ListedSocket,
    /// Name of its network namespace, if it has one.
    pub netns_name: Option<String>,
    /// Time in its state: that of the finding, or as listed.
    pub age: Option<Age>,
    /// The time in its state as listed, if it must not have become shorter: it is a reason to end the socket.
    pub least_age: Option<Age>,
    /// Who holds it, by PID.
    pub holders: Vec<Holder>,
    /// Why it was chosen.
    pub reason: Reason,
}

impl Target {
    /// True if a file refers to it, so that some process holds it, but none was found.
    #[must_use]
    pub fn has_unknown_holder(&self) -> bool {
        self.holders.is_empty() && self.socket.kind == socket::Kind::Full && self.socket.handle != 0
    }
}

/// The chosen sockets, and what was left out.
#[derive(Debug)]
pub struct Chosen {
    /// The sockets to end, in the order of the listing.
    pub targets: Vec<Target>,
    /// Number of listeners that match but are left alone.
    pub listeners: usize,
    /// Cookies that were given but that no socket has, or none that matches.
    pub missing: Vec<u64>,
    /// Number of sockets that were in a finding a moment ago and are gone or in another state.
    pub over: usize,
    /// Number of sockets that match but have no cookie, by which they could be recognized.
    pub nameless: usize,
}

impl Chosen {
    /// Chooses out of a listing; `proofs` are the sockets of the wanted findings, if any are wanted.
    #[must_use]
    pub fn new(snapshot: &Snapshot, criteria: &Criteria, proofs: Option<&[Proof]>) -> Self {
        let proven: Option<KeyedMap<u64, &Proof>> =
            proofs.map(|proofs| proofs.iter().map(|proof| (proof.cookie, proof)).collect());
        let cookies: KeyedSet<u64> = criteria.cookies.iter().copied().collect();
        let named = snapshot.namespaces.iter().filter_map(|netns| Some((netns.inode, netns.name.as_ref()?)));
        let names: KeyedMap<u32, &String> = named.collect();
        let netns: KeyedMap<u32, &str> = names.iter().map(|(inode, name)| (*inode, name.as_str())).collect();
        let mut lookup = HolderLookup::new(&cgroup::of_process, &netns);
        let (mut listeners, mut nameless, mut seen) = (0, 0, KeyedSet::default());
        let mut target = |socket: &ListedSocket| {
            let holders = snapshot.holders.as_ref().map_or(&[][..], |holders| holders.of(socket.handle));
            let cgroup = |pid: u32, _| cgroup::of_process(pid);
            let listed = socket.age(snapshot.ended_ns);
            let is_old = |least: Duration| listed.is_some_and(|age| u128::from(age.ns) >= least.as_nanos());
            let proof = match (&proven, socket.cookie) {
                (Some(proven), Some(cookie)) => Some(*proven.get(&cookie).filter(|proof| proof.state == socket.state)?),
                (Some(_), None) => return None,
                (None, _) => None,
            };
            let is_complete = !holders.is_empty() || socket.handle == 0;
            let now_ns = snapshot.ended_ns;
            let subject = ConnectionFacts::from(ListedSubject { socket, holders, now_ns, is_complete });
            let is_wanted = (cookies.is_empty() || socket.cookie.is_some_and(|cookie| cookies.contains(&cookie)))
                && criteria.filter.sockets.matches(socket, holders, cgroup)
                && criteria.filter.rest_selects(&subject, &mut lookup)
                && criteria.older_than.is_none_or(is_old);
            if !is_wanted {
                return None;
            }
            let Some(cookie) = socket.cookie else {
                nameless += 1;
                return None;
            };
            seen.insert(cookie);
            if socket.state == State::Listen && !criteria.listeners {
                listeners += 1;
                return None;
            }
            let reason = match proof {
                Some(proof) => Reason::Finding(proof.kind, proof.cause),
                None if !cookies.is_empty() => Reason::Cookie,
                None => Reason::Filter,
            };
            let is_reason = proof.is_some() || criteria.older_than.is_some();
            Some(Target {
                socket: *socket,
                netns_name: names.get(&socket.netns).map(|name| (*name).clone()),
                age: proof.map(|proof| proof.age).or(listed),
                // A lower bound says when the last segment came, which may be all the time.
                least_age: listed.filter(|age| is_reason || age.source != AgeSource::LowerBound),
                holders: holders.to_vec(),
                reason,
            })
        };
        let targets: Vec<_> = snapshot.sockets.iter().filter_map(&mut target).collect();
        let over = |proof: &&Proof| {
            let is_it = |socket: &&ListedSocket| socket.cookie == Some(proof.cookie);
            snapshot.sockets.iter().find(is_it).is_none_or(|socket| socket.state != proof.state)
        };
        Self {
            listeners,
            nameless,
            missing: criteria.cookies.iter().copied().filter(|cookie| !seen.contains(cookie)).collect(),
            over: proofs.unwrap_or_default().iter().filter(over).count(),
            targets,
        }
    }

    /// What was left out, in words.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let missing =
            self.missing.iter().map(|cookie| format!("cookie:{cookie}: no socket that matches has this cookie"));
        remarks.extend(missing);
        if self.listeners > 0 {
            remarks.push(format!("left alone: {} listeners; --listeners ends them, too", self.listeners));
        }
        if self.over > 0 {
            remarks.push(format!(
                "left alone: {} sockets of findings that are gone or in another state by now",
                self.over
            ));
        }
        if self.nameless > 0 {
            remarks
                .push(format!("left alone: {} sockets without a cookie, which cannot be checked again", self.nameless));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{filter::Expr, namespace::Namespace, socket::ConnectionInfo};

    fn socket(cookie: u64, state: State, port: u16) -> ListedSocket {
        let ends = (([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 9).into());
        let connection = ConnectionInfo { last_ack_ns: 5_000_000_000, ..ConnectionInfo::default() };
        ListedSocket {
            cookie: Some(cookie),
            connection: Some(connection),
            ..ListedSocket::new(socket::Kind::Full, state, 7, ends.0, ends.1)
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            sockets: vec![
                socket(1, State::CloseWait, 80),
                socket(2, State::CloseWait, 81),
                socket(3, State::Listen, 80),
                ListedSocket { cookie: None, ..socket(4, State::CloseWait, 80) },
            ],
            namespaces: vec![Namespace { inode: 7, name: Some("blue".to_owned()), counters: None, settings: None }],
            ..Snapshot::default()
        }
    }

    fn criteria() -> Criteria {
        Criteria {
            filter: Filter::default(),
            cookies: Vec::new(),
            findings: Vec::new(),
            older_than: None,
            listeners: false,
        }
    }

    fn cookies(chosen: &Chosen) -> Vec<u64> {
        chosen.targets.iter().filter_map(|target| target.socket.cookie).collect()
    }

    fn proof(cookie: u64, state: State) -> Proof {
        let age = Age { ns: 9, source: AgeSource::Observed };
        Proof { cookie, kind: Kind::CloseWaitLeak, cause: Cause::NeverClosed, state, age }
    }

    #[test]
    fn all_criteria_must_match() {
        let on_80 = Expr::parse("lport == 80", &[]).unwrap().lower();
        let chosen = Chosen::new(&snapshot(), &Criteria { filter: on_80.clone(), ..criteria() }, None);
        assert_eq!((cookies(&chosen), chosen.listeners, chosen.nameless), (vec![1], 1, 1));
        assert_eq!((chosen.targets[0].reason, chosen.targets[0].netns_name.as_deref()), (Reason::Filter, Some("blue")));
        assert_eq!(chosen.remarks().len(), 2);
        let chosen = Chosen::new(&snapshot(), &Criteria { filter: on_80, listeners: true, ..criteria() }, None);
        assert_eq!((cookies(&chosen), chosen.listeners), (vec![1, 3], 0));

        let chosen = Chosen::new(&snapshot(), &Criteria { cookies: vec![2, 3, 99], ..criteria() }, None);
        assert_eq!((cookies(&chosen), chosen.missing.clone()), (vec![2], vec![99]));
        assert!(chosen.remarks().iter().any(|words| words.contains("--listeners")), "named by its cookie, and left");
        assert_eq!(chosen.targets[0].reason, Reason::Cookie);

        let older_than = |seconds| Criteria { older_than: Some(Duration::from_secs(seconds)), ..criteria() };
        let chosen = Chosen::new(&snapshot(), &older_than(5), None);
        assert_eq!(cookies(&chosen), [1, 2]);
        assert!(chosen.targets.iter().all(|target| target.least_age.is_some()), "the age was a reason");
        assert!(cookies(&Chosen::new(&snapshot(), &older_than(6), None)).is_empty());
    }

    #[test]
    fn a_finding_is_a_proof_while_its_socket_is_in_the_same_state() {
        let proofs = [proof(1, State::CloseWait), proof(2, State::FinWait2), proof(99, State::CloseWait)];
        let chosen = Chosen::new(&snapshot(), &criteria(), Some(&proofs));
        assert_eq!((cookies(&chosen), chosen.over), (vec![1], 2));
        assert_eq!(chosen.targets[0].reason, Reason::Finding(Kind::CloseWaitLeak, Cause::NeverClosed));
        assert!(chosen.targets[0].least_age.is_some());
        let none = Chosen::new(&snapshot(), &criteria(), Some(&[]));
        assert!(none.targets.is_empty(), "without a finding nothing is chosen");
    }
}
