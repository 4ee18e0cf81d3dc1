//! Expressions as values.

use super::{
    fields::{End, EventName, Level, Number, Text, Which},
    values::Regex,
};
use crate::model::{socket_filter::Prefix, state::StateSet};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All of these; true if there are none.
    All(Vec<Expr>),
    /// At least one of these.
    Any(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// A single test.
    Test(Test),
}

/// A test of one field. Within it, one of the values must match.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The state: of a transition either of its two.
    State(Which, StateSet),
    /// Port ranges, first and last port included.
    Port(End, Vec<(u16, u16)>),
    /// Address prefixes.
    Address(End, Vec<Prefix>),
    /// Address and port of the same end.
    Endpoint(End, Vec<(Prefix, (u16, u16))>),
    /// [`AF_INET`](tcptrace_common::record::AF_INET) or [`AF_INET6`](tcptrace_common::record::AF_INET6), by the addresses.
    Family(u16),
    /// The network namespace.
    Netns(Vec<NetnsId>),
    /// Ranges of a number, ends included.
    Number(Number, Vec<(u64, u64)>),
    /// A property of one of the processes.
    Text(Text, Pattern),
    /// What kind of record it is.
    Event(Vec<EventName>),
    /// Ids of findings.
    Finding(Vec<String>),
    /// Severities of findings.
    Severity(Vec<Level>),
}

/// A network namespace as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsId {
    /// By inode number.
    Inode(u32),
    /// By its name in `/run/netns`.
    Name(String),
}

/// What a text must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// One of these, exactly.
    Is(Vec<String>),
    /// A path equal to one of these or below it.
    Below(Vec<String>),
    /// Any text that this matches somewhere.
    Matches(Regex),
}

impl Expr {
    /// The expression that everything matches.
    #[must_use]
    pub const fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// All of these; the expressions that match everything are left out.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All(parts) => flat.extend(parts),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::All(flat) }
    }

    /// One of these.
    #[must_use]
    pub fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().collect();
        if parts.len() == 1 { parts.remove(0) } else { Self::Any(parts) }
    }

    /// Not this.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// True if it matches everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(parts) if parts.is_empty())
    }

    /// Calls `visit` for each test.
    pub fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.visit(visit)),
            Self::Not(inner) => inner.visit(visit),
            Self::Test(test) => visit(test),
        }
    }

    /// True if a test satisfies `is_it`.
    pub fn mentions(&self, is_it: impl Fn(&Test) -> bool) -> bool {
        let mut found = false;
        self.visit(&mut |test| found |= is_it(test));
        found
    }

    /// Changes each test with `change`.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn change<E>(&mut self, change: &mut dyn FnMut(&mut Test) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().try_for_each(|part| part.change(change)),
            Self::Not(inner) => inner.change(change),
            Self::Test(test) => change(test),
        }
    }
}
