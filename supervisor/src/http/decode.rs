//! Request bodies: JSON decoded strictly, with every fault told at once.

use std::{fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, error::Category, value::RawValue};
use uuid::Uuid;

use super::{
    problem::{Code, Fault, Problem},
    query,
};

/// Most faults one answer lists, and most characters of a field's name in one: the answer must not
/// grow with what a client can think of.
const MAX_FAULTS: usize = 32;
const MAX_NAME_CHARS: usize = 64;

/// The fields of a small body. Take each known field once, then `finish`.
#[derive(Debug)]
pub(crate) struct Fields {
    fields: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// Reads a body that must be a JSON object.
    ///
    /// # Errors
    /// `malformed_json`, or `validation_failed` when it is missing or another value.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let fields = serde_json::from_str(text(body)?).map_err(|error| refused(body, &error))?;
        Ok(Self {
            fields,
            faults: Vec::new(),
        })
    }

    /// A text of so many characters, none of them a control character.
    pub(crate) fn text(&mut self, name: &str, chars: RangeInclusive<usize>) -> Option<String> {
        let value = self.take(name)?;
        let text = value.as_str().filter(|text| {
            chars.contains(&text.chars().count()) && !text.contains(char::is_control)
        });
        if text.is_none() {
            let (min, max) = chars.into_inner();
            self.fault(
                name,
                format!("must be a string of {min} to {max} characters, none a control character"),
            );
        }
        text.map(str::to_owned)
    }

    /// A whole number within `bounds`.
    pub(crate) fn number(&mut self, name: &str, bounds: RangeInclusive<u16>) -> Option<u16> {
        let value = self.take(name)?;
        let number = value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| bounds.contains(number));
        if number.is_none() {
            let (min, max) = bounds.into_inner();
            self.fault(name, format!("must be a whole number from {min} to {max}"));
        }
        number
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.fault(name, "must be true or false");
        }
        flag
    }

    /// A UUID.
    pub(crate) fn id(&mut self, name: &str) -> Option<Uuid> {
        let value = self.take(name)?;
        let id = value.as_str().and_then(|text| query::uuid(text).ok());
        if id.is_none() {
            self.fault(name, "must be a UUID");
        }
        id
    }

    /// Notes which of these fields are `null`. To a merge patch that means to take them away, which
    /// is not possible, where to other requests it is as good as absent.
    pub(crate) fn keep(&mut self, names: &[&str]) {
        for name in names {
            if self.fields.get(*name).is_some_and(Value::is_null) {
                self.fields.remove(*name);
                self.fault(name, "cannot be removed; leave it out to keep it");
            }
        }
    }

    /// Notes a fault of a field.
    pub(crate) fn fault(&mut self, name: &str, detail: impl fmt::Display) {
        self.faults.push(fault(name, detail));
    }

    /// Notes that a field that must be there is not, unless its value has been found wrong.
    pub(crate) fn require<T>(&mut self, name: &str, value: Option<&T>) {
        let pointer = pointer(name);
        let told = |fault: &Fault| fault.pointer.as_deref() == Some(pointer.as_str());
        if value.is_none() && !self.faults.iter().any(told) {
            self.fault(name, "is required");
        }
    }

    /// Notes a fault of the body as a whole, unless a field has one already.
    pub(crate) fn fault_of_all(&mut self, detail: &str) {
        if self.faults.is_empty() {
            self.faults.push(Fault::at("", detail));
        }
    }

    /// Ends the reading: a field nobody took is unknown.
    ///
    /// # Errors
    /// `validation_failed` with every fault found, at most `MAX_FAULTS`.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self.fields.keys().take(MAX_FAULTS).cloned().collect();
        for name in unknown {
            self.fault(&name, "is not a field of this request");
        }
        settle(self.faults)
    }

    /// A field's value; `null` is as good as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }
}

/// The payload in `{"payload": …}`, as it was written: it is never made into a tree.
///
/// # Errors
/// `malformed_json`, or `validation_failed` when the body is not exactly such an object.
pub(crate) fn payload(body: &[u8]) -> Result<&RawValue, Problem> {
    let Publish { payload, faults } =
        serde_json::from_str(text(body)?).map_err(|error| refused(body, &error))?;
    settle(faults)?;
    payload.ok_or_else(|| Problem::invalid(vec![fault("payload", "is required")]))
}

struct Publish<'a> {
    payload: Option<&'a RawValue>,
    faults: Vec<Fault>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Publish<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PublishVisitor)
    }
}

struct PublishVisitor;

impl<'de> Visitor<'de> for PublishVisitor {
    type Value = Publish<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object with the field payload")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Publish<'de>, A::Error> {
        let (mut payload, mut faults) = (None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == "payload" && payload.is_none() {
                payload = Some(map.next_value()?);
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            if faults.len() < MAX_FAULTS {
                faults.push(match name.as_str() {
                    "payload" => fault(&name, "is given more than once"),
                    _ => fault(&name, "is not a field of this request"),
                });
            }
        }
        if payload.is_none() {
            faults.push(fault("payload", "is required"));
        }
        Ok(Publish { payload, faults })
    }
}

/// A body as text; it must be there.
fn text(body: &[u8]) -> Result<&str, Problem> {
    let text = str::from_utf8(body)
        .map_err(|_| Problem::new(Code::MalformedJson, "the body is not UTF-8"))?;
    if text.is_empty() {
        return Err(Problem::invalid(vec![Fault::at("", "a body is required")]));
    }
    Ok(text)
}

/// Why a body did not become what was asked for: a decoder that meets the wrong type stops there,
/// so whether the rest is JSON at all is seen by reading it once more.
fn refused(body: &[u8], error: &serde_json::Error) -> Problem {
    if serde_json::from_slice::<&RawValue>(body).is_ok() {
        let detail = match error.classify() {
            Category::Data => "the body must be a JSON object",
            Category::Io | Category::Syntax | Category::Eof => {
                "the body has a number out of range, or is nested too deeply"
            }
        };
        return Problem::invalid(vec![Fault::at("", detail)]);
    }
    let (line, column) = (error.line(), error.column());
    Problem::new(
        Code::MalformedJson,
        format!("the body is not well-formed JSON at line {line}, column {column}"),
    )
}

fn settle(faults: Vec<Fault>) -> Result<(), Problem> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Problem::invalid(faults))
    }
}

fn fault(name: &str, detail: impl fmt::Display) -> Fault {
    let name: String = name.chars().take(MAX_NAME_CHARS).collect();
    Fault::at(pointer(&name), format!("{name} {detail}"))
}

/// The JSON pointer (RFC 6901) of a field.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers(problem: &Problem) -> Vec<&str> {
        let faults = problem.faults().iter();
        faults
            .filter_map(|fault| fault.pointer.as_deref())
            .collect()
    }

    #[test]
    fn all_faults_of_a_body_are_told_at_once() {
        let body = br#"{"name": "", "id": 7, "workers": 101, "a/b~c": 1}"#;
        let mut fields = Fields::parse(body).expect("an object");
        assert_eq!(fields.text("name", 1..=255), None);
        assert_eq!(fields.id("id"), None);
        let workers = fields.number("workers", 1..=100);
        fields.require("workers", workers.as_ref());
        fields.require("other", None::<&u16>);
        fields.fault_of_all("not told");
        let problem = fields.finish().expect_err("it has faults");
        assert_eq!(
            pointers(&problem),
            ["/name", "/id", "/workers", "/other", "/a~1b~0c"]
        );
    }

    #[test]
    fn numbers_are_whole_and_null_is_absent() {
        for (json, expected) in [
            ("1", Some(1)),
            ("100", Some(100)),
            ("0", None),
            ("101", None),
            ("-1", None),
            ("4.0", None),
            ("4.5", None),
            ("\"4\"", None),
            ("true", None),
            ("70000", None),
            ("1e30", None),
        ] {
            let body = format!("{{\"workers\": {json}}}");
            let mut fields = Fields::parse(body.as_bytes()).expect("an object");
            assert_eq!(fields.number("workers", 1..=100), expected, "{json}");
            assert_eq!(fields.finish().is_ok(), expected.is_some(), "{json}");
        }
        let mut fields = Fields::parse(b"{\"workers\": null}").expect("an object");
        assert_eq!(fields.number("workers", 1..=100), None);
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn names_hold_no_control_character() {
        for (json, expected) in [
            (r#""a""#, true),
            (r#""é 😀""#, true),
            (r#""a\u0000b""#, false),
            (r#""a\nb""#, false),
        ] {
            let body = format!("{{\"name\": {json}}}");
            let mut fields = Fields::parse(body.as_bytes()).expect("an object");
            assert_eq!(fields.text("name", 1..=255).is_some(), expected, "{json}");
        }
        let long = |chars: usize| format!("{{\"name\": \"{}\"}}", "é".repeat(chars));
        let taken = |body: String| {
            let mut fields = Fields::parse(body.as_bytes()).expect("an object");
            fields.text("name", 1..=255).is_some()
        };
        assert!(taken(long(255)) && !taken(long(256)));
    }

    #[test]
    fn a_payload_stays_as_it_was_written() {
        for written in [
            "null",
            "1.50",
            "{\"b\": 1,\"a\":[ ]}",
            "\"\\u0041\"",
            "1e999",
        ] {
            let body = format!(" {{ \"payload\" : {written} }} ");
            let raw = payload(body.as_bytes()).expect("a payload");
            assert_eq!(raw.get(), written);
        }
        let deep = format!(
            "{{\"payload\": {}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert!(payload(deep.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_publish_is_refused_in_its_own_words() {
        for (body, code, expected) in [
            (&b""[..], Code::ValidationFailed, &[""][..]),
            (b"{}", Code::ValidationFailed, &["/payload"]),
            (b"[1]", Code::ValidationFailed, &[""]),
            (b"7", Code::ValidationFailed, &[""]),
            (b"[1", Code::MalformedJson, &[]),
            (b"{\"payload\": }", Code::MalformedJson, &[]),
            (b"{\"payload\": 1} 2", Code::MalformedJson, &[]),
            (b"{\"payload\": \"\xff\"}", Code::MalformedJson, &[]),
            (b"\xef\xbb\xbf{\"payload\": 1}", Code::MalformedJson, &[]),
            (
                b"{\"payload\": 1, \"id\": 2, \"x\": 3}",
                Code::ValidationFailed,
                &["/id", "/x"],
            ),
            (
                b"{\"Payload\": 1}",
                Code::ValidationFailed,
                &["/Payload", "/payload"],
            ),
            (
                b"{\"payload\": 1, \"payload\": 2}",
                Code::ValidationFailed,
                &["/payload"],
            ),
        ] {
            let problem = payload(body).expect_err("it is refused");
            let shown = String::from_utf8_lossy(body);
            assert_eq!(problem.code(), code, "{shown}");
            assert_eq!(pointers(&problem), expected, "{shown}");
        }
    }

    #[test]
    fn well_formed_json_that_no_field_takes_is_not_called_malformed() {
        let deep = format!("{{\"name\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        for body in ["{\"workers\": 1e999}", deep.as_str()] {
            let problem = Fields::parse(body.as_bytes()).expect_err("it is refused");
            assert_eq!(problem.code(), Code::ValidationFailed, "{body}");
        }
    }

    #[test]
    fn an_answer_does_not_grow_with_the_faults() {
        let many: Vec<String> = (0..1000)
            .map(|n| format!("\"{n}{}\": 1", "x".repeat(500)))
            .collect();
        let body = format!("{{{}}}", many.join(","));
        for problem in [
            payload(body.as_bytes()).map(drop).expect_err("faults"),
            Fields::parse(body.as_bytes())
                .expect("an object")
                .finish()
                .expect_err("faults"),
        ] {
            assert!(problem.faults().len() <= MAX_FAULTS + 1);
            assert!(
                problem
                    .faults()
                    .iter()
                    .all(|fault| fault.detail.len() < 200)
            );
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>) {
            let _verdict: Result<&RawValue, Problem> = payload(&body);
            let _verdict: Result<Fields, Problem> = Fields::parse(&body);
        }
    }
}
