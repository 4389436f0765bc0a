//! The list of tenants, and its cursor.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::{
    StatusCode,
    header::{HeaderName, LINK},
};
use jatis_shared::ids::TenantNumber;

use super::{
    App,
    answer::{self, Answer},
    endpoint::{Access, Body, Call, Endpoint, Mount, Verb},
    headers::Told,
    openapi::{Description, Tag},
    problem::{Code, Problem},
    tenant_view::TenantView,
    tenants::MAX_NAME_CHARS,
};
use crate::tenancy::TenantQuery;

const LIMITS: RangeInclusive<u16> = 1..=1000;
const DEFAULT_LIMIT: u16 = 100;
const X_NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
/// The first byte of a cursor of this list: its version, and that it is not one of messages.
const CURSOR_VERSION: u8 = 0x81;

/// `GET /tenants`.
pub(crate) struct List;

impl Endpoint for List {
    const VERB: Verb = Verb::Get;
    const PATHS: &'static [&'static str] = &["/tenants"];
    const MOUNT: Mount = Mount::Api;
    const ACCESS: Access = Access::Admin;
    const BODY: Body = Body::None;

    fn describe(operation: &mut Description<'_>) {
        operation
            .summary("list_tenants", "List tenants in pages, newest first")
            .details(
                "The next page is told in `Link` and by its cursor in `X-Next-Cursor`; on the last \
                 page both are absent. A tenant that is created or deleted meanwhile makes no other \
                 tenant appear twice or not at all.",
            )
            .tag(Tag::Tenants)
            .query_number("limit", &LIMITS, DEFAULT_LIMIT, "Most tenants of the page.")
            .query::<String>(
                "cursor",
                "Where the page begins: what `X-Next-Cursor` of an earlier page told.",
            )
            .query_text(
                "name",
                MAX_NAME_CHARS,
                "Only tenants whose name contains this text, in whatever case.",
            )
            .query_flag("runtime", "Whether to tell what runs for each.")
            .answers(StatusCode::OK, "A page.", &vec![TenantView::example()])
            .tells(StatusCode::OK, &[Told::Link, Told::NextCursor])
            .fails(&[
                Code::InvalidCursor,
                Code::ValidationFailed,
                Code::DatabaseUnavailable,
            ]);
    }

    async fn handle(app: &App, call: Call) -> Result<Answer, Problem> {
        let mut query = call.query.clone();
        let limit = query.number("limit", &LIMITS, DEFAULT_LIMIT);
        let name = query.text("name");
        if name.as_deref().is_some_and(is_no_part_of_a_name) {
            query.fault("name", "must be part of a name");
        }
        let runtime = query.flag("runtime");
        let cursor = query.text("cursor");
        query.finish()?;
        let after = cursor.map(|text| decode_cursor(&text)).transpose()?;
        let page = app
            .tenancy
            .list(TenantQuery {
                limit,
                after,
                name,
                runtime,
            })
            .await?;
        let tenants: Vec<TenantView> = page.tenants.into_iter().map(TenantView::from).collect();
        let answer = answer::json(StatusCode::OK, &tenants)?;
        let Some(next) = page.next.map(encode_cursor) else {
            return Ok(answer);
        };
        let answer = answer::with_header(answer, LINK, link(&call, &next))?;
        answer::with_header(answer, X_NEXT_CURSOR, next)
    }
}

/// No name is so long, or has such characters.
fn is_no_part_of_a_name(text: &str) -> bool {
    text.chars().count() > MAX_NAME_CHARS || text.contains(char::is_control)
}

/// The link to the next page: this request with another cursor.
fn link(call: &Call, cursor: &str) -> String {
    let kept = call.raw_query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && name != "cursor"
    });
    let cursor = format!("cursor={cursor}");
    let query: Vec<&str> = kept.chain([cursor.as_str()]).collect();
    format!("<{}?{}>; rel=\"next\"", call.path, query.join("&"))
}

fn encode_cursor(last: TenantNumber) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&u32::from(last).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor(text: &str) -> Result<TenantNumber, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let number = bytes
        .strip_prefix(&[CURSOR_VERSION])
        .and_then(|number| number.try_into().ok())
        .map(u32::from_be_bytes);
    number
        .and_then(|number| TenantNumber::try_from(number).ok())
        .ok_or_else(|| Problem::new(Code::InvalidCursor, "the cursor is not one of this list"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_of_tenants_comes_back_and_nothing_else_does(number in 1_u32..1 << 24, text in "[A-Za-z0-9_-]{0,40}") {
            let number = TenantNumber::try_from(number).expect("a number in range");
            prop_assert_eq!(decode_cursor(&encode_cursor(number)).ok(), Some(number));
            if let Ok(number) = decode_cursor(&text) {
                prop_assert_eq!(encode_cursor(number), text);
            }
        }
    }
}
