//! The header `Prefer` (RFC 7240), as far as publishing honours it. Pure.
//!
//! A preference is a wish and never a reason to refuse: what is unknown, malformed or senseless is
//! as good as not sent.

use std::time::Duration;

use hyper::{HeaderMap, header::HeaderName};

pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What a client would like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// Rather be answered before all is done than wait; with `wait`, only after that.
    pub(crate) respond_async: bool,
    /// Wait for so many seconds and no longer.
    pub(crate) wait: Option<u64>,
}

/// What becomes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// How long to wait; `None` for as long as usual.
    pub(crate) wait: Option<Duration>,
    /// The value of `Preference-Applied`, if any was.
    pub(crate) header: Option<String>,
}

impl Prefer {
    /// The preferences of a request, from all its `Prefer` headers. Of one that is given twice the
    /// first counts.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        for value in headers.get_all(PREFER) {
            let elements = split(value.as_bytes(), b',');
            for (name, value) in elements.filter_map(preference) {
                if name.eq_ignore_ascii_case(b"respond-async") && value.is_empty() {
                    prefer.respond_async = true;
                } else if name.eq_ignore_ascii_case(b"wait") {
                    prefer.wait = prefer.wait.or_else(|| seconds(&value));
                }
            }
        }
        prefer
    }

    /// What is done about them when no wait may be longer than `max_wait`, whole seconds.
    pub(crate) fn applied(self, max_wait: Duration) -> Applied {
        let wait = self.wait.map(|wait| wait.min(max_wait.as_secs()));
        let header = match (self.respond_async, wait) {
            (false, None) => None,
            (true, None) => Some("respond-async".to_owned()),
            (false, Some(wait)) => Some(format!("wait={wait}")),
            (true, Some(wait)) => Some(format!("respond-async, wait={wait}")),
        };
        let at_once = self.respond_async.then_some(0);
        Applied {
            wait: wait.or(at_once).map(Duration::from_secs),
            header,
        }
    }
}

/// The parts between separators; one in a quoted string separates nothing.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&byte| {
        if escaped {
            escaped = false;
        } else if byte == b'"' {
            quoted = !quoted;
        } else if quoted {
            escaped = byte == b'\\';
        } else {
            return byte == separator;
        }
        false
    })
}

/// Name and value of one preference, `token [ "=" word ]`; no value is an empty one. Its parameters
/// are ignored: none that we know has any.
fn preference(element: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let head = split(element, b';').next()?;
    let mut sides = head.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
    let name = sides.next().filter(|name| is_token(name))?;
    let value = match sides.next() {
        None | Some([]) => Vec::new(),
        Some([b'"', quoted @ ..]) => unquoted(quoted)?,
        Some(token) if is_token(token) => token.to_vec(),
        Some(_) => return None,
    };
    Some((name, value))
}

/// A quoted string's text, from behind its opening quote; `None` unless the closing one ends it.
fn unquoted(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut rest = quoted.iter();
    loop {
        match rest.next()? {
            b'"' => return rest.next().is_none().then_some(text),
            b'\\' => text.push(*rest.next()?),
            byte => text.push(*byte),
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// Digits as a number; more than fits is as many as fit.
fn seconds(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let digits = str::from_utf8(text).ok().filter(|_| is_number)?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn prefer(values: &[&[u8]]) -> Prefer {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a header's value");
            headers.append(PREFER, value);
        }
        Prefer::of(&headers)
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_has_them() {
        for (values, respond_async, wait) in [
            (&[][..], false, None),
            (&["respond-async"][..], true, None),
            (&["Respond-ASYNC"], true, None),
            (&["respond-async=\"\""], true, None),
            (&["respond-async="], true, None),
            (&["wait=10"], false, Some(10)),
            (&["WAIT = \"10\""], false, Some(10)),
            (&["wait=\"1\\0\""], false, Some(10)),
            (&["wait=010"], false, Some(10)),
            (&["wait=0"], false, Some(0)),
            (&["respond-async, wait=10"], true, Some(10)),
            (&["wait=10", "respond-async"], true, Some(10)),
            (&["wait=10", "wait=20"], false, Some(10)),
            (&["wait=10,wait=20"], false, Some(10)),
            (&["foo; bar=1, respond-async; x=\"y\" ; z"], true, None),
            (
                &["foo=\"a, wait=5; \\\" respond-async\", wait=6"],
                false,
                Some(6),
            ),
            (&["foo; x=\"a, wait=5\", wait=6"], false, Some(6)),
            (
                &["return=minimal", "\tlenient ,, , wait=7;"],
                false,
                Some(7),
            ),
            (&["wait=99999999999999999999999"], false, Some(u64::MAX)),
        ] {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            let expected = Prefer {
                respond_async,
                wait,
            };
            assert_eq!(prefer(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_as_good_as_not_sent_and_spoils_nothing_else() {
        for value in [
            "wait",
            "wait=",
            "wait=-1",
            "wait=+1",
            "wait=1.5",
            "wait=ten",
            "wait=1 0",
            "wait=\"10",
            "wait=\"10\"0",
            "wait==10",
            "=10",
            "wa it=10",
            "\"wait\"=10",
            "respond-async=yes",
            "respond async",
            "\u{e9}=1",
        ] {
            assert_eq!(prefer(&[value.as_bytes()]), Prefer::default(), "{value}");
            let others = [b"respond-async", value.as_bytes(), b"wait=3"];
            let expected = Prefer {
                respond_async: true,
                wait: Some(3),
            };
            assert_eq!(prefer(&others), expected, "{value}");
        }
    }

    #[test]
    fn what_is_applied_is_said_and_within_the_bound() {
        let max_wait = Duration::from_secs(10);
        for (respond_async, wait, applied, header) in [
            (false, None, None, None),
            (true, None, Some(0), Some("respond-async")),
            (false, Some(3), Some(3), Some("wait=3")),
            (false, Some(0), Some(0), Some("wait=0")),
            (false, Some(u64::MAX), Some(10), Some("wait=10")),
            (true, Some(4), Some(4), Some("respond-async, wait=4")),
        ] {
            let prefer = Prefer {
                respond_async,
                wait,
            };
            let expected = Applied {
                wait: applied.map(Duration::from_secs),
                header: header.map(str::to_owned),
            };
            assert_eq!(prefer.applied(max_wait), expected);
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read(values in proptest::collection::vec("[ -~\t]{0,40}", 0..4)) {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            let _verdict: Prefer = prefer(&values);
        }

        #[test]
        fn a_wait_is_found_among_well_formed_others(
            seconds: u32,
            before in "[a-v]{1,8}( ?= ?([a-z0-9]{1,5}|\"([a-z,;= ]|\\\\\"){0,9}\"))?",
            after in "[a-v]{1,8}(; ?[a-z]{1,3}=\"[a-z,;= ]{0,9}\")?",
        ) {
            prop_assume!(!before.starts_with("respond") && !after.starts_with("respond"));
            let text = format!("{before} , wait={seconds}; q=1,{after}");
            let expected = Prefer { respond_async: false, wait: Some(u64::from(seconds)) };
            prop_assert_eq!(prefer(&[text.as_bytes()]), expected, "{}", text);
        }
    }
}
