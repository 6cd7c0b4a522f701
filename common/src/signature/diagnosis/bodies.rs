//! Bodies as they may have been before something on the way changed them.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::headers::Found;
use crate::json_style::{self, Style};
use crate::signature::HEADER;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the body that was signed differs from the one at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyChange {
    /// It is the same JSON, written in this style.
    Reserialised(Style),
    /// The same, and a line feed behind it.
    ReserialisedLine(Style),
    /// It had no line end at its end, this one has.
    NewlineAdded,
    /// It had blanks or line ends around it or none of those that are around this one.
    BlanksTrimmed,
    /// It had a line feed at its end,
    NewlineRemoved,
    /// or CR LF.
    CrLfRemoved,
    /// Its lines ended in CR LF, these end in LF.
    CrLfToLf,
    /// Its lines ended in LF, these end in CR LF.
    LfToCrLf,
    /// It had no byte order mark,
    BomAdded,
    /// or it had one.
    BomRemoved,
    /// This one was read as Latin-1 and written as UTF-8.
    Mojibake,
    /// It is the JSON text that this one holds as a string.
    Stringified,
    /// It was this one as a string of JSON.
    StringParsed,
    /// It was empty.
    Empty,
}

/// The body itself, and every body it may have been; the likeliest first. Re-serialising stops at `budget` bytes.
pub(super) fn variants(body: &[u8], budget: u64) -> Vec<(Option<BodyChange>, Cow<'_, [u8]>)> {
    let mut variants: Vec<(Option<BodyChange>, Cow<'_, [u8]>)> = vec![(None, Cow::Borrowed(body))];
    let mut add = |change: BodyChange, bytes: Option<Cow<'static, [u8]>>| {
        if let Some(bytes) = bytes
            && variants.iter().all(|(_, known)| known.as_ref() != bytes.as_ref())
        {
            variants.push((Some(change), bytes));
        }
    };
    // Each costs a copy of the body, so a body that leaves no budget for trying them gets none.
    if (body.len() as u64).saturating_mul(4) > budget {
        return variants;
    }
    let owned = |bytes: &[u8]| Some(Cow::Owned(bytes.to_vec()));
    let without_end = body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n"));
    add(BodyChange::NewlineAdded, without_end.and_then(owned));
    add(BodyChange::NewlineRemoved, owned(&[body, b"\n"].concat()));
    add(BodyChange::CrLfRemoved, owned(&[body, b"\r\n"].concat()));
    add(BodyChange::BlanksTrimmed, owned(body.trim_ascii()));
    add(BodyChange::CrLfToLf, owned(&with_crlf(body)));
    add(BodyChange::LfToCrLf, owned(&without_cr(body)));
    add(BodyChange::BomAdded, body.strip_prefix(BOM).and_then(owned));
    let text = std::str::from_utf8(body.strip_prefix(BOM).unwrap_or(body)).ok();
    if let Some(text) = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        for style in json_style::all() {
            let mut written = json_style::write(text, style);
            add(BodyChange::Reserialised(style), owned(written.as_bytes()));
            written.push('\n');
            add(BodyChange::ReserialisedLine(style), owned(written.as_bytes()));
        }
        add(BodyChange::Stringified, serde_json::from_str::<String>(text).ok().and_then(|text| owned(text.as_bytes())));
    }
    add(BodyChange::BomRemoved, owned(&[BOM, body].concat()));
    add(BodyChange::Mojibake, text.and_then(latin1).and_then(|bytes| owned(&bytes)));
    add(BodyChange::StringParsed, text.and_then(|text| serde_json::to_vec(text).ok()).map(Cow::Owned));
    add(BodyChange::Empty, Some(Cow::Borrowed(b"")));
    variants
}

fn without_cr(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len());
    for (at, byte) in body.iter().enumerate() {
        if *byte != b'\r' || body.get(at + 1) != Some(&b'\n') {
            bytes.push(*byte);
        }
    }
    bytes
}

fn with_crlf(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len());
    for byte in without_cr(body) {
        if byte == b'\n' {
            bytes.push(b'\r');
        }
        bytes.push(byte);
    }
    bytes
}

/// The bytes whose Latin-1 reading `text` is, where there is more in it than ASCII.
fn latin1(text: &str) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return None;
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// What is odd about a request that no cause explains.
pub(super) fn hints(body: &[u8], found: &[Found<'_>]) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if body.is_empty() {
        hints.push("the body is empty: something may have read it before");
    } else if let Ok(text) = std::str::from_utf8(body)
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
    {
        if json_style::write(text, json_style::WIRE) != text {
            hints.push(
                "the body is not written as ElevenLabs writes it (Python's json.dumps: a blank behind each comma and colon, \
                 \\u escapes): it may have been parsed and written anew in a way that cannot be undone",
            );
        }
    } else {
        hints.push("the body is no JSON: is it all of it, and is it decompressed?");
    }
    if !found.iter().any(|found| found.name.eq_ignore_ascii_case(HEADER)) {
        hints.push("there is no header ElevenLabs-Signature, and none of the other signatures fits");
    }
    if found.iter().all(|found| found.timestamp.is_none()) {
        hints.push("no signed time was found beside the digest");
    }
    hints.push(
        "the secret may be another one than all that were tried: ElevenLabs shows it once, when the webhook is made",
    );
    hints
}
