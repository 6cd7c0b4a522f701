//! Secrets as senders get them wrong.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What the sender did to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyChange {
    /// Nothing.
    None,
    /// A line feed behind it, as in a file.
    NewlineAdded,
    /// CR LF behind it, as in a file from Windows.
    CrLfAdded,
    /// A blank behind it.
    BlankAdded,
    /// Blanks and line ends around it taken off, which belong to ours.
    Trimmed,
    /// Quotes around it, as in a file of settings.
    Quoted,
    /// Without the quotes that are around ours.
    Unquoted,
    /// Without what stands before its first `_`.
    PrefixCut,
    /// Decoded as Base64, without `whsec_`, as Standard Webhooks does.
    Base64Decoded,
    /// Decoded as hex.
    HexDecoded,
    /// None at all: the sender's setting was empty,
    Empty,
    /// or missing, in JavaScript,
    Undefined,
    /// or missing, in Python.
    NoneText,
}

/// The secret in every form worth trying; equal forms once.
pub(super) fn variants(secret: &[u8]) -> Vec<(KeyChange, Vec<u8>)> {
    let trimmed = secret.trim_ascii();
    let unquoted = |quote: u8| trimmed.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    let cut = trimmed.iter().position(|byte| *byte == b'_').map(|at| &trimmed[at + 1..]);
    let base64 = trimmed.strip_prefix(b"whsec_").unwrap_or(trimmed);
    let forms = [
        (KeyChange::None, Some(secret.to_vec())),
        (KeyChange::NewlineAdded, Some([trimmed, b"\n"].concat())),
        (KeyChange::Trimmed, Some(trimmed.to_vec())),
        (KeyChange::CrLfAdded, Some([trimmed, b"\r\n"].concat())),
        (KeyChange::BlankAdded, Some([trimmed, b" "].concat())),
        (KeyChange::Quoted, Some([b"\"", trimmed, b"\""].concat())),
        (KeyChange::Quoted, Some([b"'", trimmed, b"'"].concat())),
        (KeyChange::Unquoted, unquoted(b'"').or_else(|| unquoted(b'\'')).map(<[u8]>::to_vec)),
        (KeyChange::PrefixCut, cut.filter(|rest| !rest.is_empty()).map(<[u8]>::to_vec)),
        (KeyChange::Base64Decoded, BASE64_STANDARD.decode(base64).ok()),
        (KeyChange::HexDecoded, hex(cut.unwrap_or(trimmed)).or_else(|| hex(trimmed))),
        (KeyChange::Empty, Some(Vec::new())),
        (KeyChange::Undefined, Some(b"undefined".to_vec())),
        (KeyChange::NoneText, Some(b"None".to_vec())),
    ];
    let mut variants: Vec<(KeyChange, Vec<u8>)> = Vec::new();
    for (change, form) in forms {
        if let Some(form) = form
            && variants.iter().all(|(_, known)| *known != form)
        {
            variants.push((change, form));
        }
    }
    variants
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}
