//! One operation under description.

use std::{collections::BTreeMap, ops::RangeInclusive};

use hyper::StatusCode;
use okapi::openapi3::{
    Example as Shown, ExampleValue, MediaType, Object, Operation, Parameter, Ref, RefOr,
    RequestBody, Response,
};
use schemars::{
    JsonSchema,
    schema::{InstanceType, Metadata, NumberValidation, SchemaObject, StringValidation},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    super::{
        answer, example,
        headers::Told,
        problem::{self, Code},
    },
    Shared, value,
};

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Tenants,
    Messages,
    Statistics,
    System,
}

impl Tag {
    /// In the order of the document.
    pub(crate) const ALL: [Self; 4] = [
        Self::Tenants,
        Self::Messages,
        Self::Statistics,
        Self::System,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Messages => "messages",
            Self::Statistics => "statistics",
            Self::System => "system",
        }
    }

    pub(super) fn described(self) -> okapi::openapi3::Tag {
        let description = match self {
            Self::Tenants => {
                "Whose messages are kept apart: each tenant has a queue, a worker process and a \
                 partition of its own."
            }
            Self::Messages => "Publish, read and delete a tenant's messages.",
            Self::Statistics => "How many messages a tenant has.",
            Self::System => {
                "For operators and for readers of the API. None of it needs a token, but metrics and \
                 descriptions do with `http.protect_system_routes`."
            }
        };
        okapi::openapi3::Tag {
            name: self.name().to_owned(),
            description: Some(description.to_owned()),
            ..okapi::openapi3::Tag::default()
        }
    }
}

/// An operation under description. What the route's rule and body imply is added by itself.
pub(crate) struct Description<'a> {
    operation: Operation,
    shared: &'a mut Shared,
    problems: Vec<Code>,
    /// Of its body.
    media_types: &'static [&'static str],
}

impl<'a> Description<'a> {
    pub(super) fn new(
        shared: &'a mut Shared,
        media_types: &'static [&'static str],
        implied: Vec<Code>,
    ) -> Self {
        Self {
            operation: Operation::default(),
            shared,
            problems: implied,
            media_types,
        }
    }

    /// Its name for generated clients, and what it does in a few words.
    pub(crate) fn summary(&mut self, id: &str, summary: &str) -> &mut Self {
        self.operation.operation_id = Some(id.to_owned());
        self.operation.summary = Some(summary.to_owned());
        self
    }

    pub(crate) fn details(&mut self, text: &str) -> &mut Self {
        self.operation.description = Some(text.to_owned());
        self
    }

    pub(crate) fn tag(&mut self, tag: Tag) -> &mut Self {
        self.operation.tags.push(tag.name().to_owned());
        self
    }

    /// A parameter of the path that names one of these.
    pub(crate) fn one_of<'n>(
        &mut self,
        name: &str,
        names: impl Iterator<Item = &'n str>,
        text: &str,
    ) -> &mut Self {
        let schema = SchemaObject {
            enum_values: Some(names.map(Value::from).collect()),
            ..self.schema::<String>()
        };
        self.parameter(name, "path", text, schema, None)
    }

    /// An optional parameter of the query.
    pub(crate) fn query<T: JsonSchema>(&mut self, name: &str, text: &str) -> &mut Self {
        let schema = self.schema::<T>();
        self.parameter(name, "query", text, schema, None)
    }

    /// An optional text in the query, of so many characters at most.
    pub(crate) fn query_text(&mut self, name: &str, max_chars: usize, text: &str) -> &mut Self {
        let length = StringValidation {
            max_length: u32::try_from(max_chars).ok(),
            ..StringValidation::default()
        };
        let schema = SchemaObject {
            string: Some(Box::new(length)),
            ..self.schema::<String>()
        };
        self.parameter(name, "query", text, schema, None)
    }

    /// An optional whole number in the query.
    pub(crate) fn query_number(
        &mut self,
        name: &str,
        bounds: &RangeInclusive<u16>,
        default: u16,
        text: &str,
    ) -> &mut Self {
        let schema = SchemaObject {
            metadata: default_value(default.into()),
            instance_type: Some(InstanceType::Integer.into()),
            number: Some(Box::new(NumberValidation {
                minimum: Some((*bounds.start()).into()),
                maximum: Some((*bounds.end()).into()),
                ..NumberValidation::default()
            })),
            ..SchemaObject::default()
        };
        self.parameter(name, "query", text, schema, None)
    }

    /// An optional `true` or `false` in the query; false if absent.
    pub(crate) fn query_flag(&mut self, name: &str, text: &str) -> &mut Self {
        let schema = SchemaObject {
            metadata: default_value(false.into()),
            ..self.schema::<bool>()
        };
        self.parameter(name, "query", text, schema, None)
    }

    /// An optional header of the request.
    pub(crate) fn header(&mut self, name: &str, text: &str, example: &str) -> &mut Self {
        let schema = self.schema::<String>();
        self.parameter(name, "header", text, schema, Some(example.into()))
    }

    pub(crate) fn body<T>(&mut self, text: &str, example: &T) -> &mut Self
    where
        T: JsonSchema + Serialize,
    {
        let media = media(self.schema::<T>(), Some(example));
        let media_types = self.media_types.iter();
        let body = RequestBody {
            description: Some(text.to_owned()),
            content: media_types
                .map(|media_type| ((*media_type).to_owned(), media.clone()))
                .collect(),
            required: true,
            ..RequestBody::default()
        };
        self.operation.request_body = Some(body.into());
        self
    }

    /// An answer with a JSON body.
    pub(crate) fn answers<T>(&mut self, status: StatusCode, text: &str, example: &T) -> &mut Self
    where
        T: JsonSchema + Serialize,
    {
        let media = media(self.schema::<T>(), Some(example));
        let content = okapi::map! { answer::JSON.to_owned() => media };
        self.response(status, text, content)
    }

    /// An answer with a body of another type, one of these.
    pub(crate) fn answers_text(&mut self, media_types: &[&str], text: &str) -> &mut Self {
        let media = media(self.schema::<String>(), None::<&()>);
        let content = media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), media.clone()))
            .collect();
        self.response(StatusCode::OK, text, content)
    }

    /// An answer without a body.
    pub(crate) fn answers_nothing(&mut self, status: StatusCode, text: &str) -> &mut Self {
        self.response(status, text, okapi::Map::default())
    }

    /// Headers that the answer of this status has, or may have. Its answer is described already.
    pub(crate) fn tells(&mut self, status: StatusCode, headers: &[Told]) -> &mut Self {
        let responses = &mut self.operation.responses.responses;
        if let Some(RefOr::Object(response)) = responses.get_mut(status.as_str()) {
            response
                .headers
                .extend(headers.iter().copied().map(reference));
        }
        self
    }

    /// The problems of its own.
    pub(crate) fn fails(&mut self, codes: &[Code]) -> &mut Self {
        self.problems.extend(codes);
        self
    }

    /// The ids that a pattern names. All are called `id`: see `paths::documented`.
    pub(super) fn path_parameters(&mut self, path: &str) {
        for (pattern, text, example) in [
            (
                "{tenant}",
                "The tenant's id.",
                example::tenant().to_string(),
            ),
            (
                "{message}",
                "The message's id.",
                example::message().to_string(),
            ),
        ] {
            if path.contains(pattern) {
                let schema = self.schema::<Uuid>();
                self.parameter("id", "path", text, schema, Some(example.into()));
            }
        }
    }

    /// The operation, with one answer for each status that its problems have.
    pub(super) fn finish(mut self) -> Operation {
        let mut by_status: BTreeMap<StatusCode, Vec<Code>> = BTreeMap::new();
        for code in std::mem::take(&mut self.problems) {
            let codes = by_status.entry(code.kind().status).or_default();
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        for (status, codes) in by_status {
            self.add_problems(status, &codes);
        }
        self.operation
    }

    fn add_problems(&mut self, status: StatusCode, codes: &[Code]) {
        let words: Vec<&str> = codes.iter().map(|code| code.kind().code).collect();
        let problems = self.problems(codes);
        // A status may mean a body of the operation's own as well.
        let responses = &mut self.operation.responses.responses;
        if let Some(RefOr::Object(own)) = responses.get_mut(status.as_str()) {
            own.description = format!("{} {}", own.description, problems.description);
            own.content.extend(problems.content);
            own.headers.extend(problems.headers);
            return;
        }
        let name = format!("{}.{}", status.as_str(), words.join("."));
        let reference = format!("#/components/responses/{name}");
        responses.insert(status.as_str().to_owned(), RefOr::Ref(Ref { reference }));
        self.shared.responses.insert(name, problems.into());
    }

    /// Problems as an answer, each with an example.
    fn problems(&mut self, codes: &[Code]) -> Response {
        let schema = self.schema::<problem::Document<'_>>();
        let shown = codes.iter().map(|code| {
            let kind = code.kind();
            let shown = Shown {
                summary: Some(kind.meaning.to_owned()),
                description: None,
                value: ExampleValue::Value(json(&problem::Document::example(*code))),
                extensions: Object::default(),
            };
            (kind.code.to_owned(), shown)
        });
        let media = MediaType {
            examples: Some(shown.collect()),
            ..media(schema, None::<&()>)
        };
        let words: Vec<String> = codes
            .iter()
            .map(|code| format!("`{}`", code.kind().code))
            .collect();
        let told = codes.iter().filter_map(|code| code.told());
        Response {
            description: format!("A problem: {}.", words.join(", ")),
            content: okapi::map! { problem::MEDIA_TYPE.to_owned() => media },
            headers: told.chain([Told::RequestId]).map(reference).collect(),
            ..Response::default()
        }
    }

    fn schema<T: JsonSchema>(&mut self) -> SchemaObject {
        self.shared.schemas.subschema_for::<T>().into_object()
    }

    fn parameter(
        &mut self,
        name: &str,
        location: &str,
        text: &str,
        schema: SchemaObject,
        example: Option<Value>,
    ) -> &mut Self {
        let mut value = value(schema);
        if let okapi::openapi3::ParameterValue::Schema { example: shown, .. } = &mut value {
            *shown = example;
        }
        let parameter = Parameter {
            name: name.to_owned(),
            location: location.to_owned(),
            description: Some(text.to_owned()),
            required: location == "path",
            deprecated: false,
            allow_empty_value: false,
            value,
            extensions: Object::default(),
        };
        self.operation.parameters.push(parameter.into());
        self
    }

    fn response(
        &mut self,
        status: StatusCode,
        text: &str,
        content: okapi::Map<String, MediaType>,
    ) -> &mut Self {
        let response = Response {
            description: text.to_owned(),
            content,
            headers: [reference(Told::RequestId)].into_iter().collect(),
            ..Response::default()
        };
        let responses = &mut self.operation.responses.responses;
        responses.insert(status.as_str().to_owned(), response.into());
        self
    }
}

fn default_value(default: Value) -> Option<Box<Metadata>> {
    Some(Box::new(Metadata {
        default: Some(default),
        ..Metadata::default()
    }))
}

fn media(schema: SchemaObject, example: Option<&impl Serialize>) -> MediaType {
    MediaType {
        schema: Some(schema),
        example: example.map(json),
        ..MediaType::default()
    }
}

/// Examples are made of strings, numbers and maps with string keys, which always serialise.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A header, by its name and where it is described.
fn reference<T>(told: Told) -> (String, RefOr<T>) {
    let name = told.name().to_owned();
    let reference = format!("#/components/headers/{name}");
    (name, RefOr::Ref(Ref { reference }))
}
