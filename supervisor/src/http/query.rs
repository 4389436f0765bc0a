//! The parameters of a query, and percent-encoding as RFC 3986 has it.

use std::{borrow::Cow, ops::RangeInclusive};

use jiff::Timestamp;
use uuid::Uuid;

use super::problem::{Code, Fault, Problem};

/// Length of a UUID's text with hyphens, the one form that is taken.
const UUID_CHARS: usize = 36;

/// The decoded parameters, and what has been found wrong with them so far. Parameters nobody asks
/// for are ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Query {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// `malformed_request` for bad percent-encoding.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode_form(name)?, decode_form(value)?));
        }
        Ok(Self {
            pairs,
            faults: Vec::new(),
        })
    }

    /// A parameter's text. Given twice, it is a fault.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.clone());
        if values.next().is_some() {
            self.fault(name, "is given more than once");
            return None;
        }
        value
    }

    /// A whole number within `bounds`, or `default` when absent.
    pub(crate) fn number(&mut self, name: &str, bounds: &RangeInclusive<u16>, default: u16) -> u16 {
        let Some(text) = self.text(name) else {
            return default;
        };
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.unwrap_or_else(|| {
            let (min, max) = (bounds.start(), bounds.end());
            self.fault(name, format!("must be a whole number from {min} to {max}"));
            default
        })
    }

    /// `true` or `false`; false when absent.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.text(name).as_deref() {
            Some("true") => true,
            Some("false") | None => false,
            Some(_) => {
                self.fault(name, "must be true or false");
                false
            }
        }
    }

    /// An RFC 3339 time.
    pub(crate) fn time(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.text(name)?;
        let time = text.parse().ok();
        if time.is_none() {
            self.fault(
                name,
                "must be a time of RFC 3339, such as 2026-01-31T12:00:00Z",
            );
        }
        time
    }

    /// A UUID.
    ///
    /// # Errors
    /// `invalid_id`, or `validation_failed` when it is given twice, at once: it names who is asked
    /// about, so nothing else matters.
    pub(crate) fn id(&mut self, name: &str) -> Result<Option<Uuid>, Problem> {
        let text = self.text(name);
        if !self.faults.is_empty() {
            return Err(Problem::invalid(std::mem::take(&mut self.faults)));
        }
        text.map(|text| uuid(&text)).transpose()
    }

    /// Notes a fault of a parameter.
    pub(crate) fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.faults
            .push(Fault::parameter(name, format!("{name} {}", detail.into())));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `validation_failed` with every fault found.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.faults))
        }
    }
}

/// Reads a UUID in its usual form, with hyphens.
///
/// # Errors
/// `invalid_id`.
pub(crate) fn uuid(text: &str) -> Result<Uuid, Problem> {
    Some(text)
        .filter(|text| text.len() == UUID_CHARS)
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| {
            Problem::new(
                Code::InvalidId,
                "an id is a UUID such as 0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e",
            )
        })
}

/// Decodes `%XX`.
///
/// # Errors
/// `malformed_request` when a `%` is not followed by two digits, or what comes out is not UTF-8.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [byte, tail @ ..] = rest {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = tail;
            continue;
        }
        let digits = tail
            .get(..2)
            .filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let value = digits
            .and_then(|two| str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok())
            .ok_or_else(malformed)?;
        decoded.push(value);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| malformed())
}

/// Decodes `%XX`, and `+` as a space.
fn decode_form(text: &str) -> Result<String, Problem> {
    decode(&text.replace('+', " ")).map(Cow::into_owned)
}

fn malformed() -> Problem {
    Problem::new(
        Code::MalformedRequest,
        "path or query is not percent-encoded UTF-8",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percent_encoding_is_taken_literally_or_not_at_all() {
        for (text, expected) in [
            ("abc", Some("abc")),
            ("a%20b%C3%A9", Some("a bé")),
            ("%2F", Some("/")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn all_faults_of_a_query_are_told_at_once() {
        let mut query =
            Query::parse("limit=0&runtime=maybe&at=noon&name=a+b&x=1&x=2&y").expect("well-formed");
        assert_eq!(query.number("limit", &(1..=1000), 20), 20);
        assert!(!query.flag("runtime"));
        assert_eq!(query.time("at"), None);
        assert_eq!(query.text("name").as_deref(), Some("a b"));
        assert_eq!(query.text("x"), None);
        assert_eq!(query.text("y").as_deref(), Some(""));
        assert_eq!(query.number("absent", &(1..=1000), 20), 20);
        let problem = query.finish().expect_err("it has faults");
        let named: Vec<_> = problem
            .faults()
            .iter()
            .filter_map(|fault| fault.parameter.as_deref())
            .collect();
        assert_eq!(named, ["limit", "runtime", "at", "x"]);
    }

    #[test]
    fn an_id_has_one_form() {
        assert!(uuid("0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e").is_ok());
        for text in [
            "",
            "7",
            "0190d3a27c3e7c3e8c3e0190d3a27c3e",
            "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3g",
        ] {
            assert_eq!(
                uuid(text).map_err(|problem| problem.code()),
                Err(Code::InvalidId),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(text in ".{0,64}") {
            let _verdict: Result<Query, Problem> = Query::parse(&text);
        }
    }
}
