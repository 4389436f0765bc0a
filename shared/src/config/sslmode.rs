//! `sslmode`: how much TLS a session with PostgreSQL must have. A key, or a parameter of the URL.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// How much TLS a session must have. The words are those of libpq, but for `allow` and `verify-ca`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// None.
    Disable,
    /// What the server offers. The server is not verified.
    Prefer,
    /// TLS, or no session. The server is not verified.
    Require,
    /// TLS with a server that proves to be the host of the URL, or no session.
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 4] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyFull];

    const fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// The URL has a word that is none of [`SslMode`]'s. Says nothing of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has an sslmode that is not disable, prefer, require or verify-full")]
pub struct UnknownSslMode;

/// A PostgreSQL URL without its `sslmode`, and that.
///
/// The driver does not know all the words. Where the parameters begin is decided as the driver
/// decides it: it takes all up to the first `@` for the credentials, whatever that holds.
///
/// # Errors
/// [`UnknownSslMode`].
pub(super) fn split(url: &Secret) -> Result<(Secret, Option<SslMode>), UnknownSslMode> {
    let whole = url.expose();
    let host = whole.find('@').unwrap_or_default();
    let mark = whole.get(host..).and_then(|rest| rest.find('?'));
    let parts =
        mark.and_then(|mark| Some((whole.get(..host + mark)?, whole.get(host + mark + 1..)?)));
    let Some((address, query)) = parts else {
        return Ok((url.clone(), None));
    };
    let mut mode = None;
    let mut others = String::new();
    for parameter in query.split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if percent_decode_str(key).eq(*b"sslmode") {
            // The last one counts, as in libpq.
            mode = Some(parse(value)?);
        } else {
            others.push(if others.is_empty() { '?' } else { '&' });
            others.push_str(parameter);
        }
    }
    Ok((Secret::from(format!("{address}{others}")), mode))
}

fn parse(word: &str) -> Result<SslMode, UnknownSslMode> {
    let is_it = |mode: &SslMode| percent_decode_str(word).eq(mode.word().bytes());
    SslMode::ALL.into_iter().find(is_it).ok_or(UnknownSslMode)
}

#[cfg(test)]
mod tests {
    use super::{SslMode::*, *};

    #[test]
    fn the_mode_is_taken_out_of_a_url_and_all_else_stays() {
        for (url, rest, mode) in [
            ("postgres://h/d", "postgres://h/d", None),
            ("postgres://h/d?", "postgres://h/d?", None),
            (
                "postgres://h?sslmode=disable",
                "postgres://h",
                Some(Disable),
            ),
            (
                "postgresql://u:p@h:1,i:2/d?sslmode=verify-full&options=-c%20a%3Db",
                "postgresql://u:p@h:1,i:2/d?options=-c%20a%3Db",
                Some(VerifyFull),
            ),
            (
                "postgres://u@/d?host=%2Frun&sslmode=require&connect_timeout=1",
                "postgres://u@/d?host=%2Frun&connect_timeout=1",
                Some(Require),
            ),
            // Encoded, and twice.
            (
                "postgres://u@[::1]/d?%73slmode=p%72efer",
                "postgres://u@[::1]/d",
                Some(Prefer),
            ),
            (
                "postgres://u@h/d?sslmode=require&sslmode=disable",
                "postgres://u@h/d",
                Some(Disable),
            ),
            // Not the parameter: in the password, in a name, in a value.
            (
                "postgres://u:?sslmode=disable&x@h/d?sslmode=require",
                "postgres://u:?sslmode=disable&x@h/d",
                Some(Require),
            ),
            (
                "postgres://u@h/sslmode=disable?xsslmode=disable&SSLMODE=disable",
                "postgres://u@h/sslmode=disable?xsslmode=disable&SSLMODE=disable",
                None,
            ),
            (
                "postgres://u@h/d?application_name=%26sslmode=disable",
                "postgres://u@h/d?application_name=%26sslmode=disable",
                None,
            ),
        ] {
            let (left, found) = split(&Secret::from(url.to_owned())).expect("the mode is known");
            assert_eq!((left.expose(), found), (rest, mode), "{url}");
        }
    }

    #[test]
    fn other_words_are_refused_and_not_repeated() {
        for word in ["allow", "verify-ca", "Require", "", "hunter2", "%ff"] {
            let url = Secret::from(format!("postgres://u@h/d?sslmode={word}"));
            let refused = split(&url).expect_err(word);
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
        assert_eq!(
            split(&Secret::from("postgres://h/d?sslmode".to_owned())).err(),
            Some(UnknownSslMode)
        );
    }

    #[test]
    fn a_word_is_the_same_in_a_url_and_as_a_key() {
        for mode in SslMode::ALL {
            assert_eq!(parse(&mode.to_string()), Ok(mode));
            let key: Result<SslMode, _> = serde_yaml::from_str(&mode.to_string());
            assert_eq!(key.expect("a word"), mode);
        }
    }
}
