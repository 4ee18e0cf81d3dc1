//! Reads CSV as RFC 4180 says, so that the writer is not judged by its own rules. Lines end in LF alone, as the writer
//! promises.

use tcptrace::model::printable::is_printable;

/// The rows of `text`.
///
/// # Errors
/// Where it is no CSV.
pub(crate) fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if cell.is_empty() => {
                loop {
                    match chars.next().ok_or("the text ends in a quoted cell")? {
                        '"' if chars.next_if_eq(&'"').is_some() => cell.push('"'),
                        '"' => break,
                        other => cell.push(other),
                    }
                }
                if !matches!(chars.peek(), None | Some(',' | '\n')) {
                    return Err(format!("something follows the quoted cell {cell:?}"));
                }
            }
            ',' => row.push(std::mem::take(&mut cell)),
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            '"' | '\r' => return Err(format!("{char:?} in the unquoted cell {cell:?}")),
            other => cell.push(other),
        }
    }
    if row.is_empty() && cell.is_empty() { Ok(rows) } else { Err("the last line has no end".to_owned()) }
}

/// What `text` becomes before it is quoted: characters that may not be printed are escaped, and what is a formula to a
/// spreadsheet, but no number, has a `'` before it.
pub(crate) fn cell(text: &str) -> String {
    let escape = |c: char| if is_printable(c) { c.to_string() } else { c.escape_unicode().to_string() };
    let text: String = text.chars().map(escape).collect();
    let is_formula = ["=", "+", "-", "@"].iter().any(|sign| text.trim_start().starts_with(sign));
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    if is_formula && !is_number { format!("'{text}") } else { text }
}
