//! The OpenAPI document, made from the table that routes requests.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use hyper::StatusCode;
use okapi::openapi3::{
    Components, Info, License, MediaType, OpenApi, Operation, Parameter, ParameterValue, PathItem,
    RefOr, RequestBody, Response, SecurityScheme, SecuritySchemeData,
};
use schemars::{
    JsonSchema,
    r#gen::{SchemaGenerator, SchemaSettings},
    schema::Schema,
};
use uuid::Uuid;

use super::{
    answer, api,
    endpoint::{Access, Body, Route, Verb},
    paths,
    problem::{self, Code},
};

/// The name of the one security scheme.
const BEARER: &str = "bearer";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    // Maps with string keys always serialise.
    serde_json::to_vec_pretty(&document())
        .unwrap_or_default()
        .into()
});

/// The document as JSON text.
#[must_use]
pub fn text() -> Bytes {
    DOCUMENT.clone()
}

/// An operation under description. What the route's rule and body imply is added by itself.
pub(crate) struct Description<'a> {
    operation: Operation,
    schemas: &'a mut SchemaGenerator,
    problems: Vec<Code>,
    /// Of its body.
    media_types: &'static [&'static str],
}

impl Description<'_> {
    /// Its name for generated clients, and what it does in a sentence.
    pub(crate) fn summary(&mut self, id: &str, summary: &str) -> &mut Self {
        self.operation.operation_id = Some(id.to_owned());
        self.operation.summary = Some(summary.to_owned());
        self
    }

    pub(crate) fn details(&mut self, text: &str) -> &mut Self {
        self.operation.description = Some(text.to_owned());
        self
    }

    pub(crate) fn tag(&mut self, tag: &str) -> &mut Self {
        self.operation.tags.push(tag.to_owned());
        self
    }

    /// An optional parameter of the query.
    pub(crate) fn query<T: JsonSchema>(&mut self, name: &str, text: &str) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>();
        self.parameter(name, "query", text, schema);
        self
    }

    /// An optional header of the request.
    pub(crate) fn header<T: JsonSchema>(&mut self, name: &str, text: &str) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>();
        self.parameter(name, "header", text, schema);
        self
    }

    pub(crate) fn body<T: JsonSchema>(&mut self) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>();
        let media_types = self.media_types.iter();
        let body = RequestBody {
            content: media_types
                .flat_map(|media_type| content(media_type, schema.clone()))
                .collect(),
            required: true,
            ..RequestBody::default()
        };
        self.operation.request_body = Some(body.into());
        self
    }

    /// An answer with a JSON body.
    pub(crate) fn answers<T: JsonSchema>(&mut self, status: StatusCode, text: &str) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>();
        self.response(status, text, content(answer::JSON, schema))
    }

    /// An answer with a body of another type.
    pub(crate) fn answers_text(&mut self, media_type: &str, text: &str) -> &mut Self {
        let schema = self.schemas.subschema_for::<String>();
        self.response(StatusCode::OK, text, content(media_type, schema))
    }

    /// The problems of its own.
    pub(crate) fn fails(&mut self, codes: &[Code]) -> &mut Self {
        self.problems.extend(codes);
        self
    }

    fn parameter(&mut self, name: &str, location: &str, text: &str, schema: Schema) {
        let parameter = Parameter {
            name: name.to_owned(),
            location: location.to_owned(),
            description: Some(text.to_owned()),
            required: location == "path",
            deprecated: false,
            allow_empty_value: false,
            value: ParameterValue::Schema {
                style: None,
                explode: None,
                allow_reserved: false,
                schema: schema.into_object(),
                example: None,
                examples: None,
            },
            extensions: okapi::openapi3::Object::default(),
        };
        self.operation.parameters.push(parameter.into());
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
            ..Response::default()
        };
        let responses = &mut self.operation.responses.responses;
        responses.insert(status.as_str().to_owned(), response.into());
        self
    }

    /// Adds one response for each status that the problems have.
    fn add_problems(&mut self) {
        let mut by_status: BTreeMap<StatusCode, Vec<&str>> = BTreeMap::new();
        for code in &self.problems {
            let kind = code.kind();
            let codes = by_status.entry(kind.status).or_default();
            if !codes.contains(&kind.code) {
                codes.push(kind.code);
            }
        }
        for (status, codes) in by_status {
            let schema = self.schemas.subschema_for::<problem::Document<'_>>();
            let text = format!("`code`: {}", codes.join(", "));
            let problem = content(problem::MEDIA_TYPE, schema);
            // A status may mean a body of the route's own as well.
            let responses = &mut self.operation.responses.responses;
            if let Some(RefOr::Object(own)) = responses.get_mut(status.as_str()) {
                own.description = format!("{} {text}", own.description);
                own.content.extend(problem);
            } else {
                self.response(status, &text, problem);
            }
        }
    }
}

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let settings = SchemaSettings::openapi3();
    let mut schemas = SchemaGenerator::new(settings);
    let mut paths: okapi::Map<String, PathItem> = okapi::Map::default();
    for route in api::ROUTES {
        for (alias, path) in route.paths.iter().enumerate() {
            let operation = operation(route, path, alias, &mut schemas);
            let item = paths.entry(paths::documented(route, path)).or_default();
            *slot(item, route.verb) = Some(operation);
        }
    }
    let definitions = schemas.take_definitions().into_iter();
    let bearer = SecurityScheme {
        description: Some("A token signed with HS256; `jatis token` prints one.".to_owned()),
        data: SecuritySchemeData::Http {
            scheme: "bearer".to_owned(),
            bearer_format: Some("JWT".to_owned()),
        },
        extensions: okapi::openapi3::Object::default(),
    };
    OpenApi {
        info: info(),
        paths,
        components: Some(Components {
            schemas: definitions
                .map(|(name, schema)| (name, schema.into_object()))
                .collect(),
            security_schemes: okapi::map! { BEARER.to_owned() => bearer.into() },
            ..Components::default()
        }),
        ..OpenApi::new()
    }
}

fn info() -> Info {
    Info {
        title: "jatis".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: Some(
            "Multi-tenant messaging: each tenant's messages go through a queue of its own and are \
             stored by a process of its own. Every path under /api/v1 is found at the root as \
             well. Refusals and failures are problem documents (RFC 9457); their `code` is stable. \
             A path that is not listed here answers 404 `not_found`, another method 405 \
             `method_not_allowed` with `Allow`."
                .to_owned(),
        ),
        license: Some(License {
            name: "MIT".to_owned(),
            ..License::default()
        }),
        ..Info::default()
    }
}

fn operation(route: &Route, path: &str, alias: usize, schemas: &mut SchemaGenerator) -> Operation {
    let mut description = Description {
        operation: Operation::default(),
        schemas,
        problems: implied(route, path),
        media_types: route.body.media_types(),
    };
    for (pattern, text) in [
        ("{tenant}", "The tenant's id."),
        ("{message}", "The message's id."),
    ] {
        if path.contains(pattern) {
            let schema = description.schemas.subschema_for::<Uuid>();
            description.parameter("id", "path", text, schema);
        }
    }
    if path.contains("{asset}") {
        let schema = description.schemas.subschema_for::<String>();
        description.parameter("asset", "path", "The file's name.", schema);
    }
    (route.describe)(&mut description);
    description.add_problems();
    let mut operation = description.operation;
    if route.access != Access::Open {
        operation.security = Some(vec![okapi::map! { BEARER.to_owned() => Vec::new() }]);
    }
    if alias > 0 {
        operation.operation_id = operation
            .operation_id
            .map(|id| format!("{id}_alias{alias}"));
    }
    operation
}

/// The problems that a route's rule, path and body bring with them.
fn implied(route: &Route, path: &str) -> Vec<Code> {
    let mut codes = vec![
        Code::MalformedRequest,
        Code::InternalError,
        Code::RequestTimeout,
    ];
    if path.contains("{tenant}") || path.contains("{message}") {
        codes.push(Code::InvalidId);
    }
    match route.access {
        Access::Open => {}
        Access::Admin => codes.extend([Code::Unauthorized, Code::Forbidden]),
        Access::Tenant(scope) => {
            codes.extend([Code::Unauthorized, Code::TenantNotFound]);
            codes.extend(scope.map(|_| Code::Forbidden));
        }
    }
    match route.body {
        Body::None => {}
        Body::Json | Body::MergePatch => codes.extend([
            Code::MalformedJson,
            Code::BodyTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::ValidationFailed,
        ]),
    }
    codes
}

const fn slot(item: &mut PathItem, verb: Verb) -> &mut Option<Operation> {
    match verb {
        Verb::Get => &mut item.get,
        Verb::Post => &mut item.post,
        Verb::Put => &mut item.put,
        Verb::Patch => &mut item.patch,
        Verb::Delete => &mut item.delete,
    }
}

fn content(media_type: &str, schema: Schema) -> okapi::Map<String, MediaType> {
    let media = MediaType {
        schema: Some(schema.into_object()),
        ..MediaType::default()
    };
    okapi::map! { media_type.to_owned() => media }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
