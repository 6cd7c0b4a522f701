//! Decides which dynamic variables name a call.
//!
//! The names that a platform itself states are believed. Dynamic variables also arrive under the platform's signature,
//! but a caller's client can set them, so they name no call. There are two exceptions. One is the link that registering
//! a call returned, which no one else can guess. The other is a variable that only the operator's backend sets, as the
//! operator has declared.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use callscope_common::json::Object;
use callscope_common::{CallId, Identifier};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The dynamic variable that holds a link.
pub const LINK_VARIABLE: &str = "callscope_link";
/// Bytes of the authentication code in a link.
const MAC_LEN: usize = 16;
/// Bytes of a call id.
const ID_LEN: usize = 16;

/// Makes and reads the links of calls.
///
/// A link is the `call_id` and an HMAC-SHA256 of it, cut to 16 bytes, in URL-safe base64: 43 characters.
#[derive(Clone)]
pub struct CallLinks(Vec<Secret>);

impl std::fmt::Debug for CallLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Links")
    }
}

impl CallLinks {
    /// Uses the keys that sign tokens: the first one makes links, any of them reads links.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self(secrets.to_vec())
    }

    /// Returns the link to a call, or `None` without a key.
    #[must_use]
    pub fn link_to(&self, call_id: CallId) -> Option<String> {
        let mac = mac(self.0.first()?, call_id);
        Some(BASE64_URL_SAFE_NO_PAD.encode([&call_id.as_bytes()[..], &mac].concat()))
    }

    /// Returns the call that a link was made for, or `None` for anything else.
    #[must_use]
    pub fn call_of(&self, link: &str) -> Option<CallId> {
        let mut bytes = [0; ID_LEN + MAC_LEN];
        let len = BASE64_URL_SAFE_NO_PAD.decode_slice(link.trim(), &mut bytes).ok()?;
        let (id, given_mac) = bytes.split_at_checked(ID_LEN).filter(|_| len == ID_LEN + MAC_LEN)?;
        let call_id = CallId::from_slice(id).ok()?;
        self.0.iter().any(|secret| bool::from(mac(secret, call_id).ct_eq(given_mac))).then_some(call_id)
    }
}

fn mac(secret: &Secret, call_id: CallId) -> [u8; MAC_LEN] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_ref()).expect("HMAC takes keys of any length");
    // The same key signs tokens. Because of this prefix, no link verifies as a token, and no token as a link.
    mac.update(b"callscope link 1\0");
    mac.update(call_id.as_bytes());
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let mut truncated = [0; MAC_LEN];
    truncated.copy_from_slice(&full[..MAC_LEN]);
    truncated
}

/// Decides which dynamic variables name a call.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Reads the links of calls.
    pub links: CallLinks,
    /// The variable that only the operator's own backend sets, if one is declared.
    pub trusted_variable: Option<String>,
}

impl Naming {
    /// Accepts links and no trusted variable.
    #[must_use]
    pub fn by_links(links: CallLinks) -> Self {
        Self { links, trusted_variable: None }
    }

    /// Returns the `call_id` of the call that the variables link to.
    pub(super) fn linked_call(&self, variables: &Object<'_>) -> Option<Identifier> {
        let call_id = self.links.call_of(&variables.string(LINK_VARIABLE)?)?;
        Identifier::parse(&call_id.to_string()).ok()
    }

    /// Returns the identifier in the trusted variable.
    pub(super) fn trusted_identifier(&self, variables: &Object<'_>) -> Option<Identifier> {
        let text = variables.string(self.trusted_variable.as_deref()?)?;
        Identifier::parse(text.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn links(secrets: &[&str]) -> CallLinks {
        CallLinks::new(&secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn a_link_leads_to_its_call_and_cannot_be_made_without_the_key() {
        let (call_id, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let link = links(&["new", "old"]).link_to(call_id).expect("a key");
        assert_eq!(links(&["new"]).call_of(&link), Some(call_id));
        assert_eq!(links(&["newer", "new"]).call_of(&link), Some(call_id));
        assert_eq!(links(&["another"]).call_of(&link), None);
        let forged =
            BASE64_URL_SAFE_NO_PAD.encode([&other.as_bytes()[..], &mac(&Secret::new("new".into()), call_id)].concat());
        for wrong in
            ["", "x", &call_id.to_string(), &forged, &link[..42], &format!("{link}A"), &format!("{link}{link}")]
        {
            assert_eq!(links(&["new"]).call_of(wrong), None, "{wrong}");
        }
    }
}
