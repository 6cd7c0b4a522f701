//! Finds personal data in texts: phone numbers, e-mail addresses and names.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{StandIns, digits};

fn expression(text: &str) -> Regex {
    Regex::new(text).expect("a built-in expression is sound")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"));
/// Digits of any script, with the separators and invisible direction marks that may be between them.
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| expression(r"[+＋]?[(（]?\d(?:[\p{Zs}\p{Pd}\p{Cf}().（）．・/／]{0,3}\d){6,18}"));
static DATE: LazyLock<Regex> = LazyLock::new(|| expression(r"^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|^\d+\.\d+$"));
/// Two to four words in capitals or of a script without any.
static FULL_NAME: LazyLock<Regex> = LazyLock::new(|| {
    expression(
        r"^(?:[\p{Lu}\p{Lt}\p{Lo}][\p{L}\p{M}'’.-]*)(?: (?:[\p{Lu}\p{Lt}\p{Lo}][\p{L}\p{M}'’.-]*|de|da|del|van|von|der|bin|al)){1,3}$",
    )
});

/// Keys whose value is a person's name if the sender's own code chose the key (dynamic variables, collected data).
const OWN_NAME_KEYS: [&str; 14] = [
    "customer", "caller", "client", "patient", "guest", "contact", "member", "person", "owner", "tenant", "nombre",
    "vorname", "nachname", "prenom",
];
/// Keys that end in `name` and whose value is not a person's name.
const NON_PERSON_NAME_KEYS: [&str; 20] = [
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
const NON_PHONE_KEY_PARTS: [&str; 9] = ["time", "stamp", "secs", "_id", "sid", "date", "cost", "hash", "version"];
/// Minimum number of letters of a name that is searched for in texts. A shorter one would match too many words.
const MIN_NAME_LETTERS: usize = 3;

/// The people found so far, and their stand-ins.
#[derive(Debug, Default)]
pub(crate) struct People {
    names: StandIns,
    emails: StandIns,
    numbers: StandIns,
    /// Matches the names that occur in the present document.
    name_pattern: Option<Regex>,
}

/// What the path of a value says about the value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'k> {
    /// The key that describes the value.
    pub(crate) key: &'k str,
    /// Whether this key or one above it says that the value is a person's name.
    pub(crate) is_name: bool,
    /// Whether this key or one above it says that the value is a phone number.
    pub(crate) is_phone: bool,
}

/// Whether a key's value is a person's name. `is_own`: the sender's own code chose the key (dynamic variables,
/// collected data).
pub(crate) fn is_person_name_key(key: &str, is_own: bool) -> bool {
    let has_prefix = key.starts_with("system__");
    let key: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let is_own_name = || {
        OWN_NAME_KEYS.contains(&key.as_str())
            || (key.ends_with("name") && !NON_PERSON_NAME_KEYS.contains(&key.as_str()))
    };
    NAME_KEYS.contains(&key.as_str()) || (is_own && !has_prefix && is_own_name())
}

/// Whether a text has the form of a person's name. Other texts have this form too ("Gold Plan"), so only values from
/// the sender's own code are tested.
pub(crate) fn looks_like_name(text: &str) -> bool {
    FULL_NAME.is_match(text.trim())
}

/// Whether a key's value is a phone number, in any format.
pub(crate) fn is_phone_key(key: &str) -> bool {
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
fn is_non_phone_key(key: &str) -> bool {
    let key = key.to_lowercase();
    key == "id" || NON_PHONE_KEY_PARTS.iter().any(|part| key.contains(part))
}

impl People {
    /// Sets the names of a document, so that they are also found inside its texts.
    pub(crate) fn learn_names(&mut self, names: &[String]) {
        let mut words: Vec<&str> = Vec::new();
        for name in names {
            let name = name.trim();
            self.name_stand_in(name);
            let is_name = |text: &str| {
                text.chars().filter(|c| c.is_alphabetic()).count() >= MIN_NAME_LETTERS
                    && text.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '\'' | '-' | '.' | '’'))
            };
            words.extend(std::iter::once(name).chain(name.split_whitespace()).filter(|text| is_name(text)));
        }
        // Longer names come first, so that a full name is replaced as a whole.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let any: Vec<String> = words.iter().map(|word| regex::escape(word)).collect();
        self.name_pattern =
            (!any.is_empty()).then(|| Regex::new(&format!(r"(?i)\b(?:{})\b", any.join("|"))).ok()).flatten();
    }

    /// Returns the text at `place` with stand-ins for people.
    pub(crate) fn replace(&mut self, place: Place<'_>, text: &str) -> String {
        if place.key.contains("audio") && text.len() > 64 {
            return String::new();
        }
        if place.is_name && !text.trim().is_empty() {
            return self.name_stand_in(text.trim());
        }
        if place.is_phone && is_number(text) {
            return self.number_stand_in(text);
        }
        let text = EMAIL.replace_all(text, |found: &Captures<'_>| {
            stand_in(&mut self.emails, &found[0], |n| format!("person{n}@example.com"))
        });
        let text = self.replace_phone_numbers(place, &text);
        match self.name_pattern.take() {
            Some(known) => {
                let replaced =
                    known.replace_all(&text, |found: &Captures<'_>| self.name_stand_in(&found[0])).into_owned();
                self.name_pattern = Some(known);
                replaced
            }
            None => text,
        }
    }

    /// Returns the JSON number at `place`, or a stand-in if it is a phone number.
    pub(crate) fn replace_number(&mut self, place: Place<'_>, text: &str) -> String {
        if place.is_name {
            return "0".into();
        }
        let Some(digits) = whole_number_digits(text) else { return text.to_owned() };
        let is_number = if place.is_phone { digits.len() >= MIN_PHONE_DIGITS } else { is_phone_number(place, &digits) };
        if is_number { self.number_stand_in(&digits).trim_start_matches('+').to_owned() } else { text.to_owned() }
    }

    fn replace_phone_numbers(&mut self, place: Place<'_>, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        for found in NUMBER.find_iter(text) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            // Only ASCII letters count: some scripts write words next to numbers without a space.
            let joins = |c: char| c.is_ascii_alphanumeric() || digits::ascii(c).is_some() || matches!(c, '_' | '#');
            if before.is_some_and(joins) || after.is_some_and(joins) || !is_phone_number(place, found.as_str()) {
                continue;
            }
            replaced.push_str(&text[done..found.start()]);
            replaced.push_str(&self.number_stand_in(found.as_str()));
            done = found.end();
        }
        replaced.push_str(&text[done..]);
        replaced
    }

    /// Returns the stand-in for a phone number. All formats of one number have the same stand-in.
    pub(crate) fn number_stand_in(&mut self, number: &str) -> String {
        // Numbers of the form 555-01xx are reserved for fiction.
        stand_in(&mut self.numbers, &digits::of(number), |n| format!("+1555010{n:04}"))
    }

    fn name_stand_in(&mut self, name: &str) -> String {
        stand_in(&mut self.names, name, |n| format!("Person {n}"))
    }
}

/// Minimum number of digits of a phone number whose key says that it is one.
const MIN_PHONE_DIGITS: usize = 4;
/// Limit up to which a JSON number with a zero fraction or an exponent is read as a whole number.
const MAX_WHOLE_NUMBER: f64 = 1e15;

/// Whether a text is only a number, which may be as short as an extension.
fn is_number(text: &str) -> bool {
    let is_part = |c: char| digits::ascii(c).is_some() || (!c.is_alphanumeric() && !c.is_control());
    digits::of(text).len() >= MIN_PHONE_DIGITS && text.chars().all(is_part)
}

/// Returns the digits of a whole number in any JSON spelling: `2025550143`, `2025550143.0`, `2.025550143e9`.
fn whole_number_digits(text: &str) -> Option<String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    let value: f64 = text.parse().ok()?;
    (value.fract() == 0.0 && (0.0..MAX_WHOLE_NUMBER).contains(&value)).then(|| format!("{value:.0}"))
}

/// Whether a run of digits is a phone number rather than a time, an amount or an identifier.
fn is_phone_number(place: Place<'_>, found: &str) -> bool {
    let plain = digits::of(found);
    let ascii: String = found.chars().map(|c| digits::ascii(c).unwrap_or(c)).collect();
    if !(7..=15).contains(&plain.len()) || DATE.is_match(&ascii) {
        return false;
    }
    let is_bare = found.chars().all(|c| digits::ascii(c).is_some());
    place.is_phone || !is_bare || (plain.len() >= 9 && !is_non_phone_key(place.key))
}

fn stand_in(known: &mut StandIns, text: &str, make: impl Fn(usize) -> String) -> String {
    let next = known.len() + 1;
    known.entry(text.to_lowercase()).or_insert_with(|| make(next)).clone()
}
