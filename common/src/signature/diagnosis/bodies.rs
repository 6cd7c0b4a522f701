//! The bodies that may have been signed before something on the way changed them.
//!
//! No body is kept in memory. Each is written piece by piece into the digests, which return an error once the budget
//! is spent.

mod encodings;
mod floats;

use serde::de::IgnoredAny;

use super::headers::FoundSignature;
use crate::json;
use crate::json_style::{self, Full, Sink, Style, Writing};
use crate::signature::HEADER;
pub(super) use floats::Floats;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the signed body differs from the received one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyChange {
    /// The signed body is the same JSON in this style.
    Reserialised(Style),
    /// The signed body is the same JSON in this style, followed by a line feed.
    ReserialisedLine(Style),
    /// The signed body is the same JSON in this style, with the `.0` of whole numbers that JavaScript drops.
    FractionsLost(Style),
    /// A line end was added at the end.
    NewlineAdded,
    /// Blanks or line ends around the body were added or removed.
    BlanksTrimmed,
    /// A line feed at the end was removed.
    NewlineRemoved,
    /// CR LF at the end was removed.
    CrLfRemoved,
    /// The ends of lines were changed from CR LF to LF.
    CrLfToLf,
    /// The ends of lines were changed from LF to CR LF.
    LfToCrLf,
    /// A byte order mark was added.
    BomAdded,
    /// A byte order mark was removed.
    BomRemoved,
    /// The body was read as Latin-1 and written as UTF-8.
    Mojibake,
    /// The body was put into a JSON string.
    Stringified,
    /// The body was taken out of a JSON string.
    StringParsed,
    /// The body was compressed with gzip or zlib.
    Compressed,
    /// The body was encoded in Base64.
    Base64,
    /// The whole body was encoded as a form.
    FormEncoded,
    /// The body became the value of a field of a form.
    FormField,
    /// An empty body was signed.
    Empty,
}

/// The received body, as the source of all bodies that may have been signed.
#[derive(Debug)]
pub(super) struct Bodies<'b> {
    body: &'b [u8],
    /// The body as text without a byte order mark, if it is UTF-8.
    text: Option<&'b str>,
    /// The text, if it is JSON.
    json: Option<&'b str>,
    floats: Floats<'b>,
}

impl<'b> Bodies<'b> {
    pub fn of(body: &'b [u8]) -> Self {
        let text = std::str::from_utf8(body.strip_prefix(BOM).unwrap_or(body)).ok();
        let json = text.filter(|text| is_json(text));
        Self { body, text, json, floats: Floats::of(json) }
    }

    /// Returns the body as it was received.
    pub fn body(&self) -> &'b [u8] {
        self.body
    }

    /// Returns the body as text, if it is JSON.
    pub fn json(&self) -> Option<&'b str> {
        self.json
    }

    /// Returns the fields that may have lost their fractions.
    pub fn floats(&self) -> &Floats<'b> {
        &self.floats
    }

    /// Returns every change that yields a different body, the likeliest first. [`BodyChange::ReserialisedLine`] is not
    /// among them, because it is tried together with [`BodyChange::Reserialised`].
    pub fn changes(&self) -> Vec<BodyChange> {
        let body = self.body;
        let mut changes = Vec::new();
        let mut add = |change: BodyChange, applies: bool| {
            if applies {
                changes.push(change);
            }
        };
        let without_end = without_line_end(body);
        add(BodyChange::NewlineAdded, without_end.is_some());
        add(BodyChange::NewlineRemoved, true);
        add(BodyChange::CrLfRemoved, true);
        let trimmed = body.trim_ascii();
        add(BodyChange::BlanksTrimmed, trimmed.len() < without_end.unwrap_or(body).len());
        let (has_lf, has_crlf) = line_ends(body);
        add(BodyChange::CrLfToLf, has_lf);
        add(BodyChange::LfToCrLf, has_crlf);
        add(BodyChange::BomAdded, body.starts_with(BOM));
        if let Some(json) = self.json {
            let writings = writings(json);
            for style in json_style::all().filter(|style| writings.contains(&style.writing)) {
                add(BodyChange::Reserialised(style), true);
            }
            for style in self.floats.styles() {
                add(BodyChange::FractionsLost(style), true);
            }
            add(BodyChange::Stringified, json.trim_start().starts_with('"'));
        } else {
            add(BodyChange::Compressed, encodings::is_compressed(body));
            add(BodyChange::FormEncoded, encodings::is_form(body));
            add(BodyChange::FormField, encodings::form_field(body).is_some());
        }
        add(BodyChange::Base64, encodings::decode_base64(body).is_some());
        add(BodyChange::BomRemoved, true);
        add(BodyChange::Mojibake, self.text.is_some_and(is_latin1));
        add(BodyChange::StringParsed, self.text.is_some());
        add(BodyChange::Empty, !body.is_empty());
        changes
    }

    /// Writes the body that was signed if `change` is what happened on the way: undoes the change.
    pub fn write(&self, change: BodyChange, out: &mut impl Sink) -> Result<(), Full> {
        let body = self.body;
        let (text, json) = (self.text.unwrap_or_default(), self.json.unwrap_or_default());
        match change {
            BodyChange::Reserialised(style) | BodyChange::ReserialisedLine(style) => {
                json_style::write_to(json, style, out)
            }
            BodyChange::FractionsLost(style) => self.floats.write(json, style, self.floats.likely_set(), out),
            BodyChange::NewlineAdded => out.put(without_line_end(body).unwrap_or(body)),
            BodyChange::BlanksTrimmed => out.put(body.trim_ascii()),
            BodyChange::NewlineRemoved => out.put(body).and_then(|()| out.put(b"\n")),
            BodyChange::CrLfRemoved => out.put(body).and_then(|()| out.put(b"\r\n")),
            BodyChange::CrLfToLf => write_lines(body, b"\r\n", out),
            BodyChange::LfToCrLf => write_lines(body, b"\n", out),
            BodyChange::BomAdded => out.put(body.strip_prefix(BOM).unwrap_or(body)),
            BodyChange::BomRemoved => out.put(BOM).and_then(|()| out.put(body)),
            BodyChange::Mojibake => write_latin1(text, out),
            BodyChange::Stringified => out.put(serde_json::from_str::<String>(json).unwrap_or_default().as_bytes()),
            BodyChange::StringParsed => write_quoted(text, out),
            BodyChange::Compressed => encodings::decompress(body, out),
            BodyChange::Base64 => out.put(&encodings::decode_base64(body).unwrap_or_default()),
            BodyChange::FormEncoded => encodings::decode_form(body.strip_suffix(b"=").unwrap_or(body), out),
            BodyChange::FormField => encodings::decode_form(encodings::form_field(body).unwrap_or_default(), out),
            BodyChange::Empty => Ok(()),
        }
    }
}

/// Whether the text is JSON, with `NaN` and the infinities as values, which many encoders write. Does not recurse.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(&json::replace_not_numbers(text)).is_ok()
}

/// Returns the spellings of texts and numbers in which this JSON differs.
fn writings(json: &str) -> Vec<Writing> {
    let has_texts = json.bytes().any(|byte| byte == b'\\' || !matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'));
    // Digits with a point or an exponent also count inside texts: this only tries more than is needed.
    let mut before = b' ';
    let has_fractions = json
        .bytes()
        .any(|byte| std::mem::replace(&mut before, byte).is_ascii_digit() && matches!(byte, b'.' | b'e' | b'E'));
    match (has_texts, has_fractions) {
        (false, false) => vec![Writing::Kept],
        (false, true) => vec![Writing::Kept, Writing::Python, Writing::JavaScript],
        (true, false) => vec![Writing::Kept, Writing::Python, Writing::JavaScript],
        (true, true) => vec![Writing::Kept, Writing::Python, Writing::JavaScript, Writing::PythonUnescaped],
    }
}

fn without_line_end(body: &[u8]) -> Option<&[u8]> {
    body.strip_suffix(b"\r\n").or_else(|| body.strip_suffix(b"\n"))
}

/// Returns whether a line ends in LF alone, and whether a line ends in CR LF.
fn line_ends(body: &[u8]) -> (bool, bool) {
    let mut before = 0;
    let (mut has_lf, mut has_crlf) = (false, false);
    for byte in body {
        if *byte == b'\n' {
            has_crlf |= before == b'\r';
            has_lf |= before != b'\r';
        }
        before = *byte;
    }
    (has_lf, has_crlf)
}

/// Writes `body` with `end` at the end of each line.
fn write_lines(body: &[u8], end: &[u8], out: &mut impl Sink) -> Result<(), Full> {
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        match without_line_end(line) {
            Some(line) => out.put(line).and_then(|()| out.put(end))?,
            None => out.put(line)?,
        }
    }
    Ok(())
}

/// Whether every character is one of Latin-1, and at least one is not ASCII.
fn is_latin1(text: &str) -> bool {
    !text.is_ascii() && text.chars().all(|c| u32::from(c) <= 0xff)
}

/// Writes `text` in Latin-1.
fn write_latin1(text: &str, out: &mut impl Sink) -> Result<(), Full> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for c in text.chars() {
        piece.extend(u8::try_from(u32::from(c)).ok());
        if piece.len() >= PIECE_BYTES {
            out.put(&piece)?;
            piece.clear();
        }
    }
    out.put(&piece)
}

/// Number of bytes that are collected before they are written.
const PIECE_BYTES: usize = 4 << 10;

/// Writes `text` as a JSON string.
fn write_quoted(text: &str, out: &mut impl Sink) -> Result<(), Full> {
    struct SinkWriter<'s, S>(&'s mut S);
    impl<S: Sink> std::io::Write for SinkWriter<'_, S> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.put(bytes).map(|()| bytes.len()).map_err(std::io::Error::other)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(SinkWriter(out), text).map_err(|_| Full)
}

/// A sink that stops at the first difference from an expected text.
struct FirstDifference<'t>(&'t [u8]);

impl Sink for FirstDifference<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0 = self.0.strip_prefix(bytes).ok_or(Full)?;
        Ok(())
    }
}

/// Returns what is unusual about a request that no cause explains.
pub(super) fn hints(bodies: &Bodies<'_>, found: &[FoundSignature<'_>]) -> Vec<&'static str> {
    let mut hints = Vec::new();
    if bodies.body.is_empty() {
        hints.push("the body is empty: something may have read it before");
    } else if let Some(text) = bodies.json {
        let mut differs = FirstDifference(text.as_bytes());
        if json_style::write_to(text, json_style::WIRE, &mut differs).is_err() || !differs.0.is_empty() {
            hints.push(
                "the body is not written as ElevenLabs writes it (Python's json.dumps: a blank behind each comma and \
                 colon, \\u escapes): it may have been parsed and serialised again in a way that cannot be undone",
            );
        }
    } else {
        hints.push("the body is not JSON: is it complete, and is it decompressed?");
    }
    if !found.iter().any(|found| found.name.eq_ignore_ascii_case(HEADER)) {
        hints.push("there is no header ElevenLabs-Signature, and none of the other signatures fits");
    }
    if found.iter().all(|found| found.timestamp.is_none()) {
        hints.push("no signed time was found beside the digest");
    }
    hints.push("the secret may be none of those that were tried: ElevenLabs shows it once, when the webhook is made");
    hints
}
