//! The OpenAPI document, made from the table that routes requests.
//!
//! An endpoint tells in its `Description` what its rule, its path and its body do not imply. Bounds
//! come from the constants that the decoders use, examples from the types that answers are made of.

use std::{marker::PhantomData, sync::LazyLock};

use bytes::Bytes;
use okapi::openapi3::{
    Components, Header, Info, License, OpenApi, Operation, ParameterValue, PathItem, RefOr,
    Response, SecurityScheme, SecuritySchemeData, Server,
};
use schemars::{
    JsonSchema,
    r#gen::{SchemaGenerator, SchemaSettings},
    schema::{Schema, SchemaObject},
};
use serde_json::Value;

pub(crate) use self::description::{Description, Tag};
use super::{
    api,
    endpoint::{Access, Body, Route, Verb},
    headers::Told,
    paths,
    problem::Code,
};

mod description;

/// Of OpenAPI.
pub(crate) const VERSION: &str = "3.0.3";
/// The name of the one security scheme.
const BEARER: &str = "bearer";

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    // Maps with string keys always serialise.
    let mut text = serde_json::to_vec_pretty(&document()).unwrap_or_default();
    text.push(b'\n');
    text.into()
});

/// The document as JSON text, as it is served and as it stands in `docs/openapi.json`.
#[must_use]
pub fn text() -> Bytes {
    DOCUMENT.clone()
}

/// What operations share.
struct Shared {
    schemas: SchemaGenerator,
    /// The answers that are problems, by the name that operations refer to.
    responses: okapi::Map<String, RefOr<Response>>,
}

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let mut shared = Shared {
        schemas: SchemaGenerator::new(SchemaSettings::openapi3()),
        responses: okapi::Map::default(),
    };
    let mut paths: okapi::Map<String, PathItem> = okapi::Map::default();
    for route in api::ROUTES {
        for (alias, path) in route.paths.iter().enumerate() {
            let operation = operation(route, path, alias, &mut shared);
            let item = paths.entry(paths::documented(route, path)).or_default();
            *slot(item, route.verb) = Some(operation);
        }
    }
    OpenApi {
        openapi: VERSION.to_owned(),
        info: info(),
        // Of whichever host gave the document.
        servers: vec![Server {
            url: "/".to_owned(),
            description: Some("The server that this document comes from.".to_owned()),
            ..Server::default()
        }],
        paths,
        components: Some(components(shared)),
        tags: Tag::ALL.map(Tag::described).to_vec(),
        ..OpenApi::new()
    }
}

fn components(shared: Shared) -> Components {
    let Shared {
        mut schemas,
        responses,
    } = shared;
    let headers = Told::ALL.map(|told| (told.name().to_owned(), header(told, &mut schemas).into()));
    let bearer = SecurityScheme {
        description: Some(
            "A JSON Web Token signed with HS256. `jatis token` prints one: an administrator's, or \
             with `--tenant ID` one that opens this tenant alone."
                .to_owned(),
        ),
        data: SecuritySchemeData::Http {
            scheme: "bearer".to_owned(),
            bearer_format: Some("JWT".to_owned()),
        },
        extensions: okapi::openapi3::Object::default(),
    };
    let mut definitions = schemas.take_definitions();
    // What OpenAPI reads otherwise than JSON Schema: nothing may stand beside a `$ref`, say.
    for visitor in schemas.visitors_mut() {
        definitions
            .values_mut()
            .for_each(|schema| visitor.visit_schema(schema));
    }
    let definitions = definitions.into_iter();
    Components {
        schemas: definitions
            .map(|(name, schema)| (name, schema.into_object()))
            .collect(),
        responses,
        headers: headers.into_iter().collect(),
        security_schemes: okapi::map! { BEARER.to_owned() => bearer.into() },
        ..Components::default()
    }
}

fn info() -> Info {
    Info {
        title: "jatis".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: Some(
            "Multi-tenant messaging: each tenant's messages go through a queue of its own and are \
             stored by a process of its own.\n\n\
             Every path under `/api/v1` is found at the root as well, and a path that ends in a \
             slash is the one without it. Refusals and failures are problem documents (RFC 9457) \
             whose `code` is stable. A path that is not listed here answers 404 `not_found`, \
             another method 405 `method_not_allowed` with `Allow`; `GET` stands for `HEAD` too, and \
             `OPTIONS` answers 204 with `Allow`. Parameters that an operation does not know are \
             ignored, fields of a body that it does not know are refused. Times are UTC (RFC 3339) \
             with microseconds. Names such as `http.request_timeout` are keys of the \
             configuration."
                .to_owned(),
        ),
        license: Some(License {
            name: "MIT".to_owned(),
            ..License::default()
        }),
        ..Info::default()
    }
}

fn header(told: Told, schemas: &mut SchemaGenerator) -> Header {
    Header {
        description: Some(told.meaning().to_owned()),
        required: told.is_always_there(),
        deprecated: false,
        allow_empty_value: false,
        value: value(match told {
            Told::RetryAfter => u16::json_schema(schemas).into_object(),
            Told::Location
            | Told::Link
            | Told::NextCursor
            | Told::RequestId
            | Told::PreferenceApplied
            | Told::WwwAuthenticate
            | Told::AcceptPatch
            | Told::Allow
            | Told::ETag => String::json_schema(schemas).into_object(),
        }),
        extensions: okapi::openapi3::Object::default(),
    }
}

/// Describes a field that is always there and may be null.
pub(crate) struct Nullable<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Nullable<T> {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        T::schema_name()
    }

    /// OpenAPI's `nullable` needs the type beside it, and a list of values must have null too.
    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(schemas).into_object();
        schema.extensions.insert("nullable".to_owned(), true.into());
        if let Some(values) = &mut schema.enum_values {
            values.push(Value::Null);
        }
        schema.into()
    }
}

fn value(schema: SchemaObject) -> ParameterValue {
    ParameterValue::Schema {
        style: None,
        explode: None,
        allow_reserved: false,
        schema,
        example: None,
        examples: None,
    }
}

fn operation(route: &Route, path: &str, alias: usize, shared: &mut Shared) -> Operation {
    let mut description = Description::new(shared, route.body.media_types(), implied(route, path));
    description.path_parameters(path);
    (route.describe)(&mut description);
    let mut operation = description.finish();
    let bearer = okapi::map! { BEARER.to_owned() => Vec::new() };
    operation.security = match route.access {
        Access::Open => None,
        // Either will do, unless the configuration has it otherwise.
        Access::System => Some(vec![okapi::Map::default(), bearer]),
        Access::Admin | Access::Tenant(_) => Some(vec![bearer]),
    };
    if alias > 0 {
        let usual = route.paths.first().copied().unwrap_or_default();
        let usual = paths::documented(route, usual);
        operation.operation_id = operation
            .operation_id
            .map(|id| format!("{id}_alias{alias}"));
        operation.summary = operation
            .summary
            .map(|summary| format!("{summary} (alias of {usual})"));
    }
    operation
}

/// Why jatis may not serve tenants just now.
const STAGES: [Code; 3] = [Code::Starting, Code::NotInCharge, Code::ShuttingDown];

/// The problems that a route's rule, path and body bring with them.
fn implied(route: &Route, path: &str) -> Vec<Code> {
    let mut codes = vec![
        Code::MalformedRequest,
        Code::InternalError,
        Code::RequestTimeout,
    ];
    let names_tenant = path.contains("{tenant}");
    if names_tenant || path.contains("{message}") {
        codes.push(Code::InvalidId);
    }
    match route.access {
        Access::Open => {}
        Access::System => codes.extend([Code::Unauthorized, Code::Forbidden]),
        Access::Admin => {
            codes.extend([Code::Unauthorized, Code::Forbidden]);
            // It is said to who has another tenant's token.
            codes.extend(names_tenant.then_some(Code::TenantNotFound));
            codes.extend(STAGES);
        }
        Access::Tenant(scope) => {
            codes.extend([Code::Unauthorized, Code::TenantNotFound]);
            codes.extend(scope.map(|_| Code::Forbidden));
            if !names_tenant {
                // The query may name one.
                codes.extend([Code::InvalidId, Code::ValidationFailed]);
            }
            codes.extend(STAGES);
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

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
