//! The scanner of payloads: refuses what PostgreSQL's `jsonb` refuses or could not give back.
//!
//! A payload stays the text the client sent; nothing here builds a tree. The bounds lie well
//! inside what `jsonb` takes (its numbers may have 131,072 digits before the point), so that a
//! payload that passes can always be stored and read. `jsonb` gives numbers back written out: six
//! bytes of `1e308,` become 311, so the zeros of a whole payload are bounded as well.

use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 128;
/// Most digits of a number, exponent aside.
pub const MAX_DIGITS: usize = 1000;
/// Largest absolute value of a number's exponent.
pub const MAX_EXPONENT: u32 = 308;
/// Largest sum of the absolute values of all exponents: about as many bytes is a payload longer
/// when it is read than when it was sent. PostgreSQL gives back no text beyond 1 GiB.
pub const MAX_ZEROS: u32 = 16 * 1024 * 1024;

/// Why a payload cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    #[error("the payload is not well-formed JSON in UTF-8")]
    Malformed,
    #[error("a string holds the character NUL (\\u0000)")]
    Nul,
    #[error("a string holds half of a surrogate pair")]
    LoneSurrogate,
    #[error("a number's exponent is beyond {MAX_EXPONENT}")]
    Exponent,
    #[error("its numbers, written out, have more than {MAX_ZEROS} zeros")]
    Zeros,
    #[error("a number has more than {MAX_DIGITS} digits")]
    Digits,
    #[error("arrays and objects are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// Checks bytes of unknown origin: well-formed JSON first, then `scan`.
///
/// # Errors
/// The first reason found why `jsonb` could not store the payload.
pub fn check(body: &[u8]) -> Result<(), Unstorable> {
    let raw: &RawValue = serde_json::from_slice(body).map_err(|_| Unstorable::Malformed)?;
    scan(raw.get())
}

/// Scans a text that is known to be well-formed JSON.
///
/// # Errors
/// The first reason found why `jsonb` could not store the payload.
pub fn scan(json: &str) -> Result<(), Unstorable> {
    let bytes = json.as_bytes();
    let (mut at, mut depth, mut zeros) = (0, 0_usize, 0_u32);
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'"' => string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let (end, exponent) = number(bytes, at)?;
                zeros = zeros.saturating_add(exponent);
                if zeros > MAX_ZEROS {
                    return Err(Unstorable::Zeros);
                }
                end
            }
            b'[' | b'{' if depth == MAX_DEPTH => return Err(Unstorable::Depth),
            b'[' | b'{' => {
                depth += 1;
                at + 1
            }
            b']' | b'}' => {
                depth -= 1;
                at + 1
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// Passes a string whose opening quote lies before `at`; gives the place behind its end.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, Unstorable> {
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'"') | None, _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'u')) => at = escape(bytes, at)?,
            (Some(b'\\'), _) => at += 2,
            _ => at += 1,
        }
    }
}

/// Passes a `\uXXXX`, or the two of a surrogate pair, that starts at `at`.
fn escape(bytes: &[u8], at: usize) -> Result<usize, Unstorable> {
    match code_unit(bytes, at) {
        Some(0) => Err(Unstorable::Nul),
        Some(0xd800..=0xdbff) => match code_unit(bytes, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(at + 12),
            _ => Err(Unstorable::LoneSurrogate),
        },
        Some(0xdc00..=0xdfff) => Err(Unstorable::LoneSurrogate),
        Some(_) => Ok(at + 6),
        None => Err(Unstorable::Malformed),
    }
}

/// The UTF-16 code unit of a `\uXXXX` at `at`, if one stands there.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Passes a number that starts at `at`; gives the place behind its end, and its exponent without
/// the sign.
fn number(bytes: &[u8], at: usize) -> Result<(usize, u32), Unstorable> {
    let rest = bytes.get(at..).unwrap_or_default();
    let length = rest
        .iter()
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        .count();
    let text = rest.get(..length).unwrap_or_default();
    let mut parts = text.split(|byte| matches!(byte, b'e' | b'E'));
    let mantissa = parts.next().unwrap_or_default();
    if mantissa.iter().filter(|byte| byte.is_ascii_digit()).count() > MAX_DIGITS {
        return Err(Unstorable::Digits);
    }
    let exponent = parts
        .next()
        .unwrap_or_default()
        .iter()
        .filter(|byte| byte.is_ascii_digit());
    let exponent = exponent.fold(0_u32, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
    });
    if exponent > MAX_EXPONENT {
        return Err(Unstorable::Exponent);
    }
    Ok((at + length, exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_become_too_long_when_they_are_read_are_refused() {
        let many = |count: u32| {
            let numbers = "-1e-308,".repeat(usize::try_from(count).expect("it fits"));
            format!("[{numbers}1]")
        };
        let most = MAX_ZEROS / MAX_EXPONENT;
        assert_eq!(check(many(most).as_bytes()), Ok(()));
        assert_eq!(check(many(most + 1).as_bytes()), Err(Unstorable::Zeros));
    }

    #[test]
    fn what_jsonb_refuses_is_refused() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let long = |digits: usize| "9".repeat(digits);
        for (json, expected) in [
            (
                r#"{"a": [1, -2.5e308, "\u00e9\ud83d\ude00\\u0000", null, true]}"#.to_owned(),
                Ok(()),
            ),
            (r#""\u0000""#.to_owned(), Err(Unstorable::Nul)),
            (r#"{"\u0000": 1}"#.to_owned(), Err(Unstorable::Nul)),
            (r#""\ud83d""#.to_owned(), Err(Unstorable::LoneSurrogate)),
            (
                r#""\ud83d\u0041""#.to_owned(),
                Err(Unstorable::LoneSurrogate),
            ),
            (r#""\ude00""#.to_owned(), Err(Unstorable::LoneSurrogate)),
            (r#""\\\ud83d\ude00""#.to_owned(), Ok(())),
            ("1e308".to_owned(), Ok(())),
            ("1e309".to_owned(), Err(Unstorable::Exponent)),
            (
                "[1E-99999999999999999999]".to_owned(),
                Err(Unstorable::Exponent),
            ),
            (long(MAX_DIGITS), Ok(())),
            (long(MAX_DIGITS + 1), Err(Unstorable::Digits)),
            (deep(MAX_DEPTH), Ok(())),
            (deep(MAX_DEPTH + 1), Err(Unstorable::Depth)),
            (deep(200_000), Err(Unstorable::Depth)),
            ("{\"a\": 1".to_owned(), Err(Unstorable::Malformed)),
            (String::new(), Err(Unstorable::Malformed)),
            ("1 2".to_owned(), Err(Unstorable::Malformed)),
        ] {
            assert_eq!(check(json.as_bytes()), expected, "{:.60}", json);
        }
        assert_eq!(check(b"\"\xff\""), Err(Unstorable::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_scanner_fail(body: Vec<u8>) {
            let _verdict: Result<(), Unstorable> = check(&body);
        }

        #[test]
        fn any_text_survives_as_a_string(text: String) {
            let json = serde_json::to_string(&text).expect("a string is always JSON");
            let expected = if text.contains('\0') { Err(Unstorable::Nul) } else { Ok(()) };
            prop_assert_eq!(check(json.as_bytes()), expected);
        }
    }
}
