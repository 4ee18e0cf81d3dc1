//! Reads expressions.

use std::time::Duration;

use jiff::SignedDuration;
use tcptrace_common::record::{AF_INET, AF_INET6};

use super::{
    error::Error,
    expr::{Expr, NetnsId, Pattern, Test},
    fields::{EventName, Field, Level, Number, Text, Which},
    lexer::Token,
    reader::{Reader, Value},
    values::{Pid, Regex},
    words::primitive,
};
use crate::model::{
    nearest::nearest,
    number::{digits, size},
};

/// How deep brackets and negations may be nested.
const MAX_DEPTH: usize = 32;
/// Longest command name that the kernel keeps (`TASK_COMM_LEN` of `include/linux/sched.h`, without the NUL).
const MAX_COMM: usize = 15;

impl Expr {
    /// Reads an expression; `findings` are the ids of all findings.
    ///
    /// # Errors
    /// For anything else; the message shows the place and what is expected there.
    pub fn parse(text: &str, findings: &[&str]) -> Result<Self, Error> {
        Reader::new(text, findings, false)?.whole()
    }

    /// Reads the words of a command line: an expression, or what `ss` and `tcpdump` take.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse_words(text: &str, findings: &[&str]) -> Result<Self, Error> {
        Reader::new(text, findings, true)?.whole()
    }
}

/// Operators of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Is,
    IsNot,
    Less,
    AtMost,
    More,
    AtLeast,
    Matches,
    MatchesNot,
    In,
}

/// The operators as they are written; the words are those of `ss`.
const OPS: [(&str, Op); 19] = [
    ("==", Op::Is),
    ("=", Op::Is),
    ("!=", Op::IsNot),
    ("<", Op::Less),
    ("<=", Op::AtMost),
    (">", Op::More),
    (">=", Op::AtLeast),
    ("=~", Op::Matches),
    ("!~", Op::MatchesNot),
    ("in", Op::In),
    ("eq", Op::Is),
    ("ne", Op::IsNot),
    ("neq", Op::IsNot),
    ("lt", Op::Less),
    ("le", Op::AtMost),
    ("leq", Op::AtMost),
    ("gt", Op::More),
    ("ge", Op::AtLeast),
    ("geq", Op::AtLeast),
];

impl<'a> Reader<'a> {
    fn whole(mut self) -> Result<Expr, Error> {
        if self.tokens.is_empty() {
            return Err(self.wrong("the expression is empty; an example: state == CLOSE_WAIT && age > 1m"));
        }
        let whole = self.any()?;
        match self.peek() {
            None => Ok(whole),
            Some(Token::Sign(")")) => Err(self.wrong("this bracket closes nothing")),
            Some(_) => Err(self.wrong("expected && or || here")),
        }
    }

    fn any(&mut self) -> Result<Expr, Error> {
        let mut parts = vec![self.all()?];
        while self.take_sign(&["||", "|"]) || self.take_word(&["or"]) {
            parts.push(self.all()?);
        }
        Ok(Expr::any(parts))
    }

    fn all(&mut self) -> Result<Expr, Error> {
        let mut parts = vec![self.not()?];
        // Of ss's `state A state B`, one may match.
        let mut is_states =
            self.takes_words && matches!(parts.first(), Some(Expr::Test(Test::State(Which::Either, _))));
        loop {
            let is_joined = self.take_sign(&["&&", "&"]) || self.take_word(&["and"]);
            let begins = match self.peek() {
                None | Some(Token::Sign(")" | "||" | "|" | "}" | ",")) => false,
                Some(Token::Word(word)) => !word.eq_ignore_ascii_case("or"),
                Some(_) => true,
            };
            if !(is_joined || self.takes_words && begins) {
                return Ok(Expr::all(parts));
            }
            let part = self.not()?;
            if is_states
                && !is_joined
                && let Expr::Test(Test::State(Which::Either, more)) = &part
                && let Some(Expr::Test(Test::State(_, states))) = parts.last_mut()
            {
                *states = states.iter().chain(more.iter()).collect();
            } else {
                is_states = false;
                parts.push(part);
            }
        }
    }

    fn not(&mut self) -> Result<Expr, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.wrong(format!("brackets and negations are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let part = if self.take_sign(&["!"]) || self.take_word(&["not"]) {
            Ok(Expr::Not(Box::new(self.not()?)))
        } else if self.take_sign(&["("]) {
            let inner = self.any()?;
            if self.take_sign(&[")"]) { Ok(inner) } else { Err(self.wrong("expected ) here")) }
        } else {
            self.test()
        };
        self.depth -= 1;
        part
    }

    fn test(&mut self) -> Result<Expr, Error> {
        if let Some(primitive) = primitive(self)? {
            return Ok(primitive);
        }
        let Some(Token::Word(name)) = self.peek().cloned() else {
            return Err(self.wrong("expected a field here, e.g. state, rport or age"));
        };
        let Some(field) = Field::named(&name) else {
            let near = nearest(&name, Field::names());
            let fields = Field::names().collect::<Vec<_>>().join(", ");
            return Err(self.wrong(format!("there is no field `{name}`{near}\nfields: {fields}")));
        };
        self.at += 1;
        let op = self.operator(field)?;
        self.compare(field, op)
    }

    fn operator(&mut self, field: Field) -> Result<Op, Error> {
        let op = match self.peek() {
            Some(Token::Sign(sign)) => OPS.iter().find(|(name, _)| *name == *sign),
            Some(Token::Word(word)) => OPS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.as_str())),
            _ => None,
        };
        let takes = |op: Op| match op {
            Op::Is | Op::IsNot | Op::In => true,
            Op::Matches | Op::MatchesNot => matches!(field, Field::Text(_)),
            _ => matches!(field, Field::Port(_) | Field::Number(_) | Field::Severity),
        };
        match op {
            Some((_, op)) if takes(*op) => {
                self.at += 1;
                Ok(*op)
            }
            _ => Err(self.wrong(format!("expected an operator after {}: {}", field.name(), field.operators()))),
        }
    }

    fn compare(&mut self, field: Field, op: Op) -> Result<Expr, Error> {
        let values = self.values_of(field)?;
        let is_negated = matches!(op, Op::IsNot | Op::MatchesNot);
        let test = match op {
            Op::Is | Op::IsNot | Op::In => self.one_of(field, &values, op == Op::In)?,
            Op::Matches | Op::MatchesNot => {
                let (text, span) = self.single(&values)?;
                let regex = Regex::new(&text).map_err(|error| self.wrong_at(span, error))?;
                match field {
                    Field::Text(text) => Expr::Test(Test::Text(text, Pattern::Matches(regex))),
                    _ => return Err(self.wrong_at(span, "only texts are matched")),
                }
            }
            Op::Less | Op::AtMost | Op::More | Op::AtLeast => self.ordered(field, op, &values)?,
        };
        Ok(if is_negated { Expr::Not(Box::new(test)) } else { test })
    }

    /// A value, or several in braces.
    fn values_of(&mut self, field: Field) -> Result<Vec<Value>, Error> {
        if !self.take_sign(&["{"]) {
            return Ok(vec![self.value(field.values())?]);
        }
        let mut values = vec![self.value(field.values())?];
        while self.take_sign(&[","]) {
            values.push(self.value(field.values())?);
        }
        if self.take_sign(&["}"]) { Ok(values) } else { Err(self.wrong("expected , or } here")) }
    }

    /// A test for one of these values.
    fn one_of(&self, field: Field, values: &[Value], is_in: bool) -> Result<Expr, Error> {
        let test = match field {
            Field::State(which) => Test::State(which, self.states(values)?),
            Field::Port(end) => Test::Port(end, self.each(values, |text| self.port(text))?),
            Field::Address(end) => return self.places(end, values),
            Field::Family => match self.each(values, family)?.as_slice() {
                [one] => Test::Family(*one),
                _ => return Ok(Expr::everything()), // there are two
            },
            Field::Netns => Test::Netns(self.each(values, netns)?),
            Field::Number(number) => Test::Number(number, self.each(values, |text| range(number, text))?),
            Field::User => Test::Text(Text::User, Pattern::Is(self.each(values, |text| Ok(text.to_owned()))?)),
            Field::Text(text) => {
                let values = self.each(values, |value| text_value(text, value))?;
                let is_path = text == Text::Cgroup && is_in;
                Test::Text(text, if is_path { Pattern::Below(values) } else { Pattern::Is(values) })
            }
            Field::Event => Test::Event(self.each(values, event)?),
            Field::Finding => Test::Finding(self.each(values, |text| self.finding(text))?),
            Field::Severity => Test::Severity(self.each(values, level)?),
        };
        Ok(Expr::Test(test))
    }

    fn finding(&self, text: &str) -> Result<String, String> {
        if self.findings.contains(&text) {
            return Ok(text.to_owned());
        }
        let near = nearest(text, self.findings.iter().copied());
        Err(format!("there is no finding `{text}`{near}; known: {}", self.findings.join(", ")))
    }

    fn ordered(&self, field: Field, op: Op, values: &[Value]) -> Result<Expr, Error> {
        let (text, span) = self.single(values)?;
        let wrong = |error: String| self.wrong_at(span, error);
        let bounds = |value: u64, least: u64, most: u64| -> Vec<(u64, u64)> {
            let (first, last) = match op {
                Op::Less if value <= least => return Vec::new(),
                Op::More if value >= most => return Vec::new(),
                Op::Less => (least, value - 1),
                Op::AtMost => (least, value),
                Op::More => (value + 1, most),
                _ => (value, most),
            };
            vec![(first, last)]
        };
        Ok(Expr::Test(match field {
            Field::Port(end) => {
                let (first, last) = self.port(&text).map_err(wrong)?;
                let value = if matches!(op, Op::Less | Op::AtLeast) { first } else { last };
                let ports = bounds(value.into(), 1, u16::MAX.into());
                Test::Port(end, ports.into_iter().map(|(first, last)| (first as u16, last as u16)).collect())
            }
            Field::Number(number) => {
                let value = single_number(number, &text).map_err(wrong)?;
                Test::Number(number, bounds(value, 0, u64::MAX))
            }
            Field::Severity => {
                let wanted = level(&text).map_err(wrong)?;
                let fits = |level: &Level| match op {
                    Op::Less => *level < wanted,
                    Op::AtMost => *level <= wanted,
                    Op::More => *level > wanted,
                    _ => *level >= wanted,
                };
                Test::Severity(Level::ALL.into_iter().filter(fits).collect())
            }
            _ => return Err(wrong(format!("{} has no order", field.name()))),
        }))
    }
}

fn family(text: &str) -> Result<u16, String> {
    match text.to_ascii_lowercase().as_str() {
        "ipv4" | "4" | "inet" | "ip" => Ok(AF_INET),
        "ipv6" | "6" | "inet6" | "ip6" => Ok(AF_INET6),
        _ => Err(format!("`{text}` is not a family: write ipv4 or ipv6")),
    }
}

fn netns(text: &str) -> Result<NetnsId, String> {
    let number = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if text.contains('/') {
        return Err(format!("`{text}`: expressions take a name or an inode number; --netns takes files, too"));
    }
    Ok(digits(number).map_or_else(|| NetnsId::Name(text.to_owned()), NetnsId::Inode))
}

fn event(text: &str) -> Result<EventName, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('s').unwrap_or(&lower);
    let names = EventName::ALL.map(EventName::name);
    EventName::ALL
        .into_iter()
        .find(|event| event.name() == name)
        .ok_or_else(|| format!("there is no event `{text}`; known: {}", names.join(", ")))
}

fn level(text: &str) -> Result<Level, String> {
    let names = Level::ALL.map(Level::name).join(", ");
    Level::ALL
        .into_iter()
        .find(|level| level.name() == text.to_ascii_lowercase())
        .ok_or_else(|| format!("`{text}` is not a severity; known: {names}"))
}

/// The value of a text field, as the host writes it.
///
/// # Errors
/// If nothing can have this value.
pub fn text_value(field: Text, value: &str) -> Result<String, String> {
    match field {
        Text::Comm if value.len() > MAX_COMM => Err(format!(
            "`{value}` never matches: the kernel keeps {MAX_COMM} bytes of a command name (`{}`); exe is the whole path",
            value.chars().take(MAX_COMM).collect::<String>()
        )),
        // As systemctl takes it.
        Text::Unit if !value.contains('.') => Ok(format!("{value}.service")),
        Text::Cgroup => {
            Ok(value.strip_prefix("/sys/fs/cgroup").filter(|path| path.starts_with('/')).unwrap_or(value).to_owned())
        }
        _ if value.is_empty() => Err("the text is empty".to_owned()),
        _ => Ok(value.to_owned()),
    }
}

/// A number, or a range of numbers.
fn range(number: Number, text: &str) -> Result<(u64, u64), String> {
    if number == Number::Pid {
        return text.parse().map(|Pid(pid)| (pid.into(), pid.into()));
    }
    match text.split_once('-').filter(|_| !number.is_time()) {
        Some((first, last)) => {
            let (first, last) = (single_number(number, first)?, single_number(number, last)?);
            if first > last {
                return Err(format!("the range `{text}` is empty: give the lower value first"));
            }
            Ok((first, last))
        }
        None => single_number(number, text).map(|value| (value, value)),
    }
}

fn single_number(number: Number, text: &str) -> Result<u64, String> {
    if number.is_time() {
        return time_ns(text)
            .ok_or_else(|| format!("`{text}` is not a duration: write it with a unit, e.g. 500ms, 30s, 5m or 1h30m"));
    }
    if number.is_size() {
        return size(text);
    }
    digits(text).ok_or_else(|| format!("`{text}` is not a whole number"))
}

/// A time in ns. A bare number other than 0 has no unit, so it is refused rather than guessed.
fn time_ns(text: &str) -> Option<u64> {
    let days = text.strip_suffix('d').and_then(digits::<u32>).map(|days| Duration::from_secs(u64::from(days) * 86_400));
    let parsed = || text.parse::<SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok());
    match text {
        "0" => Some(0),
        _ => u64::try_from(days.or_else(parsed)?.as_nanos()).ok(),
    }
}
