//! Reads the tokens of an expression one after the other, and the values among them.

use std::collections::BTreeSet;

use super::{
    error::Error,
    expr::{Expr, Test},
    fields::End,
    lexer::{Spanned, Token, tokens},
    values::{Place, PortRange},
};
use crate::model::{
    nearest::nearest,
    state::{State, StateSet},
};

/// Most values in an expression.
const MAX_VALUES: usize = 1024;

/// The state of reading.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Spanned>,
    pub(super) at: usize,
    pub(super) depth: usize,
    values: usize,
    pub(super) findings: &'a [&'a str],
    /// True if the words of `ss` and `tcpdump` are taken, and `and` may be left out.
    pub(super) takes_words: bool,
}

/// A value, and its place in the text.
pub(super) type Value = (String, (usize, usize));

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, findings: &'a [&'a str], takes_words: bool) -> Result<Self, Error> {
        Ok(Self { text, tokens: tokens(text)?, at: 0, depth: 0, values: 0, findings, takes_words })
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// The token after the next one.
    pub(super) fn second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(token, _)| token)
    }

    /// The next token, if it is this word, in any case.
    pub(super) fn take_word(&mut self, words: &[&str]) -> bool {
        let is_it =
            matches!(self.peek(), Some(Token::Word(word)) if words.iter().any(|w| w.eq_ignore_ascii_case(word)));
        self.at += usize::from(is_it);
        is_it
    }

    pub(super) fn take_sign(&mut self, signs: &[&str]) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(sign)) if signs.contains(sign));
        self.at += usize::from(is_it);
        is_it
    }

    /// An error at the next token.
    pub(super) fn wrong(&self, message: impl Into<String>) -> Error {
        let end = (self.text.len(), self.text.len());
        Error::new(self.text, self.tokens.get(self.at).map_or(end, |(_, span)| *span), message)
    }

    pub(super) fn wrong_at(&self, span: (usize, usize), message: impl Into<String>) -> Error {
        Error::new(self.text, span, message)
    }

    pub(super) fn single(&self, values: &[Value]) -> Result<Value, Error> {
        match values {
            [value] => Ok(value.clone()),
            _ => Err(self.wrong("this operator takes a single value")),
        }
    }

    pub(super) fn value(&mut self, expected: &str) -> Result<Value, Error> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.wrong(format!("too many values: an expression takes at most {MAX_VALUES}")));
        }
        match self.tokens.get(self.at) {
            Some((Token::Word(text) | Token::Quoted(text), span)) => {
                self.at += 1;
                Ok((text.clone(), *span))
            }
            _ => Err(self.wrong(format!("expected {expected} here"))),
        }
    }

    pub(super) fn each<T>(&self, values: &[Value], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
        values.iter().map(|(text, span)| read(text).map_err(|error| self.wrong_at(*span, error))).collect()
    }

    pub(super) fn states(&self, values: &[Value]) -> Result<StateSet, Error> {
        let state = |text: &str| {
            text.parse::<State>().map_err(|error| {
                let names: BTreeSet<_> = State::ALL.iter().map(|state| state.name()).collect();
                format!("{error}{}", nearest(&text.to_uppercase().replace('-', "_"), names.into_iter()))
            })
        };
        Ok(self.each(values, state)?.into_iter().collect())
    }

    /// A port or range, in the words of `ss` with a colon before it.
    pub(super) fn port(&self, text: &str) -> Result<(u16, u16), String> {
        let text = if self.takes_words { text.trim_start_matches('*').trim_start_matches(':') } else { text };
        text.parse().map(|PortRange(first, last)| (first, last))
    }

    /// A test for addresses, networks, and addresses with ports.
    pub(super) fn places(&self, end: End, values: &[Value]) -> Result<Expr, Error> {
        let read = |text: &str| match text.strip_prefix('*').unwrap_or(text).strip_prefix(':') {
            // A port of any address, as in ss. `::1` is an address.
            Some(port) if self.takes_words && !port.contains(':') => {
                self.port(port).map(|range| Expr::Test(Test::Port(end, vec![range])))
            }
            _ => text.parse::<Place>().map(|place| place.test(end)),
        };
        Ok(join(self.each(values, read)?))
    }
}

/// Joins tests of addresses with OR, those of one kind into one test.
fn join(tests: Vec<Expr>) -> Expr {
    let mut joined: Vec<Expr> = Vec::new();
    for test in tests {
        match (joined.last_mut(), test) {
            (Some(Expr::Test(Test::Address(_, all))), Expr::Test(Test::Address(_, more))) => all.extend(more),
            (Some(Expr::Test(Test::Endpoint(_, all))), Expr::Test(Test::Endpoint(_, more))) => all.extend(more),
            (_, test) => joined.push(test),
        }
    }
    Expr::any(joined)
}

impl Place {
    /// The test whether this end is at one of these.
    #[must_use]
    pub fn tests(end: End, places: impl Iterator<Item = Self>) -> Expr {
        join(places.map(|place| place.test(end)).collect())
    }

    /// The test whether this end is here.
    #[must_use]
    pub fn test(self, end: End) -> Expr {
        Expr::Test(match self.port {
            None => Test::Address(end, vec![self.prefix]),
            Some(PortRange(first, last)) => Test::Endpoint(end, vec![(self.prefix, (first, last))]),
        })
    }
}
