//! Splits an expression into words, strings and operators.

use super::error::Error;

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, number, address and so on.
    Word(String),
    /// A text in quotes.
    Quoted(String),
    /// An operator, comma, bracket.
    Sign(&'static str),
}

/// A token and its place in the text, in bytes.
pub(super) type Spanned = (Token, (usize, usize));

/// Longest expression, in bytes.
pub(super) const MAX_TEXT: usize = 4096;

/// Signs, longer ones first.
const SIGNS: [&str; 19] =
    ["&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "=", "<", ">", "!", "&", "|", "(", ")", "{", "}", ","];

/// The tokens of an expression.
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, Error> {
    if text.len() > MAX_TEXT {
        let message = format!("the expression is too long: {} bytes; at most {MAX_TEXT} are taken", text.len());
        return Err(Error::new("", (0, 0), message));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
        } else if let '"' | '\'' = first {
            let (value, len) = quoted(rest, first).ok_or_else(|| {
                Error::new(text, (at, text.len()), format!("the text that begins here has no closing {first}"))
            })?;
            tokens.push((Token::Quoted(value), (at, at + len)));
            at += len;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((Token::Sign(sign), (at, at + sign.len())));
            at += sign.len();
        } else {
            let ends = |c: char| c.is_whitespace() || "&|=<>!(){},\"'~".contains(c);
            // A sign that begins nothing, such as a lone `~`, is a word by itself.
            let len = rest.char_indices().skip(1).find(|(_, c)| ends(*c)).map_or(rest.len(), |(index, _)| index);
            tokens.push((Token::Word(rest.get(..len).unwrap_or_default().to_owned()), (at, at + len)));
            at += len;
        }
    }
    Ok(tokens)
}

/// The text between quotes, where a backslash takes the next quote or backslash for itself, and its length with the quotes.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, index + 1)),
            // Other backslashes belong to regular expressions.
            '\\' => match chars.next_if(|(_, next)| *next == quote || *next == '\\') {
                Some((_, next)) if next == quote => value.push(next),
                Some(_) => value.push_str("\\\\"),
                None => value.push('\\'),
            },
            _ => value.push(c),
        }
    }
    None
}
