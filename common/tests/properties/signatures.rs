//! The signature header.

use callscope_common::signature::{SignatureError, SignatureHeader, sign};
use proptest::prelude::*;

fn verify(header: &str, secret: &[u8], body: &[u8], now: i64) -> Result<(), SignatureError> {
    SignatureHeader::parse(header)?.verify(&[secret], body, now, 1800)
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_nothing_else_does(
        secret in prop::collection::vec(any::<u8>(), 0..80),
        body in prop::collection::vec(any::<u8>(), 0..200),
        at in 0_i64..=4_000_000_000,
        skew in -3_000_i64..3_000,
        flip in any::<prop::sample::Index>(),
    ) {
        let header = sign(&secret, at, &body);
        let expected = match skew {
            1801.. => Err(SignatureError::TooOld),
            ..=-61 => Err(SignatureError::FromTheFuture),
            _ => Ok(()),
        };
        prop_assert_eq!(verify(&header, &secret, &body, at + skew), expected);
        let mut other = body.clone();
        other.push(b' ');
        prop_assert_eq!(verify(&header, &secret, &other, at), Err(SignatureError::Mismatch));
        let mut other = secret.clone();
        other.push(1);
        prop_assert_eq!(verify(&header, &other, &body, at), Err(SignatureError::Mismatch));
        // One digit of the digest is another one.
        let digits = header.rfind('=').unwrap() + 1;
        let at_digit = digits + flip.index(64);
        let other = if header.as_bytes()[at_digit] == b'0' { "1" } else { "0" };
        let mut forged = header.clone();
        forged.replace_range(at_digit..=at_digit, other);
        prop_assert_eq!(verify(&forged, &secret, &body, at), Err(SignatureError::Mismatch));
    }

    #[test]
    fn spelling_does_not_matter(
        at in 0_i64..=4_000_000_000,
        blanks in prop::collection::vec(" {0,3}", 6),
        noise in prop::collection::vec("[a-su-z]{1,5}=[a-z0-9]{0,8}|[a-z]{0,3}", 0..4),
        upper in any::<bool>(),
        last in any::<bool>(),
    ) {
        let header = sign(b"s", at, b"{}");
        let digest = header.rsplit('=').next().unwrap();
        let digest = if upper { digest.to_uppercase() } else { digest.to_owned() };
        let mut parts = noise;
        let [a, b, c, d, e, f] = <[String; 6]>::try_from(blanks).unwrap();
        let time = format!("{a}t{b}={c}{at}{a}");
        let value = format!("{d}v0{e}={f}{digest}{d}");
        parts.insert(parts.len() / 2, time);
        parts.insert(if last { parts.len() } else { 0 }, value);
        prop_assert_eq!(verify(&parts.join(","), b"s", b"{}", at), Ok(()));
    }

    #[test]
    fn no_header_panics_or_verifies_by_chance(header in "\\PC{0,120}|[tv01=,a-f0-9 ]{0,160}", now in any::<i64>()) {
        prop_assert_ne!(verify(&header, b"s", b"{}", now), Ok(()));
    }
}
