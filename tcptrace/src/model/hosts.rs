//! Names of hosts. Looking one up takes as long as its name server, so that is done elsewhere ([`crate::sys::hosts`]), and
//! no event waits for it.

use std::net::IpAddr;

use crate::model::{generations::Generations, keyed::Keyed};

/// Asks for the name of an address; returns false if that is not possible now.
pub type AskHost = Box<dyn FnMut(IpAddr) -> bool>;

/// Maximum number of addresses that are remembered.
const MAX_HOSTS: usize = 16_384;
/// How long a name counts, in ns.
const KEPT_NS: u64 = 600_000_000_000;

/// The names that were looked up.
pub struct Hosts {
    known: Generations<IpAddr, Host, Keyed>,
    ask: Option<AskHost>,
}

#[derive(Default)]
struct Host {
    name: Option<String>,
    /// CLOCK_MONOTONIC in ns at which it was asked for.
    asked_ns: Option<u64>,
}

impl Hosts {
    /// Names are asked for in this way; `None`: not at all.
    #[must_use]
    pub fn new(ask: Option<AskHost>) -> Self {
        Self { known: Generations::new(MAX_HOSTS), ask }
    }

    /// The name of an address, if it is known. It is asked for if it is not, or no longer counts.
    pub fn of(&mut self, address: IpAddr, now_ns: u64) -> Option<&str> {
        let ask = self.ask.as_mut().filter(|_| !address.is_unspecified())?;
        let host = self.known.get_or_insert_with(address, Host::default);
        if host.asked_ns.is_none_or(|asked_ns| now_ns.saturating_sub(asked_ns) >= KEPT_NS) && ask(address) {
            host.asked_ns = Some(now_ns);
        }
        host.name.as_deref()
    }

    /// Takes an answer; `None` if the address has no name.
    pub fn learn(&mut self, address: IpAddr, name: Option<String>) {
        if let Some(host) = self.known.get(&address) {
            host.name = name;
        }
    }

    /// Number of addresses that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[test]
    fn an_address_is_asked_for_once_until_its_name_is_old() {
        let asked = Rc::new(Cell::new(0));
        let (count, full) = (Rc::clone(&asked), Rc::new(Cell::new(false)));
        let is_full = Rc::clone(&full);
        let mut hosts = Hosts::new(Some(Box::new(move |_| {
            count.set(count.get() + 1);
            !is_full.get()
        })));
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(hosts.of(address, 0).is_none() && hosts.of(address, 1).is_none());
        hosts.learn(address, Some("localhost".to_owned()));
        assert_eq!((hosts.of(address, KEPT_NS - 1), asked.get()), (Some("localhost"), 1));
        full.set(true);
        assert_eq!((hosts.of(address, KEPT_NS), asked.get()), (Some("localhost"), 2), "until the answer comes");
        full.set(false);
        assert_eq!((hosts.of(address, KEPT_NS), asked.get()), (Some("localhost"), 3));
        hosts.learn(address, None);
        assert_eq!((hosts.of(address, KEPT_NS + 1), asked.get()), (None, 3));
        assert_eq!((hosts.of(IpAddr::from([0; 4]), 0), asked.get()), (None, 3));
        hosts.learn(IpAddr::from([1; 4]), None); // forgotten meanwhile
        let mut off = Hosts::new(None);
        assert!(off.of(address, 0).is_none() && off.is_empty());
        for number in 0..50_000_u32 {
            hosts.of(IpAddr::from((number + 1).to_be_bytes()), 0);
        }
        assert!(hosts.len() <= MAX_HOSTS);
    }
}
