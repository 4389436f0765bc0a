//! Whether a value is what a schema of an OpenAPI 3.0 document says it is.
//!
//! Knows the words that the document uses and panics at any other, so that none is passed over. It is
//! stricter than OpenAPI in one thing: an object has no fields that its schema does not name.

use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;
use uuid::Uuid;

/// What is wrong with a value, each with its place.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        document,
        found: Vec::new(),
    };
    check.value("", schema, value);
    check.found
}

/// What a reference of the document leads to; what is no reference leads to itself.
pub(crate) fn resolve<'a>(document: &'a Value, thing: &'a Value) -> &'a Value {
    let Some(reference) = thing["$ref"].as_str() else {
        return thing;
    };
    let pointer = reference.trim_start_matches('#');
    let target = document.pointer(pointer);
    target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

struct Check<'a> {
    document: &'a Value,
    found: Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, at: &str, schema: &Value, value: &Value) {
        let schema = resolve(self.document, schema);
        let words = schema.as_object();
        let words = words.unwrap_or_else(|| panic!("{at}: {schema} is no schema"));
        for (word, rule) in words {
            // Null is of no type.
            let is_null = value.is_null() && schema["nullable"] == true;
            let fits = match word.as_str() {
                "description" | "default" | "example" | "nullable" | "additionalProperties" => true,
                "enum" => listed(rule, value),
                _ if is_null => true,
                "type" => is_of_type(rule, value),
                "format" => is_of_format(rule, value),
                "pattern" => matches(rule, value),
                "minimum" => value.as_f64() >= rule.as_f64(),
                "maximum" => value.as_f64() <= rule.as_f64(),
                "minLength" => chars(value) >= rule.as_u64(),
                "maxLength" => chars(value) <= rule.as_u64(),
                "required" => names(rule).all(|name| value.get(name).is_some()),
                "properties" => {
                    self.fields(at, schema, value);
                    true
                }
                "items" => {
                    self.items(at, rule, value);
                    true
                }
                "allOf" => {
                    for schema in rule.as_array().into_iter().flatten() {
                        self.value(at, schema, value);
                    }
                    true
                }
                _ => panic!("{at}: the tests do not know what {word} means"),
            };
            if !fits {
                self.found
                    .push(format!("{at}: {value} against {word} {rule}"));
            }
        }
    }

    fn fields(&mut self, at: &str, schema: &Value, value: &Value) {
        for (name, field) in value.as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            match schema["properties"].get(name) {
                Some(schema) => self.value(&at, schema, field),
                None if schema["additionalProperties"] == true => {}
                None => self.found.push(format!("{at}: no such field is described")),
            }
        }
    }

    fn items(&mut self, at: &str, schema: &Value, value: &Value) {
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            self.value(&format!("{at}/{n}"), schema, item);
        }
    }
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn listed(rule: &Value, value: &Value) -> bool {
    let mut values = rule.as_array().into_iter().flatten();
    values.any(|listed| listed == value)
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    match rule.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        _ => panic!("the tests do not know the type {rule}"),
    }
}

fn is_of_format(rule: &Value, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match rule.as_str() {
        Some("uuid") => Uuid::try_parse(text).is_ok(),
        Some("date-time") => text.parse::<Timestamp>().is_ok(),
        Some("uint16") => value
            .as_u64()
            .is_some_and(|number| u16::try_from(number).is_ok()),
        Some("uint32") => value
            .as_u64()
            .is_some_and(|number| u32::try_from(number).is_ok()),
        Some("uint64") => value.is_u64(),
        _ => panic!("the tests do not know the format {rule}"),
    }
}

fn matches(rule: &Value, value: &Value) -> bool {
    let pattern = rule.as_str().map(Regex::new);
    let pattern = pattern.and_then(Result::ok);
    let pattern = pattern.unwrap_or_else(|| panic!("{rule} is no pattern"));
    value.as_str().is_some_and(|text| pattern.is_match(text))
}

fn chars(value: &Value) -> Option<u64> {
    u64::try_from(value.as_str()?.chars().count()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_held_against_every_word_of_its_schema() {
        let document = json!({"components": {"schemas": {
            "Word": {"type": "string", "enum": ["a", "b"]},
            "Thing": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "at": {"type": "string", "format": "date-time", "pattern": "Z$"},
                    "word": {"$ref": "#/components/schemas/Word"},
                    "none": {"type": "string", "enum": ["a", null], "nullable": true},
                    "many": {"type": "array", "items": {"type": "integer", "maximum": 3.0}},
                    "part": {"allOf": [{"$ref": "#/components/schemas/Thing"}]},
                    "name": {"type": "string", "minLength": 1, "maxLength": 2},
                    "any": {"description": "Anything."},
                },
            },
        }}});
        let thing = json!({"$ref": "#/components/schemas/Thing"});
        let id = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";
        for (value, faulty) in [
            (json!({"id": id, "any": [null, {}]}), None),
            (
                json!({"id": id, "at": "2026-01-31T12:00:00Z", "word": "a"}),
                None,
            ),
            (
                json!({"id": id, "none": null, "many": [], "name": "éé"}),
                None,
            ),
            (json!({"id": id, "part": {"id": id}}), None),
            (json!([]), Some(": ")),
            (json!({}), Some(": ")),
            (json!({"id": "7"}), Some("/id: ")),
            (
                json!({"id": id, "at": "2026-01-31T12:00:00+01:00"}),
                Some("/at: "),
            ),
            (json!({"id": id, "at": "todayZ"}), Some("/at: ")),
            (json!({"id": id, "word": "c"}), Some("/word: ")),
            (json!({"id": id, "word": null}), Some("/word: ")),
            (json!({"id": id, "none": "b"}), Some("/none: ")),
            (json!({"id": id, "many": [1, 4]}), Some("/many/1: ")),
            (json!({"id": id, "many": [1.5]}), Some("/many/0: ")),
            (json!({"id": id, "many": 1}), Some("/many: ")),
            (json!({"id": id, "part": {"id": 7}}), Some("/part/id: ")),
            (json!({"id": id, "name": ""}), Some("/name: ")),
            (json!({"id": id, "name": "ééé"}), Some("/name: ")),
            (json!({"id": id, "other": 1}), Some("/other: ")),
        ] {
            let found = faults(&document, &thing, &value);
            let place = found
                .first()
                .map(|fault| fault.get(..fault.find(": ").unwrap_or(0) + 2));
            assert_eq!(place.flatten(), faulty, "{value}: {found:?}");
        }
    }
}
