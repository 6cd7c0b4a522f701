//! Recordings: decodes them from a JSON string, and finds their media type.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use callscope_common::json;
use serde_json::value::RawValue;

/// The standard alphabet, with or without padding. The unused bits of the last character may be set.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes a recording in Base64 in any form: in either alphabet, with or without padding, in lines, or as a `data:`
/// URI. Returns `None` if it is not Base64 or empty.
#[must_use]
pub fn decode(value: &RawValue) -> Option<Vec<u8>> {
    let quoted = value.get().as_bytes();
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    // Nearly every recording is plain Base64 and is decoded in place, because an hour of audio should not be copied
    // first.
    let bytes = match LENIENT_BASE64.decode(inner) {
        Ok(bytes) => bytes,
        Err(_) => LENIENT_BASE64.decode(to_standard_base64(json::string(value)?)).ok()?,
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// Removes white space and the prefix of a `data:` URI, and maps the URL-safe alphabet to the standard one.
fn to_standard_base64(text: String) -> Vec<u8> {
    let mut text = text.into_bytes();
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let is_uri = text.get(start..start + 5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"));
    if is_uri && let Some(comma) = text.iter().position(|byte| *byte == b',') {
        text.drain(..=comma);
    }
    text.retain(|byte| !byte.is_ascii_whitespace());
    for byte in &mut text {
        match byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
    }
    text
}

/// Detects the media type of a recording by its first bytes. Anything unknown counts as `audio/mpeg`, which the
/// provider sends.
#[must_use]
pub fn content_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'R', b'I', b'F', b'F' | b'X', _, _, _, _, b'W', b'A', b'V', b'E', ..] => "audio/wav",
        [b'O', b'g', b'g', b'S', ..] => "audio/ogg",
        [b'f', b'L', b'a', b'C', ..] => "audio/flac",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "audio/mp4",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "audio/webm",
        // AAC in ADTS begins like MP3, but its layer is 0.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => "audio/aac",
        _ => "audio/mpeg",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Option<Vec<u8>> {
        decode(&serde_json::from_str::<Box<RawValue>>(json).expect("JSON"))
    }

    #[test]
    fn base64_in_any_form_is_decoded() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let standard = base64::prelude::BASE64_STANDARD.encode(&bytes);
        let lines = |end: &str| {
            standard
                .as_bytes()
                .chunks(76)
                .map(|line| String::from_utf8_lossy(line).into_owned() + end)
                .collect::<String>()
        };
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [
            standard.clone(),
            standard.trim_end_matches('=').to_owned(),
            lines("\n"),
            lines("\r\n"),
            url_safe.clone(),
            url_safe.trim_end_matches('=').to_owned(),
            format!("data:audio/mpeg;base64,{standard}"),
            format!(" DATA:audio/wav;codecs=1;base64,{}", lines("\n")),
            format!("\n{standard}\t"),
        ] {
            let quoted = serde_json::to_string(&text).expect("JSON");
            assert_eq!(decoded(&quoted).as_ref(), Some(&bytes), "{text}");
            assert_eq!(decoded(&quoted.replace('/', "\\/")).as_ref(), Some(&bytes), "{text}");
        }
    }

    #[test]
    fn anything_but_base64_is_refused() {
        for odd in ["null", "7", r#""***""#, r#""""#, r#""data:,""#, r#""data:audio/mpeg;base64""#, r#"["aGk="]"#] {
            assert_eq!(decoded(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_media_type_is_detected_by_the_first_bytes() {
        for (bytes, expected) in [
            (&b"RIFF\x24\0\0\0WAVEfmt "[..], "audio/wav"),
            (b"OggS\0\x02", "audio/ogg"),
            (b"fLaC\0\0\0\x22", "audio/flac"),
            (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
            (b"\x1a\x45\xdf\xa3", "audio/webm"),
            (b"ID3\x04\0", "audio/mpeg"),
            (b"\xff\xfb\x90\0", "audio/mpeg"),
            (b"\xff\xf1\x50\x80", "audio/aac"),
            (b"RIFF\x24\0\0\0AVI ", "audio/mpeg"),
            (b"", "audio/mpeg"),
        ] {
            assert_eq!(content_type(bytes), expected, "{bytes:?}");
        }
    }
}
