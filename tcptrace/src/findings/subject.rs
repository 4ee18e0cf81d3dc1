//! Findings as subjects of filter expressions.

use std::net::SocketAddr;

use super::{detection::Detection, kind::Severity};
use crate::model::{
    age::AgeSource,
    filter::{EventName, Known, Level, Number, Party, Subject},
    state::StateSet,
};

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
