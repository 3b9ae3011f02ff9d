//! The state for people.

use std::time::Duration;

use serde::Serialize;

use crate::{Cursor, Entry, Key};

/// A state as people read it: a JSON object with its revision and, by key, what is under each.
///
/// Keys are shown as text, with what is not printable escaped. So are values that are text; others are shown in hexadecimal, and
/// what may be a number ([`number`](crate::number)) as that, too.
pub fn to_json<'a>(cursor: Cursor, entries: impl IntoIterator<Item = (&'a Key, &'a Entry)>) -> String {
    let entries = entries.into_iter().map(|(key, entry)| (key.to_string(), Shown::of(entry)));
    let state = State {
        epoch: cursor.epoch.get(),
        revision: cursor.revision.get(),
        entries: entries.collect::<serde_json::Map<_, _>>(),
    };
    // Maps with keys of text and plain values: nothing that could fail.
    serde_json::to_string_pretty(&state).unwrap_or_default()
}

#[derive(Serialize)]
struct State {
    epoch: u64,
    revision: u64,
    entries: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    created: u64,
    modified: u64,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u128>,
}

impl Shown {
    fn of(entry: &Entry) -> serde_json::Value {
        let text = std::str::from_utf8(&entry.value).ok();
        let text = text.filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()));
        let hex = || entry.value.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = Self {
            hex: if text.is_some() { None } else { Some(hex()) },
            number: entry.number(),
            text: text.map(str::to_owned),
            created: entry.created.get(),
            modified: entry.modified.get(),
            version: entry.version,
            lease: entry.lease.map(|lease| lease.to_string()),
            ttl_ms: entry.ttl.as_ref().map(Duration::as_millis),
        };
        serde_json::to_value(shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Revision, number};

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hexadecimal() {
        let entries = [
            (Key::from("greeting"), Entry::new("hello", Revision::new(3))),
            (Key::from(&b"\xff\""[..]), Entry::new(vec![0, 255], Revision::new(4))),
            (Key::from("hits"), Entry::new(number::encode(-300), Revision::new(5))),
        ];
        let cursor = Cursor::new(Epoch::new(7), Revision::new(5));
        let json = to_json(cursor, entries.iter().map(|(key, entry)| (key, entry)));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["revision"], 5);
        let entries = &value["entries"];
        assert_eq!(entries["greeting"]["text"], "hello");
        assert_eq!(entries["\\xff\\\""]["hex"], "00ff");
        assert_eq!(entries["hits"]["number"], -300);
        assert_eq!(entries["hits"]["text"], serde_json::Value::Null);
    }
}
