//! What a document says that a command prints, held against what it printed.
//!
//! Values that differ from run to run (ids, times, numbers) need only be of the same kind; `…` in a
//! text stands for anything.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

const ANYTHING: char = '…';

/// Where a JSON value is not as claimed: kinds, names of fields, and texts that say something.
pub(crate) fn json_faults(claimed: &Value, found: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    compare("", claimed, found, &mut faults);
    faults
}

fn compare(at: &str, claimed: &Value, found: &Value, faults: &mut Vec<String>) {
    match (claimed, found) {
        (Value::Object(claimed), Value::Object(found)) => {
            for name in claimed.keys().filter(|name| !found.contains_key(*name)) {
                faults.push(format!("{at}/{name} is missing"));
            }
            for name in found.keys().filter(|name| !claimed.contains_key(*name)) {
                faults.push(format!("{at}/{name} is not claimed"));
            }
            for (name, value) in claimed {
                if let Some(found) = found.get(name) {
                    compare(&format!("{at}/{name}"), value, found, faults);
                }
            }
        }
        (Value::Array(claimed), Value::Array(found)) => {
            if claimed.len() != found.len() {
                let (claimed, found) = (claimed.len(), found.len());
                faults.push(format!("{at} has {found} values, not {claimed}"));
            }
            for (position, (claimed, found)) in claimed.iter().zip(found).enumerate() {
                compare(&format!("{at}/{position}"), claimed, found, faults);
            }
        }
        (Value::String(claimed), Value::String(found)) => {
            if !is_as_good(claimed, found) {
                faults.push(format!("{at} is {found:?}, not {claimed:?}"));
            }
        }
        (Value::Number(_), Value::Number(_)) => {}
        (Value::Null | Value::Bool(_), found) if claimed == found => {}
        (claimed, found) => faults.push(format!("{at} is {found}, not {claimed}")),
    }
}

/// Whether a text says the same, or is of the same varying kind.
fn is_as_good(claimed: &str, found: &str) -> bool {
    let is_id = |text: &str| Uuid::try_parse(text).is_ok();
    let is_time = |text: &str| text.parse::<Timestamp>().is_ok();
    matches(claimed, found)
        || (is_id(claimed) && is_id(found))
        || (is_time(claimed) && is_time(found))
}

/// The claimed lines that do not follow each other, with whatever between them, in what was found.
pub(crate) fn text_faults(claimed: &str, found: &str) -> Vec<String> {
    let mut lines = found.lines().map(str::trim_end);
    let claimed = claimed.lines().map(str::trim_end);
    let missing = claimed.filter(|claimed| !lines.any(|line| matches(claimed, line)));
    missing.map(|line| format!("no line is {line:?}")).collect()
}

/// Whether a line is as claimed.
fn matches(claimed: &str, line: &str) -> bool {
    let Some((first, rest)) = claimed.split_once(ANYTHING) else {
        return claimed == line;
    };
    let Some(mut line) = line.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = rest.split(ANYTHING).collect();
    let Some((last, between)) = pieces.split_last() else {
        return true;
    };
    for piece in between {
        let Some((_, behind)) = line.split_once(piece) else {
            return false;
        };
        line = behind;
    }
    line.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_of_the_claimed_form() {
        let id = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";
        let claimed = json!({
            "id": id,
            "at": "2026-01-31T12:00:00Z",
            "status": "stored",
            "cursor": "AQAB…",
            "list": [{"n": 1, "last": null}],
        });
        let with = |name: &str, value: Value| {
            let mut found = claimed.clone();
            found[name] = value;
            found
        };
        let other = "11111111-7c3e-7c3e-8c3e-0190d3a27c3e";
        for (found, expected) in [
            (with("id", json!(other)), None),
            (with("at", json!("2027-01-31T12:00:00.5Z")), None),
            (with("cursor", json!("AQABxyz")), None),
            (with("list", json!([{"n": 7, "last": null}])), None),
            (with("id", json!("x")), Some("/id is \"x\"")),
            (with("at", json!(id)), Some("/at is")),
            (
                with("status", json!("queued")),
                Some("/status is \"queued\", not \"stored\""),
            ),
            (with("cursor", json!("x")), Some("/cursor is")),
            (with("list", json!([])), Some("/list has 0 values, not 1")),
            (
                with("list", json!([{"n": "7", "last": null}])),
                Some("/list/0/n is"),
            ),
            (
                with("list", json!([{"n": 7, "last": 1}])),
                Some("/list/0/last is 1, not null"),
            ),
            (
                with("list", json!([{"n": 7}])),
                Some("/list/0/last is missing"),
            ),
            (with("more", json!(1)), Some("/more is not claimed")),
        ] {
            let faults = json_faults(&claimed, &found);
            match expected {
                None => assert_eq!(faults, Vec::<String>::new(), "{found}"),
                Some(start) => {
                    assert_eq!(faults.len(), 1, "{faults:?}");
                    assert!(faults.concat().starts_with(start), "{faults:?}");
                }
            }
        }
    }

    #[test]
    fn claimed_lines_follow_each_other() {
        let found = "one  \ntwo 2 of 3\nthree";
        for (claimed, faults) in [
            ("one\nthree", 0),
            ("two … of …", 0),
            ("…", 0),
            ("two …4", 1),
            ("three\none", 1),
            ("on", 1),
            ("one\none", 1),
        ] {
            assert_eq!(text_faults(claimed, found).len(), faults, "{claimed}");
        }
    }
}
