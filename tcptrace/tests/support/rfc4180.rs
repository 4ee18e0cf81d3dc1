//! Reads CSV as RFC 4180 says, so that the writer is not judged by its own rules. Lines end in LF alone, as the writer
//! promises.

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
