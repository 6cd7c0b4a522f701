//! Bodies that were encoded on the way: compressed, in Base64, or as a form.

use std::io::Read;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::PIECE_BYTES;
use crate::json_style::{Full, Sink};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the body begins like gzip or zlib.
pub(super) fn is_compressed(body: &[u8]) -> bool {
    matches!(body, [0x1f, 0x8b, 8, ..] | [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..])
}

/// Writes the decompressed body as far as it can be read. The sink stops a body that expands too far.
pub(super) fn decompress(body: &[u8], out: &mut impl Sink) -> Result<(), Full> {
    let mut gzip;
    let mut zlib;
    let reader: &mut dyn Read = if body.starts_with(&[0x1f]) {
        gzip = flate2::read::MultiGzDecoder::new(body);
        &mut gzip
    } else {
        zlib = flate2::read::ZlibDecoder::new(body);
        &mut zlib
    };
    let mut piece = [0; PIECE_BYTES];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        out.put(piece.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// Decodes Base64 in either alphabet, with or without lines and quotes.
pub(super) fn decode_base64(body: &[u8]) -> Option<Vec<u8>> {
    let body = body.trim_ascii();
    let body = body.strip_prefix(b"\"").and_then(|body| body.strip_suffix(b"\"")).unwrap_or(body);
    // Nearly any JSON has a brace, blank or colon in its first bytes, so this check rarely reads further.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(byte);
    if body.len() < 8 || !body.iter().all(is_base64) {
        return None;
    }
    let plain = |byte: &u8| match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'\r' | b'\n' => None,
        byte => Some(*byte),
    };
    let text: Vec<u8> = body.iter().filter_map(plain).collect();
    BASE64.decode(text).ok()
}

/// Whether the body may be a form: ASCII without whitespace, with a `=` or a `%`.
pub(super) fn is_form(body: &[u8]) -> bool {
    body.is_ascii() && !body.iter().any(u8::is_ascii_whitespace) && body.iter().any(|byte| matches!(byte, b'%' | b'='))
}

/// Returns the encoded value of the first field that holds JSON.
pub(super) fn form_field(body: &[u8]) -> Option<&[u8]> {
    if !is_form(body) {
        return None;
    }
    let value = |pair: &'_ [u8]| pair.iter().position(|byte| *byte == b'=').map(|at| at + 1);
    let mut values = body.split(|byte| *byte == b'&').filter_map(|pair| pair.get(value(pair)?..));
    values.find(|value| {
        let start = value.get(..3).unwrap_or(value);
        value.starts_with(b"{")
            || value.starts_with(b"[")
            || start.eq_ignore_ascii_case(b"%7b")
            || start.eq_ignore_ascii_case(b"%5b")
    })
}

/// Writes `text` without its percent-encoding and with `+` as a blank.
pub(super) fn decode_form(text: &[u8], out: &mut impl Sink) -> Result<(), Full> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut piece: Vec<u8> = Vec::with_capacity(PIECE_BYTES);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let encoded = if *byte == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        let decoded = encoded.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        at += if decoded.is_some() { 3 } else { 1 };
        piece.push(decoded.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        if piece.len() >= PIECE_BYTES {
            out.put(&piece)?;
            piece.clear();
        }
    }
    out.put(&piece)
}
