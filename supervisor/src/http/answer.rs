//! Answers: JSON bodies and the few texts that are not.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use schemars::{
    JsonSchema,
    r#gen::SchemaGenerator,
    schema::{InstanceType, Schema, SchemaObject, StringValidation},
};
use serde::{Serialize, Serializer};

use super::problem::Problem;

/// A complete response.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The media type of every body that is no problem.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Answer, Problem> {
    let body = serde_json::to_vec(body).map_err(Problem::internal)?;
    Ok(bytes(status, JSON, body.into()))
}

/// An answer with a body of the given media type.
pub(crate) fn bytes(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::default();
    *answer.status_mut() = status;
    answer
}

/// Adds a header whose text is made of ids and paths.
pub(crate) fn with_header(
    mut answer: Answer,
    name: HeaderName,
    text: String,
) -> Result<Answer, Problem> {
    let value = HeaderValue::try_from(text).map_err(Problem::internal)?;
    answer.headers_mut().insert(name, value);
    Ok(answer)
}

/// A time as clients see it: RFC 3339, UTC, always with six digits of a second's fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

impl JsonSchema for Time {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        "Time".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let digits = StringValidation {
            pattern: Some(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$".to_owned()),
            ..StringValidation::default()
        };
        SchemaObject {
            string: Some(Box::new(digits)),
            ..date_time()
        }
        .into()
    }
}

/// A time as clients may write it: RFC 3339.
pub(crate) struct When;

impl JsonSchema for When {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        "When".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        date_time().into()
    }
}

fn date_time() -> SchemaObject {
    SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        format: Some("date-time".to_owned()),
        ..SchemaObject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_always_has_six_digits() {
        for (micros, text) in [
            (0, "\"1970-01-01T00:00:00.000000Z\""),
            (1_500_000, "\"1970-01-01T00:00:01.500000Z\""),
            (1, "\"1970-01-01T00:00:00.000001Z\""),
        ] {
            let time = Time(Timestamp::from_microsecond(micros).unwrap());
            assert_eq!(serde_json::to_string(&time).unwrap(), text);
        }
    }
}
