//! From a path to a route, before anything else about a request is looked at. Pure.

use std::borrow::Cow;

use hyper::Method;

use super::{
    endpoint::{Mount, Route},
    problem::Problem,
    query::decode,
};

/// Where the API lives.
pub(crate) const API_ROOT: &str = "/api/v1";

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Tenant,
    Message,
    Asset,
}

/// A path under which a route is found.
pub(crate) struct Place {
    segments: Vec<Segment>,
    /// The route's documented pattern: the value of the metrics' label `endpoint`.
    pub(crate) label: String,
    /// The pattern in the router's spelling.
    pub(crate) router_path: String,
    pub(crate) route: &'static Route,
}

/// Every path of the API.
pub(crate) struct Places(Vec<Place>);

/// What a path names, as written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) tenant: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) asset: Option<String>,
}

/// What was found at a path.
pub(crate) enum Found<'a> {
    Place(&'a Place, Named),
    /// The path is there, but not for this method; these are allowed.
    OtherMethod {
        label: &'a str,
        allow: String,
    },
    Nothing,
}

impl Places {
    /// The paths of these routes.
    pub(crate) fn of(routes: &'static [Route]) -> Self {
        let places = routes.iter().flat_map(|route| {
            let prefixes: &[&'static str] = match route.mount {
                Mount::Api => &[API_ROOT, ""],
                Mount::Root => &[""],
            };
            prefixes.iter().flat_map(move |prefix| {
                route
                    .paths
                    .iter()
                    .map(move |path| place(route, prefix, path))
            })
        });
        Self(places.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// Finds the route of a path and method.
    ///
    /// # Errors
    /// `malformed_request` when the path is not percent-encoded UTF-8.
    pub(crate) fn find(&self, path: &str, method: &Method) -> Result<Found<'_>, Problem> {
        let asked = split(path).map(decode).collect::<Result<Vec<_>, _>>()?;
        let mut allowed: Vec<&str> = Vec::new();
        let mut label = None;
        for place in &self.0 {
            let Some(named) = place.matches(&asked) else {
                continue;
            };
            let methods = place.route.verb.methods();
            if methods.contains(method) {
                return Ok(Found::Place(place, named));
            }
            label = label.or(Some(place.label.as_str()));
            for method in methods {
                if !allowed.contains(&method.as_str()) {
                    allowed.push(method.as_str());
                }
            }
        }
        Ok(label.map_or(Found::Nothing, |label| {
            allowed.push(Method::OPTIONS.as_str());
            Found::OtherMethod {
                label,
                allow: allowed.join(", "),
            }
        }))
    }
}

impl Place {
    fn matches(&self, asked: &[Cow<'_, str>]) -> Option<Named> {
        if asked.len() != self.segments.len() {
            return None;
        }
        let mut named = Named::default();
        for (segment, text) in self.segments.iter().zip(asked) {
            match segment {
                Segment::Literal(literal) if *literal != text.as_ref() => return None,
                Segment::Literal(_) => {}
                // The router's parameters have at least one character too.
                Segment::Tenant | Segment::Message | Segment::Asset if text.is_empty() => {
                    return None;
                }
                Segment::Tenant => named.tenant = Some(text.to_string()),
                Segment::Message => named.message = Some(text.to_string()),
                Segment::Asset => named.asset = Some(text.to_string()),
            }
        }
        Some(named)
    }
}

/// The form of a pattern that clients read. All ids are `{id}` there: OpenAPI takes two patterns
/// that differ only in a parameter's name for the same one.
pub(crate) fn documented(route: &Route, path: &str) -> String {
    let prefix = match route.mount {
        Mount::Api => API_ROOT,
        Mount::Root => "",
    };
    let path = path
        .replace("{tenant}", "{id}")
        .replace("{message}", "{id}");
    format!("{prefix}{path}")
}

fn place(route: &'static Route, prefix: &'static str, path: &'static str) -> Place {
    let segments = split(prefix).chain(split(path)).map(|text| match text {
        "{tenant}" => Segment::Tenant,
        "{message}" => Segment::Message,
        "{asset}" => Segment::Asset,
        text => Segment::Literal(text),
    });
    Place {
        segments: segments.collect(),
        label: documented(route, path),
        router_path: format!("{prefix}{path}").replace('{', ":").replace('}', ""),
        route,
    }
}

/// The pieces of a path; one slash at its end does not count.
fn split(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .take(if path.is_empty() { 0 } else { usize::MAX })
}

#[cfg(test)]
mod tests {
    use super::{super::api::ROUTES, *};

    const ID: &str = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";

    fn found(path: &str, method: &Method) -> String {
        let places = Places::of(ROUTES);
        match places.find(path, method) {
            Ok(Found::Place(place, named)) => format!(
                "{}{}{}",
                place.label,
                named
                    .tenant
                    .map(|id| format!(" tenant {id}"))
                    .unwrap_or_default(),
                named
                    .message
                    .map(|id| format!(" message {id}"))
                    .unwrap_or_default(),
            ),
            Ok(Found::OtherMethod { label, allow }) => format!("{label}: {allow}"),
            Ok(Found::Nothing) => "nothing".to_owned(),
            Err(_) => "malformed".to_owned(),
        }
    }

    #[test]
    fn a_path_leads_to_its_route() {
        for (method, path, expected) in [
            (Method::GET, "/", "/".to_owned()),
            (Method::HEAD, "/metrics", "/metrics".to_owned()),
            (Method::GET, "/livez", "/livez".to_owned()),
            (Method::GET, "/api/v1/tenants", "/api/v1/tenants".to_owned()),
            (Method::POST, "/tenants/", "/api/v1/tenants".to_owned()),
            (
                Method::GET,
                &format!("/tenants/{ID}"),
                format!("/api/v1/tenants/{{id}} tenant {ID}"),
            ),
            (
                Method::GET,
                "/tenants/a%2Fb",
                "/api/v1/tenants/{id} tenant a/b".to_owned(),
            ),
            (Method::GET, "/%74enants", "/api/v1/tenants".to_owned()),
            (
                Method::POST,
                &format!("/messages/{ID}"),
                format!("/api/v1/messages/{{id}} tenant {ID}"),
            ),
            (
                Method::GET,
                &format!("/messages/{ID}"),
                format!("/api/v1/messages/{{id}} message {ID}"),
            ),
            (Method::GET, "/swagger/", "/swagger".to_owned()),
            (
                Method::GET,
                "/swagger/swagger-ui.css",
                "/swagger/{asset}".to_owned(),
            ),
            (
                Method::PUT,
                "/swagger/index.html",
                "/swagger/index.html: GET, HEAD, OPTIONS".to_owned(),
            ),
            (Method::GET, "/swagger/a/b", "nothing".to_owned()),
            (Method::GET, "/api/v1/health", "nothing".to_owned()),
            (Method::GET, "/tenants//", "nothing".to_owned()),
            (Method::GET, "//tenants", "nothing".to_owned()),
            (Method::GET, "/Tenants", "nothing".to_owned()),
            (Method::GET, "/tenants/%zz", "malformed".to_owned()),
            (Method::GET, "/%ff", "malformed".to_owned()),
            (
                Method::PATCH,
                "/metrics",
                "/metrics: GET, HEAD, OPTIONS".to_owned(),
            ),
            (
                Method::DELETE,
                "/messages/x",
                "/api/v1/messages/{id} message x".to_owned(),
            ),
            (
                Method::PUT,
                "/messages/x",
                "/api/v1/messages/{id}: POST, GET, HEAD, DELETE, OPTIONS".to_owned(),
            ),
            (
                Method::OPTIONS,
                "/tenants",
                "/api/v1/tenants: POST, GET, HEAD, OPTIONS".to_owned(),
            ),
        ] {
            assert_eq!(found(path, &method), expected, "{method} {path}");
        }
    }
}
