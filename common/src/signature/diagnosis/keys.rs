//! The ways in which senders change a secret by mistake.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What the sender did to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyChange {
    /// The secret is used as it is.
    None,
    /// A line feed was added, as in a file.
    NewlineAdded,
    /// CR LF was added, as in a file from Windows.
    CrLfAdded,
    /// A blank was added.
    BlankAdded,
    /// The blanks and line ends around our secret were removed.
    Trimmed,
    /// The secret was put into quotes, as in a settings file.
    Quoted,
    /// The quotes around our secret were removed.
    Unquoted,
    /// Everything up to the first `_` of the secret was removed.
    PrefixCut,
    /// The secret was decoded as Base64 without `whsec_`, as Standard Webhooks does.
    Base64Decoded,
    /// The secret was decoded as hex.
    HexDecoded,
    /// The sender's setting was empty.
    Empty,
    /// The sender's setting was missing in JavaScript, which made it the text `undefined`.
    Undefined,
    /// The sender's setting was missing in Python, which made it the text `None`.
    NoneText,
}

/// Returns every form of the secret that is tried. Equal forms are listed once.
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
