use http_body_util::BodyExt;
use hyper::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn answered(problem: Problem) -> (StatusCode, HeaderMap, Value) {
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", HeaderValue::from_static("r-1"));
    let id = RequestId::of(&headers, Timestamp::UNIX_EPOCH);
    let (parts, body) = problem.into_answer(&id).into_parts();
    let body = futures_util::FutureExt::now_or_never(body.collect())
        .expect("the body is there")
        .expect("it cannot fail")
        .to_bytes();
    let json = serde_json::from_slice(&body).expect("a problem is JSON");
    (parts.status, parts.headers, json)
}

#[test]
fn codes_are_distinct_words_sorted_by_status() {
    for (at, kind) in PROBLEMS.iter().enumerate() {
        assert!(
            kind.code
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        );
        assert!(
            !PROBLEMS[..at].iter().any(|other| other.code == kind.code),
            "{}",
            kind.code
        );
        assert!(
            at == 0 || PROBLEMS[at - 1].status <= kind.status,
            "{}",
            kind.code
        );
        assert_eq!(
            kind.retry_after.is_some(),
            kind.status == StatusCode::SERVICE_UNAVAILABLE || kind.code == "message_pending"
        );
    }
}

#[test]
fn a_problem_names_its_request_and_speaks_to_older_clients_too() {
    let problem = Problem::invalid(vec![Fault::at("/workers", "must be 1 to 100")]);
    let (status, headers, json) = answered(problem);
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(headers[CONTENT_TYPE], MEDIA_TYPE);
    assert_eq!(
        json,
        json!({
            "type": "/problems/validation_failed", "title": "Validation failed", "status": 422,
            "detail": "must be 1 to 100", "instance": "r-1", "code": "validation_failed",
            "error": "Validation failed", "message": "must be 1 to 100",
            "errors": [{"pointer": "/workers", "detail": "must be 1 to 100"}],
        })
    );
}

#[test]
fn a_failure_does_not_show_its_source() {
    let (status, headers, json) =
        answered(Error::NotInCharge("db-host-7 since noon".to_owned()).into());
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[RETRY_AFTER], "5");
    assert!(!json.to_string().contains("db-host-7"));
    let (status, _, json) = answered(Problem::internal(
        "SELECT 1 failed at /var/lib/x".to_owned(),
    ));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!json.to_string().contains("SELECT"));
}
