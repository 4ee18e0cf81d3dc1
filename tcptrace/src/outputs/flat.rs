//! Flattens a record into names and values, for logs that support nothing else.

use serde_json::{Map, Value};

use crate::{model::printable::escaped, render::json};

/// Parses a line of tcptrace's JSON.
///
/// # Errors
/// If it is not a JSON object.
pub(super) fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|error| format!("a record is not a JSON object: {error}"))
}

/// Calls `with` for each field and its value as text. Fields of nested objects are prefixed with the object's name and
/// `_`, arrays become JSON, and null is left out, since these logs cannot express it. Values contain only printable
/// characters.
pub(super) fn each(record: &Map<String, Value>, with: &mut impl FnMut(&str, &str)) {
    under("", record, with);
}

fn under(prefix: &str, record: &Map<String, Value>, with: &mut impl FnMut(&str, &str)) {
    for (name, value) in record {
        let name = format!("{prefix}{name}");
        match value {
            Value::Null => {}
            Value::Object(fields) => under(&format!("{name}_"), fields, with),
            Value::String(text) => with(&name, &escaped(text)),
            Value::Array(_) => with(&name, &json::text(value)),
            Value::Bool(_) | Value::Number(_) => with(&name, &value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_flattened_and_null_is_left_out() {
        let line =
            br#"{"event":"x","pid":null,"owner":{"pid":8,"in":{"a":true}},"list":[1,{"b":"c"}],"share":2.5,"none":{}}"#;
        let mut fields = Vec::new();
        each(&parse(line).unwrap(), &mut |name, value| fields.push(format!("{name}={value}")));
        assert_eq!(fields, ["event=x", "owner_pid=8", "owner_in_a=true", r#"list=[1,{"b":"c"}]"#, "share=2.5"]);
        let names = r#"{"a":"\u001b]","b":["\u202e"]}"#;
        fields.clear();
        each(&parse(names.as_bytes()).unwrap(), &mut |name, value| fields.push(format!("{name}={value}")));
        assert_eq!(fields, [r"a=\u{1b}]", r#"b=["\u202e"]"#]);
        assert!(["", "7", "[]", "{\"a\":", "\u{0}"].iter().all(|line| parse(line.as_bytes()).is_err()));
    }
}
