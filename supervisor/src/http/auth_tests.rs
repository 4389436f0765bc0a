use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LEEWAY: Duration = Duration::from_secs(30);

fn secret() -> Secret {
    Secret::from(SECRET.to_owned())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn tenant(bits: u128) -> TenantId {
    TenantId::from(Uuid::from_u128(bits))
}

fn recognise(header: &str) -> Result<Caller, Problem> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
    let auth = Auth::jwt(&secret(), LEEWAY).unwrap();
    auth.recognise(&headers, now())
}

/// A token with any header and claims, signed with any secret.
fn forged(header: &Value, claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn good_claims() -> Value {
    json!({"role": "admin", "exp": 1_800_000_060})
}

fn with(claims: &Value) -> Result<Caller, Problem> {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let token = forged(&header, claims, Algorithm::HS256, SECRET);
    recognise(&format!("Bearer {token}"))
}

#[test]
fn a_minted_token_is_recognised_until_it_ends() {
    let minute = Duration::from_secs(60);
    for role in [Role::Admin, Role::Tenant(tenant(7))] {
        let token = mint(&secret(), role, minute, now()).unwrap();
        let auth = Auth::jwt(&secret(), LEEWAY).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("bearer {token}").parse().unwrap());
        let at = |second: i64| {
            now()
                .checked_add(Duration::from_secs(second.unsigned_abs()))
                .unwrap()
        };
        assert_eq!(auth.recognise(&headers, at(89)).unwrap().role, role);
        assert_eq!(
            auth.recognise(&headers, at(90)).unwrap_err().code(),
            Code::Unauthorized
        );
    }
}

#[test]
fn a_short_secret_neither_signs_nor_checks() {
    let short = Secret::from("x".repeat(MIN_SECRET_BYTES - 1));
    assert!(matches!(
        Auth::jwt(&short, LEEWAY),
        Err(TokenError::WeakSecret)
    ));
    assert!(matches!(
        mint(&short, Role::Admin, LEEWAY, now()),
        Err(TokenError::WeakSecret)
    ));
}

#[test]
fn a_token_that_is_not_ours_is_refused() {
    let hs256 = json!({"alg": "HS256", "typ": "JWT"});
    let good = forged(&hs256, &good_claims(), Algorithm::HS256, SECRET);
    assert!(recognise(&format!("Bearer {good}")).is_ok());
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, claims) = head.split_once('.').unwrap();
    let other_secret = "f".repeat(32);
    let other_claims = part(&json!({"role": "admin", "exp": 1_900_000_000}));
    let hs512 = json!({"alg": "HS512", "typ": "JWT"});
    let crit = json!({"alg": "HS256", "crit": ["b64"]});
    let cases = [
        (
            "alg none",
            format!("Bearer {}.{claims}.", part(&json!({"alg": "none"}))),
        ),
        (
            "alg none, signed",
            format!(
                "Bearer {}.{claims}.{signature}",
                part(&json!({"alg": "none"}))
            ),
        ),
        (
            "another algorithm",
            format!(
                "Bearer {}",
                forged(&hs512, &good_claims(), Algorithm::HS512, SECRET)
            ),
        ),
        (
            "another algorithm's name",
            format!(
                "Bearer {}.{claims}.{signature}",
                part(&json!({"alg": "RS256"}))
            ),
        ),
        (
            "another secret",
            format!(
                "Bearer {}",
                forged(&hs256, &good_claims(), Algorithm::HS256, &other_secret)
            ),
        ),
        (
            "critical extension",
            format!(
                "Bearer {}",
                forged(&crit, &good_claims(), Algorithm::HS256, SECRET)
            ),
        ),
        (
            "other claims",
            format!("Bearer {}.{other_claims}.{signature}", part(&hs256)),
        ),
        ("no signature", format!("Bearer {head}.")),
        ("cut", format!("Bearer {head}")),
        ("a fourth part", format!("Bearer {good}.x")),
        ("no token", "Bearer ".to_owned()),
        ("no space", "Bearer".to_owned()),
        ("another scheme", format!("Basic {good}")),
        (
            "oversize",
            format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1)),
        ),
    ];
    for (case, header) in cases {
        let refused = recognise(&header).expect_err(case);
        assert_eq!(refused.code(), Code::Unauthorized, "{case}");
    }
}

#[test]
fn claims_decide_who_calls_and_when() {
    let own = "00000000-0000-0000-0000-000000000007";
    let exp = 1_800_000_060;
    assert!(with(&good_claims()).is_ok());
    assert!(with(&json!({"role": "tenant", "tenant_id": own, "exp": exp})).is_ok());
    assert!(with(&json!({"role": "admin", "exp": 1_799_999_971.5})).is_ok());
    assert!(with(&json!({"role": "admin", "exp": exp, "nbf": 1_800_000_030})).is_ok());
    for refused in [
        json!({"role": "admin"}),
        json!({"role": "admin", "exp": null}),
        json!({"role": "admin", "exp": "1800000060"}),
        json!({"role": "admin", "exp": 1_799_999_970}),
        json!({"role": "admin", "exp": -1}),
        json!({"role": "admin", "exp": exp, "nbf": 1_800_000_031}),
        json!({"role": "admin", "exp": exp, "nbf": "soon"}),
        json!({"role": "root", "exp": exp}),
        json!({"role": ["admin"], "exp": exp}),
        json!({"exp": exp}),
        json!({"role": "tenant", "exp": exp}),
        json!({"role": "tenant", "tenant_id": "7", "exp": exp}),
        json!({"role": "admin", "scope": 7, "exp": exp}),
        json!("admin"),
    ] {
        assert_eq!(
            with(&refused).expect_err("it is refused").code(),
            Code::Unauthorized,
            "{refused}"
        );
    }
}

#[test]
fn two_tokens_are_none() {
    let token = mint(&secret(), Role::Admin, LEEWAY, now()).unwrap();
    let mut headers = HeaderMap::new();
    for _ in 0..2 {
        headers.append(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }
    let auth = Auth::jwt(&secret(), LEEWAY).unwrap();
    assert!(auth.recognise(&headers, now()).is_err());
}

#[test]
fn without_authentication_everybody_is_an_administrator() {
    let caller = Auth::disabled()
        .recognise(&HeaderMap::new(), now())
        .unwrap();
    assert!(caller.may(Access::Admin, Some(tenant(1))).is_ok());
}

#[test]
fn role_and_scope_open_what_they_name_and_hide_the_rest() {
    let read = Access::Tenant(Some(Scope::MessagesRead));
    let write = Access::Tenant(Some(Scope::MessagesWrite));
    let own = Access::Tenant(None);
    let exp = 1_800_000_060;
    let admin =
        |scope: Option<&str>| with(&json!({"role": "admin", "scope": scope, "exp": exp})).unwrap();
    let seven = "00000000-0000-0000-0000-000000000007";
    let member = |scope: Option<&str>| {
        with(&json!({"role": "tenant", "tenant_id": seven, "scope": scope, "exp": exp})).unwrap()
    };
    let (yes, forbidden, hidden) = (None, Some(Code::Forbidden), Some(Code::TenantNotFound));
    for (caller, access, named, expected) in [
        (admin(None), Access::Admin, Some(8), yes),
        (admin(None), write, Some(8), yes),
        (admin(Some("messages:read")), read, Some(8), yes),
        (admin(Some("messages:read")), write, Some(8), forbidden),
        (admin(Some("messages:read")), Access::Admin, None, forbidden),
        (member(None), own, Some(7), yes),
        (member(None), write, Some(7), yes),
        (member(None), read, None, yes),
        (member(None), Access::Admin, None, forbidden),
        (member(None), Access::Admin, Some(7), forbidden),
        (member(None), Access::Admin, Some(8), hidden),
        (member(None), own, Some(8), hidden),
        (member(Some("messages:read")), write, Some(8), hidden),
        (member(Some("messages:read other")), read, Some(7), yes),
        (member(Some("messages:read")), write, Some(7), forbidden),
        (member(Some("")), read, Some(7), forbidden),
        (member(Some("messages:readwrite")), read, Some(7), forbidden),
    ] {
        let found = caller
            .may(access, named.map(tenant))
            .err()
            .map(|problem| problem.code());
        assert_eq!(found, expected, "{caller:?} {access:?} {named:?}");
    }
}
