//! Finding people in texts: their phone numbers, e-mail addresses and names.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::StandIns;

/// A built-in expression.
fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a built-in expression is sound")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| expression(r"\+?\(?\d(?:[ \u{a0}().\-/]{0,2}\d){6,18}"));
static DATE: LazyLock<Regex> = LazyLock::new(|| expression(r"^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|^\d+\.\d+$"));

/// Keys whose value is a person's name.
const NAME_KEYS: [&str; 21] = [
    "name",
    "firstname",
    "lastname",
    "fullname",
    "middlename",
    "givenname",
    "familyname",
    "surname",
    "nickname",
    "username",
    "callername",
    "customername",
    "contactname",
    "clientname",
    "patientname",
    "guestname",
    "membername",
    "ownername",
    "personname",
    "displayname",
    "accountname",
];
/// Parts of keys whose numbers are times, counts or identifiers.
const NO_PHONE: [&str; 9] = ["time", "stamp", "secs", "_id", "sid", "date", "cost", "hash", "version"];
/// A name shorter than this is not looked for in texts: it would be found in too many.
const MIN_NAME: usize = 3;

/// Those who were met, and what stands for them.
#[derive(Debug, Default)]
pub struct People {
    names: StandIns,
    emails: StandIns,
    numbers: StandIns,
    /// Finds the names of the document at hand.
    known: Option<Regex>,
}

/// Whether a key's value is a person's name.
pub fn names_person(key: &str) -> bool {
    let key: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    NAME_KEYS.contains(&key.as_str())
}

/// Whether a key's value is a phone number, however it is written.
pub fn phone_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let parts = ["phone", "mobile", "external_number", "agent_number", "caller_number", "msisdn", "whatsapp"];
    parts.iter().any(|part| key.contains(part)) || matches!(key.as_str(), "from" | "to" | "tel" | "caller" | "called")
}

impl People {
    /// Takes note of the names in a document, so that they are found in its texts too.
    pub fn meet(&mut self, names: &[String]) {
        let mut words: Vec<&str> = Vec::new();
        for name in names {
            let name = name.trim();
            self.name(name);
            let is_name = |text: &str| {
                text.chars().filter(|c| c.is_alphabetic()).count() >= MIN_NAME
                    && text.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '\'' | '-' | '.' | '’'))
            };
            words.extend(std::iter::once(name).chain(name.split_whitespace()).filter(|text| is_name(text)));
        }
        // The longer one first, so that a whole name is not found piece by piece.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let any: Vec<String> = words.iter().map(|word| regex::escape(word)).collect();
        self.known = (!any.is_empty()).then(|| Regex::new(&format!(r"(?i)\b(?:{})\b", any.join("|"))).ok()).flatten();
    }

    /// The text that stands under `key`, without people.
    pub fn replace(&mut self, key: &str, text: &str) -> String {
        if key.contains("audio") && text.len() > 64 {
            return String::new();
        }
        if names_person(key) && !text.trim().is_empty() {
            return self.name(text.trim());
        }
        let text = EMAIL.replace_all(text, |found: &Captures<'_>| {
            stand_in(&mut self.emails, &found[0], |n| format!("person{n}@example.com"))
        });
        let text = self.numbers_in(key, &text);
        match self.known.take() {
            Some(known) => {
                let replaced = known.replace_all(&text, |found: &Captures<'_>| self.name(&found[0])).into_owned();
                self.known = Some(known);
                replaced
            }
            None => text,
        }
    }

    fn numbers_in(&mut self, key: &str, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        for found in NUMBER.find_iter(text) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '#'));
            if inside(before) || inside(after) || !is_phone(key, found.as_str()) {
                continue;
            }
            replaced.push_str(&text[done..found.start()]);
            replaced.push_str(&self.number(found.as_str()));
            done = found.end();
        }
        replaced.push_str(&text[done..]);
        replaced
    }

    /// What stands for a phone number, however it is written.
    pub fn number(&mut self, number: &str) -> String {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        // 555-01xx belongs to nobody.
        stand_in(&mut self.numbers, &digits, |n| format!("+1555010{n:04}"))
    }

    fn name(&mut self, name: &str) -> String {
        stand_in(&mut self.names, name, |n| format!("Person {n}"))
    }
}

/// Whether a run of digits is a phone number rather than a time, an amount or an identifier.
fn is_phone(key: &str, found: &str) -> bool {
    let digits = found.bytes().filter(u8::is_ascii_digit).count();
    if !(7..=15).contains(&digits) || DATE.is_match(found) {
        return false;
    }
    let is_bare = found.bytes().all(|byte| byte.is_ascii_digit());
    let key = key.to_lowercase();
    phone_key(&key) || !is_bare || (digits >= 9 && !NO_PHONE.iter().any(|part| key.contains(part)) && key != "id")
}

fn stand_in(known: &mut StandIns, text: &str, make: impl Fn(usize) -> String) -> String {
    let next = known.len() + 1;
    known.entry(text.to_lowercase()).or_insert_with(|| make(next)).clone()
}
