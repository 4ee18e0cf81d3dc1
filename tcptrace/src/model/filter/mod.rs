//! The filter language: which sockets, events and findings a user wants.
//!
//! ```text
//! state == CLOSE_WAIT && age > 1m && comm =~ "^java" && !(rport in {443, 8443}) && raddr in 10.0.0.0/8
//! ```
//!
//! [`parse`](Expr::parse) reads it, and [`parse_words`](Expr::parse_words) the words of `ss` and `tcpdump`; flags are
//! shorthands that build the same [`Expr`]. [`Expr::eval`] decides about one [`Subject`]: an event, a socket or a finding.
//! [`Expr::lower`] splits an expression into what a [`SocketFilter`](crate::model::socket_filter::SocketFilter) decides,
//! which the BPF programs can decide too, and the rest.
//!
//! Logic is three-valued: a test of a value that is unknown is unknown, and so is its negation. Only what is certainly
//! true is selected.

mod error;
mod eval;
mod expr;
mod fields;
mod from_sockets;
mod lexer;
mod lower;
mod parse;
mod reader;
mod render;
mod shorthands;
mod subjects;
#[cfg(test)]
mod tests;
mod values;
mod words;

pub use self::{
    error::Error,
    eval::{Known, Lookup, NoLookup, Party, Subject},
    expr::{Expr, NetnsId, Pattern, Test},
    fields::{End, EventName, Level, Number, Text, Which},
    lower::Filter,
    parse::text_value,
    shorthands::{places, ports, states, terms},
    subjects::{ConnectionFacts, EventSubject, FilterNames, ListedSubject},
    values::{Pid, Place, PortRange, Regex, Term, Uid},
};
