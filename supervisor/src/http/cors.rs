//! Which web pages of other origins may use the API: the CORS protocol of the Fetch standard. Pure.
//!
//! A browser sends the page's `Origin`; an answer that does not name it again stays hidden from the
//! page. Before a request that is more than simple, it asks with `OPTIONS`, and without a token. All
//! of this protects the browser's user and no one else: it is no substitute for authentication.

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        ALLOW, HeaderValue, ORIGIN, VARY,
    },
};

use super::{answer::Answer, headers::Told};

/// Headers that a page may send; those that need no permission are left out.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Content-Type, Prefer, X-Request-Id");
/// How long a browser need not ask again, seconds: as long as any of them remembers it.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may use the API.
pub(crate) struct Cors {
    origins: Vec<HeaderValue>,
    /// Headers of answers that a page may read, besides those that it may read anyway.
    exposed: HeaderValue,
}

/// What a browser asks on behalf of a page, if it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing; or the page's origin is not one of ours.
    Nothing,
    /// To let this origin read the answer.
    Read(HeaderValue),
    /// To tell this origin what it may send.
    Preflight(HeaderValue),
}

impl Cors {
    /// For `http.cors_origins`, whose rules make each of them a header's value.
    pub(crate) fn new(origins: &[String]) -> Self {
        let values = origins.iter().map(|origin| HeaderValue::from_str(origin));
        let exposed = Told::ALL.map(Told::name).join(", ");
        Self {
            origins: values.filter_map(Result::ok).collect(),
            // Names of headers are visible ASCII.
            exposed: HeaderValue::try_from(exposed).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// What a request asks. Origins are compared byte by byte.
    pub(crate) fn asked(&self, method: &Method, headers: &HeaderMap) -> Asked {
        let origin = headers.get(ORIGIN);
        let listed = origin.and_then(|origin| self.origins.iter().find(|known| *known == origin));
        let Some(origin) = listed.cloned() else {
            return Asked::Nothing;
        };
        if method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return Asked::Preflight(origin);
        }
        Asked::Read(origin)
    }

    /// Adds to any answer what was asked for. To a preflight that is the answer's own `Allow`.
    pub(crate) fn answer(&self, asked: Asked, answer: &mut Answer) {
        if self.origins.is_empty() {
            return;
        }
        let status = answer.status();
        let headers = answer.headers_mut();
        // Of requests without an origin too: a cache must not give their answer to one that has.
        headers.append(VARY, HeaderValue::from_static("Origin"));
        match asked {
            Asked::Nothing => {}
            Asked::Read(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
            }
            Asked::Preflight(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                let methods = headers.get(ALLOW).cloned();
                if let Some(methods) = methods.filter(|_| status == StatusCode::NO_CONTENT) {
                    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
                    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
                    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://app.example.com";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = name.parse().expect("a header's name");
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn only_a_listed_origin_is_heard_and_only_byte_by_byte() {
        let cors = Cors::new(&[PAGE.to_owned(), "http://localhost:3000".to_owned()]);
        let origin = HeaderValue::from_static(PAGE);
        let method = ("access-control-request-method", "PUT");
        for (verb, sent, expected) in [
            (Method::GET, &[][..], Asked::Nothing),
            (
                Method::GET,
                &[("origin", PAGE)],
                Asked::Read(origin.clone()),
            ),
            (
                Method::OPTIONS,
                &[("origin", PAGE)],
                Asked::Read(origin.clone()),
            ),
            (
                Method::OPTIONS,
                &[("origin", PAGE), method],
                Asked::Preflight(origin),
            ),
            (Method::OPTIONS, &[method], Asked::Nothing),
            (Method::GET, &[("origin", "null")], Asked::Nothing),
            (
                Method::GET,
                &[("origin", "https://APP.example.com")],
                Asked::Nothing,
            ),
            (
                Method::GET,
                &[("origin", "https://app.example.com.evil.example")],
                Asked::Nothing,
            ),
            (
                Method::GET,
                &[("origin", "http://app.example.com")],
                Asked::Nothing,
            ),
            (
                Method::GET,
                &[("origin", "http://localhost")],
                Asked::Nothing,
            ),
        ] {
            assert_eq!(
                cors.asked(&verb, &headers(sent)),
                expected,
                "{verb} {sent:?}"
            );
        }
    }

    #[test]
    fn without_listed_origins_answers_say_nothing_of_them() {
        let cors = Cors::new(&[]);
        let asked = cors.asked(&Method::GET, &headers(&[("origin", PAGE)]));
        let mut answer = Answer::default();
        cors.answer(asked, &mut answer);
        assert!(answer.headers().is_empty());
    }
}
