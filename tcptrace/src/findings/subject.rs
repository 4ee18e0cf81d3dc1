//! Findings as subjects of filter expressions.

use std::net::SocketAddr;

use super::{
    detection::{Detection, Example},
    kind::Severity,
};
use crate::model::{
    age::AgeSource,
    filter::{ConnectionFacts, EventName, Known, Level, Number, Party, Subject},
    state::StateSet,
};

impl Example {
    /// What filter expressions see of this example of `detection`.
    #[must_use]
    pub fn subject<'a>(&'a self, detection: &Detection) -> ConnectionFacts<'a> {
        let listed = self.facts.as_ref().map(|facts| &facts.socket);
        ConnectionFacts {
            state: self.state,
            ends: [self.local, self.remote],
            netns: detection.netns,
            cookie: self.cookie,
            age: self.age.map_or(Known::Unknown, Known::from),
            queues: listed.map(|socket| (socket.receive_queue, socket.send_queue)),
            connection: listed.and_then(|socket| socket.connection),
            holders: &self.holders,
            owner: detection.owner.filter(|_| self.holders.is_empty()),
            is_complete: !self.holders.is_empty(),
        }
    }
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

impl Subject for Detection {
    fn event(&self) -> EventName {
        EventName::Finding
    }

    /// Its sockets may be in any state.
    fn states(&self) -> Option<StateSet> {
        None
    }

    fn ends(&self) -> [Option<SocketAddr>; 2] {
        self.subject.ends().into()
    }

    fn netns(&self) -> Option<u32> {
        self.netns
    }

    /// Of the numbers, findings have the age of the oldest socket.
    fn number(&self, number: Number) -> Known {
        match self.oldest.filter(|_| number == Number::Age) {
            Some(age) if age.source == AgeSource::LowerBound => Known::AtLeast(age.ns),
            Some(age) => Known::Exactly(age.ns),
            None => Known::Unknown,
        }
    }

    fn any_process(&self, _: bool, test: &mut dyn FnMut(&Party) -> Option<bool>) -> Option<bool> {
        self.owner.as_ref().and_then(|owner| test(&owner.into()))
    }

    fn finding(&self) -> Option<(&str, Level)> {
        Some((self.kind.id(), self.severity.into()))
    }
}
