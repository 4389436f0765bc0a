//! The pages that explain the API and try it out: Swagger UI, built into the program.
//!
//! They load nothing from elsewhere, and the browser is told to refuse it if they tried.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::LazyLock,
};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    },
};

use super::{
    App,
    answer::{self, Answer},
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    headers::Told,
    openapi::{Description, Tag},
    problem::{Code, Problem},
};

/// Nothing from other hosts, no script or style in the page itself, and no other page around it.
/// Swagger UI brings its pictures along in its style.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A file below `/swagger/`.
struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

/// Of Swagger UI, as the build script has unpacked it.
macro_rules! vendored {
    ($name:literal, $media_type:expr) => {
        File {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/", $name)),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PNG: &str = "image/png";
const TEXT: &str = "text/plain; charset=utf-8";

const PAGE: &str = "index.html";

const FILES: [File; 8] = [
    File {
        name: PAGE,
        media_type: HTML,
        bytes: include_bytes!("swagger/index.html"),
    },
    File {
        name: "start.js",
        media_type: SCRIPT,
        bytes: include_bytes!("swagger/start.js"),
    },
    vendored!("swagger-ui-bundle.js", SCRIPT),
    vendored!("swagger-ui.css", CSS),
    vendored!("index.css", CSS),
    vendored!("favicon-32x32.png", PNG),
    vendored!("LICENSE", TEXT),
    vendored!("NOTICE", TEXT),
];

/// Each file's strong validator (RFC 9110 §8.8.3): it changes with the bytes.
static ETAGS: LazyLock<[HeaderValue; FILES.len()]> = LazyLock::new(|| {
    FILES.map(|file| {
        let mut hasher = DefaultHasher::new();
        hasher.write(file.bytes);
        let etag = format!("\"{:016x}\"", hasher.finish());
        // Quotes and digits are a header's value.
        HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\""))
    })
});

fn describe_file(operation: &mut Description<'_>, media_types: &[&str]) {
    operation
        .header(
            "If-None-Match",
            "`ETag`s of versions that the client has (RFC 9110).",
            "\"6c2aa17989ba7df9\"",
        )
        .answers_text(media_types, "The file.")
        .answers_nothing(StatusCode::NOT_MODIFIED, "The client has it.")
        .tells(StatusCode::OK, &[Told::ETag])
        .tells(StatusCode::NOT_MODIFIED, &[Told::ETag]);
}

/// A file, or that the client has it.
fn serve(name: &str, asked: &HeaderMap) -> Result<Answer, Problem> {
    let found = FILES
        .iter()
        .zip(&*ETAGS)
        .find(|(file, _)| file.name == name);
    let (file, etag) =
        found.ok_or_else(|| Problem::new(Code::NotFound, "Swagger UI has no such file"))?;
    let mut answer = if is_known(etag, asked) {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        let bytes = Bytes::from_static(file.bytes);
        answer::bytes(StatusCode::OK, file.media_type, bytes)
    };
    let headers = answer.headers_mut();
    headers.insert(ETAG, etag.clone());
    // It may be kept, but is asked for again each time: another version shows at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(answer)
}

/// Whether `If-None-Match` (RFC 9110 §13.1.2) names it.
fn is_known(etag: &HeaderValue, asked: &HeaderMap) -> bool {
    let values = asked.get_all(IF_NONE_MATCH).iter();
    let mut tags = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag));
    tags.any(|tag| tag == b"*" || tag == etag.as_bytes())
}

/// `GET /swagger/index.html`.
pub(crate) struct Page;

impl Endpoint for Page {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/swagger/index.html", "/swagger"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::System;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary(
                "swagger_page",
                "The API to read and to try out in a browser",
            )
            .details("Loads nothing from other hosts.")
            .tag(Tag::System);
        describe_file(operation, &[HTML]);
    }

    async fn handle(_app: &App, call: Call) -> Result<Answer, Problem> {
        serve(PAGE, &call.headers)
    }
}

/// `GET /swagger/{asset}`: what the page is made of.
pub(crate) struct Asset;

impl Endpoint for Asset {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/swagger/{asset}"];
    const MOUNT: Mount = Mount::Root;
    const ACCESS: Access = Access::System;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("swagger_asset", "A file of the page")
            .details("The page's scripts, styles and licenses.")
            .tag(Tag::System)
            .one_of(
                "asset",
                FILES.iter().map(|file| file.name),
                "The file's name.",
            )
            .fails(&[Code::NotFound]);
        describe_file(operation, &[HTML, SCRIPT, CSS, PNG, TEXT]);
    }

    async fn handle(_app: &App, call: Call) -> Result<Answer, Problem> {
        serve(call.asset.as_deref().unwrap_or_default(), &call.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a header's value");
        HeaderMap::from_iter([(IF_NONE_MATCH, value)])
    }

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again() {
        let first = serve("swagger-ui.css", &HeaderMap::new()).expect("it is there");
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[ETAG].to_str().expect("it is ASCII");
        for (value, status) in [
            (etag.to_owned(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"x\" , {etag}"), 304),
            ("*".to_owned(), 304),
            ("\"x\"".to_owned(), 200),
            (etag.trim_matches('"').to_owned(), 200),
        ] {
            let again = serve("swagger-ui.css", &known(&value)).expect("it is there");
            assert_eq!(again.status().as_u16(), status, "{value}");
            assert_eq!(again.headers()[ETAG], first.headers()[ETAG]);
        }
        let other = serve(PAGE, &known(etag)).expect("it is there");
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for name in ["", "swagger-ui.js", "../index.html"] {
            let problem = serve(name, &HeaderMap::new()).expect_err("it is not there");
            assert_eq!(problem.code(), Code::NotFound);
        }
    }
}
