//! Expressions from lists of values, some of which may be negated, as flags and keys of outputs have them.

use super::{
    expr::{Expr, Test},
    fields::{End, Which},
    values::{Place, PortRange, Term},
};
use crate::model::state::State;

/// One of the wanted values, and none of the unwanted ones.
pub fn terms<T>(terms: &[Term<T>], test: impl Fn(&[&T]) -> Expr) -> Expr {
    let of = |is_negated| terms.iter().filter(move |term| term.is_negated == is_negated).map(|term| &term.value);
    let (wanted, unwanted): (Vec<_>, Vec<_>) = (of(false).collect(), of(true).collect());
    let wanted = (!wanted.is_empty()).then(|| test(&wanted));
    let unwanted = (!unwanted.is_empty()).then(|| Expr::Not(Box::new(test(&unwanted))));
    Expr::all(wanted.into_iter().chain(unwanted))
}

/// One of these states.
#[must_use]
pub fn states(states: &[Term<State>]) -> Expr {
    terms(states, |states| Expr::Test(Test::State(Which::Either, states.iter().map(|state| **state).collect())))
}

/// One of these ports.
#[must_use]
pub fn ports(end: End, ranges: &[Term<PortRange>]) -> Expr {
    terms(ranges, |ranges| Expr::Test(Test::Port(end, ranges.iter().map(|range| (range.0, range.1)).collect())))
}

/// One of these addresses.
#[must_use]
pub fn places(end: End, wanted: &[Term<Place>]) -> Expr {
    terms(wanted, |places| Place::tests(end, places.iter().map(|place| **place)))
}
