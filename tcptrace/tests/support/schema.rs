//! The JSON Schema of the output, as users get it.

use std::{fs, path::PathBuf};

use jsonschema::Validator;
use serde_json::{Map, Value};

/// A file of the repository's documentation.
pub(crate) fn docs_file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schema as it is written.
pub(crate) fn document() -> Value {
    serde_json::from_str(&docs_file("tcptrace.schema.json")).expect("the schema is JSON")
}

/// The schema, ready for use.
pub(crate) fn validator() -> Validator {
    let document = document();
    jsonschema::meta::validate(&document).expect("the schema follows its own dialect");
    jsonschema::validator_for(&document).expect("the schema can be used")
}

/// A line as a record that follows the schema.
pub(crate) fn valid_record(validator: &Validator, line: &str) -> Map<String, Value> {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    if let Err(error) = validator.validate(&record) {
        panic!("{error}: {line}");
    }
    record.as_object().expect("a record is an object").clone()
}

/// Names and schemas of the fields of records of kind `event`, with references followed.
pub(crate) fn fields(document: &Value, event: &str) -> Vec<(String, Value)> {
    let properties = document["$defs"][event]["properties"].as_object();
    let properties = properties.unwrap_or_else(|| panic!("the schema has no record `{event}`"));
    properties.iter().map(|(name, schema)| (name.clone(), resolve(document, schema).clone())).collect()
}

/// Follows references within the document.
pub(crate) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(reference) = schema["$ref"].as_str() else {
        return schema;
    };
    let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
    resolve(document, target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
}
