//! Who calls, and what they may: bearer tokens (RFC 6750, RFC 7519) signed with HS256.
//!
//! The algorithm is ours to choose, never the token's. The rule that hides tenants from each other
//! stands in `Caller::may` and nowhere else.

use std::{sync::Arc, time::Duration};

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};
use jatis_shared::{ids::TenantId, secret::Secret};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{
    endpoint::Access,
    problem::{Code, Problem},
};
use crate::error::Error;

/// Shortest secret, bytes: as long as the hash (RFC 7518 §3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// Longest token that is looked at, bytes: verifying costs time before anything is known about
/// the caller.
const MAX_TOKEN_BYTES: usize = 4096;

/// How callers are recognised.
#[derive(Clone)]
pub struct Auth(Mode);

#[derive(Clone)]
enum Mode {
    Jwt(Arc<Verifier>),
    Disabled,
}

struct Verifier {
    key: DecodingKey,
    validation: Validation,
    leeway: Duration,
}

/// What a token says its bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Admin,
    Tenant(TenantId),
}

/// Why no token can be made, or none checked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the secret of tokens has fewer than {MIN_SECRET_BYTES} bytes")]
    WeakSecret,
    #[error("the token would expire beyond the calendar")]
    Lifetime,
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Something a token may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    MessagesRead,
    MessagesWrite,
}

impl Scope {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MessagesRead => "messages:read",
            Self::MessagesWrite => "messages:write",
        }
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    /// The token's own limits; absent, its role's.
    scopes: Option<Vec<Scope>>,
}

/// What a token says. Times are seconds since 1970, whole or not.
#[derive(Deserialize)]
struct Claims {
    role: String,
    tenant_id: Option<TenantId>,
    scope: Option<String>,
    nbf: Option<f64>,
    exp: f64,
}

/// What our own tokens say.
#[derive(Serialize)]
struct MintedClaims {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<TenantId>,
    iat: i64,
    exp: i64,
}

/// Makes a token that is good from `now` for `ttl`.
///
/// # Errors
/// When the secret is too short or the time too long.
pub fn mint(
    secret: &Secret,
    role: Role,
    ttl: Duration,
    now: Timestamp,
) -> Result<String, TokenError> {
    let secret = strong(secret)?;
    let end = now.checked_add(ttl).map_err(|_| TokenError::Lifetime)?;
    let (role, tenant_id) = match role {
        Role::Admin => ("admin", None),
        Role::Tenant(id) => ("tenant", Some(id)),
    };
    let claims = MintedClaims {
        role,
        tenant_id,
        iat: now.as_second(),
        exp: end.as_second(),
    };
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(TokenError::Sign)
}

impl Auth {
    /// Callers show a token signed with this secret. `leeway` is forgiven in its times.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn jwt(secret: &Secret, leeway: Duration) -> Result<Self, TokenError> {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked by `verify`, against the time that it is given.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        // No audience is configured, so none is wrong.
        validation.validate_aud = false;
        Ok(Self(Mode::Jwt(Arc::new(Verifier {
            key: DecodingKey::from_secret(strong(secret)?),
            validation,
            leeway,
        }))))
    }

    /// Everybody is an administrator.
    #[must_use]
    pub const fn disabled() -> Self {
        Self(Mode::Disabled)
    }

    /// Recognises the caller of a request.
    ///
    /// # Errors
    /// `unauthorized`, with the challenge of RFC 6750.
    pub(crate) fn recognise(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Problem> {
        match &self.0 {
            Mode::Disabled => Ok(Caller {
                role: Role::Admin,
                scopes: None,
            }),
            Mode::Jwt(verifier) => verifier.verify(bearer(headers)?, now),
        }
    }
}

impl Caller {
    /// The tenant whose token it is.
    pub(crate) const fn tenant(&self) -> Option<TenantId> {
        match self.role {
            Role::Admin => None,
            Role::Tenant(id) => Some(id),
        }
    }

    /// Whether the caller may use a route with this rule, on a request that names `named`.
    ///
    /// # Errors
    /// `tenant_not_found` when a tenant names another one, exactly as if it did not exist;
    /// `forbidden` when role or scope do not allow it.
    pub(crate) fn may(&self, access: Access, named: Option<TenantId>) -> Result<(), Problem> {
        if let (Some(own), Some(named)) = (self.tenant(), named)
            && own != named
        {
            return Err(Error::TenantNotFound(named).into());
        }
        match access {
            Access::Open | Access::Tenant(None) => Ok(()),
            Access::Admin | Access::System if self.role == Role::Admin && self.scopes.is_none() => {
                Ok(())
            }
            Access::Admin | Access::System => Err(Problem::new(
                Code::Forbidden,
                "this takes an administrator's token without a scope",
            )),
            Access::Tenant(Some(scope)) => self.within(scope),
        }
    }

    fn within(&self, scope: Scope) -> Result<(), Problem> {
        let granted = self.scopes.as_ref();
        if granted.is_none_or(|scopes| scopes.contains(&scope)) {
            return Ok(());
        }
        let challenge = match scope {
            Scope::MessagesRead => {
                r#"Bearer realm="jatis", error="insufficient_scope", scope="messages:read""#
            }
            Scope::MessagesWrite => {
                r#"Bearer realm="jatis", error="insufficient_scope", scope="messages:write""#
            }
        };
        let detail = format!("the token's scope does not hold {}", scope.as_str());
        Err(Problem::new(Code::Forbidden, detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
    }
}

/// The token in the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(
            Problem::new(Code::Unauthorized, "a bearer token is required").with_header(
                WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="jatis""#),
            ),
        );
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .filter(|_| values.next().is_none())
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| refused("the header Authorization must be: Bearer and a token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused(
            "the header Authorization must be: Bearer and a token",
        ));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refused("the token is too long"));
    }
    Ok(token.trim_start_matches(' '))
}

impl Verifier {
    fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, Problem> {
        let (key, validation) = (&self.key, &self.validation);
        // Which check failed is nobody's business but the log's.
        let decoded = jsonwebtoken::decode::<Claims>(token, key, validation).map_err(|error| {
            tracing::debug!(%error, "a token was refused: {error}");
            refused("the token is not valid")
        })?;
        let (claims, now, leeway) = (decoded.claims, seconds(now), self.leeway.as_secs_f64());
        // An extension that the token calls critical and nobody here knows (RFC 7515 §4.1.11).
        if decoded.header.crit.is_some() {
            return Err(refused("the token is not valid"));
        }
        if claims.exp + leeway <= now {
            return Err(refused("the token has expired"));
        }
        if claims.nbf.is_some_and(|start| start - leeway > now) {
            return Err(refused("the token is not valid yet"));
        }
        let role = match (claims.role.as_str(), claims.tenant_id) {
            ("admin", _) => Role::Admin,
            ("tenant", Some(id)) => Role::Tenant(id),
            _ => return Err(refused("the token names no role, or no tenant")),
        };
        Ok(Caller {
            role,
            scopes: claims.scope.as_deref().map(scopes),
        })
    }
}

/// The scopes of a claim that we know; others are for other services.
fn scopes(claim: &str) -> Vec<Scope> {
    [Scope::MessagesRead, Scope::MessagesWrite]
        .into_iter()
        .filter(|scope| claim.split(' ').any(|word| word == scope.as_str()))
        .collect()
}

fn refused(detail: &str) -> Problem {
    let challenge = r#"Bearer realm="jatis", error="invalid_token""#;
    Problem::new(Code::Unauthorized, detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn strong(secret: &Secret) -> Result<&[u8], TokenError> {
    Some(secret.expose().as_bytes())
        .filter(|secret| secret.len() >= MIN_SECRET_BYTES)
        .ok_or(TokenError::WeakSecret)
}

/// Seconds since 1970, as the times in tokens are.
fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
