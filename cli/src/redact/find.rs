//! Finding people in texts: their phone numbers, e-mail addresses and names.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{StandIns, digits};

/// A built-in expression.
fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a built-in expression is sound")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"));
/// Digits of any script, with what people, typesetters and writing from right to left put between them.
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[+＋]?[(（]?\d(?:[\p{Zs}\p{Pd}\p{Cf}().（）．・/／]{0,3}\d){6,18}"));
static DATE: LazyLock<Regex> = LazyLock::new(|| expression(r"^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|^\d+\.\d+$"));
/// Two to four words in capitals or of a script without any.
static FULL_NAME: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^(?:[\p{Lu}\p{Lt}\p{Lo}][\p{L}\p{M}'’.-]*)(?: (?:[\p{Lu}\p{Lt}\p{Lo}][\p{L}\p{M}'’.-]*|de|da|del|van|von|der|bin|al)){1,3}$",
    )
});

/// Keys whose value is a person's name, among what the sender's own code made up (variables, collected data) too.
const OWN_NAME_KEYS: [&str; 14] = [
    "customer", "caller", "client", "patient", "guest", "contact", "member", "person", "owner", "tenant", "nombre",
    "vorname", "nachname", "prenom",
];
/// Keys that end in `name` and name no person.
const NO_NAME: [&str; 20] = [
    "agentname",
    "toolname",
    "filename",
    "companyname",
    "productname",
    "hostname",
    "domainname",
    "eventname",
    "voicename",
    "branchname",
    "businessname",
    "storename",
    "planname",
    "servicename",
    "streetname",
    "cityname",
    "countryname",
    "campaignname",
    "hotelname",
    "modelname",
];
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
pub(crate) struct People {
    names: StandIns,
    emails: StandIns,
    numbers: StandIns,
    /// Finds the names of the document at hand.
    known: Option<Regex>,
}

/// Where a value stands, as far as it tells what the value is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'k> {
    /// The key that says what it is.
    pub(crate) key: &'k str,
    /// Whether that key, or one around it, is a person's name's,
    pub(crate) is_name: bool,
    /// or a phone number's.
    pub(crate) is_phone: bool,
}

/// Whether a key's value is a person's name. `is_own`: the sender's own code chose the key (dynamic variables,
/// collected data).
pub(crate) fn names_person(key: &str, is_own: bool) -> bool {
    let has_prefix = key.starts_with("system__");
    let key: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let is_own_name =
        || OWN_NAME_KEYS.contains(&key.as_str()) || (key.ends_with("name") && !NO_NAME.contains(&key.as_str()));
    NAME_KEYS.contains(&key.as_str()) || (is_own && !has_prefix && is_own_name())
}

/// Whether a text is a person's name by its looks. Much else looks like it ("Gold Plan"), so it is only asked of
/// what the sender's own code says about a caller.
pub(crate) fn looks_like_name(text: &str) -> bool {
    FULL_NAME.is_match(text.trim())
}

/// Whether a key's value is a phone number, however it is written.
pub(crate) fn phone_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let parts = [
        "phone",
        "mobile",
        "external_number",
        "agent_number",
        "caller_number",
        "from_number",
        "to_number",
        "called_number",
        "contact_number",
        "callback_number",
        "msisdn",
        "whatsapp",
        "telefon",
    ];
    let words =
        ["from", "to", "tel", "cell", "fax", "ani", "dnis", "caller", "called", "caller_id", "callerid", "telephone"];
    parts.iter().any(|part| key.contains(part)) || words.contains(&key.as_str())
}

/// Whether a key's numbers are times, counts or identifiers.
fn no_phone_key(key: &str) -> bool {
    let key = key.to_lowercase();
    key == "id" || NO_PHONE.iter().any(|part| key.contains(part))
}

impl People {
    /// Takes note of the names in a document, so that they are found in its texts too.
    pub(crate) fn meet(&mut self, names: &[String]) {
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

    /// The text that stands at `place`, without people.
    pub(crate) fn replace(&mut self, place: Place<'_>, text: &str) -> String {
        if place.key.contains("audio") && text.len() > 64 {
            return String::new();
        }
        if place.is_name && !text.trim().is_empty() {
            return self.name(text.trim());
        }
        if place.is_phone && is_number(text) {
            return self.number(text);
        }
        let text = EMAIL.replace_all(text, |found: &Captures<'_>| {
            stand_in(&mut self.emails, &found[0], |n| format!("person{n}@example.com"))
        });
        let text = self.numbers_in(place, &text);
        match self.known.take() {
            Some(known) => {
                let replaced = known.replace_all(&text, |found: &Captures<'_>| self.name(&found[0])).into_owned();
                self.known = Some(known);
                replaced
            }
            None => text,
        }
    }

    /// The JSON number that stands at `place`, without people.
    pub(crate) fn replace_number(&mut self, place: Place<'_>, text: &str) -> String {
        if place.is_name {
            return "0".into();
        }
        let Some(digits) = whole(text) else { return text.to_owned() };
        let is_number = if place.is_phone { digits.len() >= MIN_PHONE } else { is_phone(place, &digits) };
        if is_number { self.number(&digits).trim_start_matches('+').to_owned() } else { text.to_owned() }
    }

    fn numbers_in(&mut self, place: Place<'_>, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        for found in NUMBER.find_iter(text) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            // Letters of other scripts stand beside numbers without being part of the same word.
            let joins = |c: char| c.is_ascii_alphanumeric() || digits::ascii(c).is_some() || matches!(c, '_' | '#');
            if before.is_some_and(joins) || after.is_some_and(joins) || !is_phone(place, found.as_str()) {
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
    pub(crate) fn number(&mut self, number: &str) -> String {
        // 555-01xx belongs to no one.
        stand_in(&mut self.numbers, &digits::of(number), |n| format!("+1555010{n:04}"))
    }

    fn name(&mut self, name: &str) -> String {
        stand_in(&mut self.names, name, |n| format!("Person {n}"))
    }
}

/// Fewest digits of a number where a key says that it is a phone's.
const MIN_PHONE: usize = 4;
/// A number with a fraction of nothing but zeros or an exponent, up to this, is read as a whole one.
const MAX_WHOLE: f64 = 1e15;

/// Whether a text is nothing but a number, as short as extensions are.
fn is_number(text: &str) -> bool {
    let is_part = |c: char| digits::ascii(c).is_some() || (!c.is_alphanumeric() && !c.is_control());
    digits::of(text).len() >= MIN_PHONE && text.chars().all(is_part)
}

/// The digits of a whole number, however JSON spells it: `2025550143`, `2025550143.0`, `2.025550143e9`.
fn whole(text: &str) -> Option<String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && (0.0..MAX_WHOLE).contains(&value)).then(|| format!("{value:.0}"))
}

/// Whether a run of digits is a phone number rather than a time, an amount or an identifier.
fn is_phone(place: Place<'_>, found: &str) -> bool {
    let plain = digits::of(found);
    let ascii: String = found.chars().map(|c| digits::ascii(c).unwrap_or(c)).collect();
    if !(7..=15).contains(&plain.len()) || DATE.is_match(&ascii) {
        return false;
    }
    let is_bare = found.chars().all(|c| digits::ascii(c).is_some());
    place.is_phone || !is_bare || (plain.len() >= 9 && !no_phone_key(place.key))
}

fn stand_in(known: &mut StandIns, text: &str, make: impl Fn(usize) -> String) -> String {
    let next = known.len() + 1;
    known.entry(text.to_lowercase()).or_insert_with(|| make(next)).clone()
}
