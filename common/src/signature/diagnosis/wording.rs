//! The wording of causes: a short code for programs, what happened, and what to do.

use serde::Serialize;

use super::{BodyChange, Cause, Diagnosis, KeyChange, Message, Scheme, Separators, Style, Writing};

/// A diagnosis for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the signature is accepted.
    pub accepted: bool,
    /// [`Diagnosis::summary`].
    pub summary: String,
    /// The causes, or what stricter receivers would refuse.
    pub causes: Vec<ExplainedCause>,
    /// Facts that may help to find the cause, if no known cause fits.
    pub hints: Vec<&'static str>,
    /// Whether causes were not tried.
    pub unfinished: bool,
}

/// A cause for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedCause {
    /// [`Cause::code`].
    pub code: &'static str,
    /// [`Cause::what`].
    pub what: String,
    /// [`Cause::remedy`].
    pub remedy: &'static str,
}

impl From<&Diagnosis> for Explanation {
    fn from(diagnosis: &Diagnosis) -> Self {
        let (hints, unfinished) = match diagnosis {
            Diagnosis::Unexplained { hints, unfinished } => (hints.clone(), *unfinished),
            _ => (Vec::new(), false),
        };
        let cause = |cause: &Cause| ExplainedCause { code: cause.code(), what: cause.what(), remedy: cause.remedy() };
        Self {
            accepted: matches!(diagnosis, Diagnosis::Accepted { .. }),
            summary: diagnosis.summary(),
            causes: diagnosis.causes().iter().map(cause).collect(),
            hints,
            unfinished,
        }
    }
}

impl Diagnosis {
    /// Returns the causes, or what stricter receivers would refuse.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        match self {
            Self::Accepted { remarks } => remarks,
            Self::Explained { causes } => causes,
            Self::Unexplained { .. } => &[],
        }
    }

    /// Returns the diagnosis in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let causes: Vec<String> = self.causes().iter().map(Cause::what).collect();
        match self {
            Self::Accepted { .. } if causes.is_empty() => "the signature fits".into(),
            Self::Accepted { .. } => format!("the signature fits; {}", causes.join("; ")),
            Self::Explained { .. } => causes.join("; "),
            Self::Unexplained { .. } => "none of the known causes fits".into(),
        }
    }
}

impl Cause {
    /// Returns a name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSignature => "no_signature",
            Self::Malformed { .. } => "malformed_header",
            Self::OtherHeader { .. } => "other_header",
            Self::OtherScheme(Scheme::Stripe) => "stripe_scheme",
            Self::OtherScheme(Scheme::StandardWebhooks) => "standard_webhooks_scheme",
            Self::OtherScheme(Scheme::GitHub) => "github_scheme",
            Self::OtherScheme(Scheme::Slack) => "slack_scheme",
            Self::OtherScheme(Scheme::ElevenLabs) => "elevenlabs_scheme",
            Self::OtherTag { .. } => "other_tag",
            Self::Base64Digest => "base64_digest",
            Self::Signed(_) => "other_message_signed",
            Self::Body(change) => body_code(*change),
            Self::Secret { in_use: false, .. } => "other_secret",
            Self::Secret { change, .. } => key_code(*change),
            Self::Milliseconds => "milliseconds",
            Self::NoWholeSeconds => "no_whole_seconds",
            Self::TooOld { .. } => "too_old",
            Self::FromTheFuture { .. } => "from_the_future",
            Self::UppercaseHex => "uppercase_hex",
            Self::Blanks => "blanks",
        }
    }

    /// Returns what happened. Names of headers and secrets in it are untrusted.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::NoSignature => "no header holds a signature".into(),
            Self::Malformed { what } => format!("the signature header lacks {what}"),
            Self::OtherHeader { name } => format!("the signature is in the header {name}"),
            Self::OtherScheme(scheme) => scheme_words(*scheme).into(),
            Self::OtherTag { tag } => format!("the digest is under {tag}= instead of v0="),
            Self::Base64Digest => "the digest is written in Base64 instead of hex".into(),
            Self::Signed(message) => message_words(*message).into(),
            Self::Body(change) => body_words(*change),
            Self::Secret { label, in_use: false, change: KeyChange::None } => {
                format!("it was signed with another known secret: {label}")
            }
            Self::Secret { label, in_use, change } => {
                let other = if *in_use { "" } else { "another known secret, and " };
                format!("it was signed with {other}{} ({label})", key_words(*change))
            }
            Self::Milliseconds => "the time is in milliseconds; t= is in seconds".into(),
            Self::NoWholeSeconds => "the time is not a whole number of seconds".into(),
            Self::TooOld { secs, allowed } => {
                format!(
                    "it was signed {} before it came; {} are allowed{}",
                    span(*secs),
                    span(*allowed),
                    zone_hint(*secs)
                )
            }
            Self::FromTheFuture { secs } => {
                format!("its time lies {} in the future; a minute is allowed{}", span(*secs), zone_hint(*secs))
            }
            Self::UppercaseHex => "the digest is in capitals, which receivers that compare texts refuse".into(),
            Self::Blanks => "there are blanks around the header's parts, which the vendor's SDKs refuse".into(),
        }
    }

    /// Returns what to do about the cause.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoSignature => "sign the body and send the header ElevenLabs-Signature; does a proxy drop it?",
            Self::Malformed { .. } => "the header is ElevenLabs-Signature: t=<unix secs>,v0=<hex of the digest>",
            Self::OtherHeader { .. } => "send it as ElevenLabs-Signature; proxies and frameworks may rename headers",
            Self::OtherScheme(_) | Self::OtherTag { .. } => {
                "ElevenLabs signs \"<t>.<raw body>\" with HMAC-SHA256 and sends t=<unix secs>,v0=<hex>"
            }
            Self::Base64Digest | Self::UppercaseHex => "write the digest as 64 hex digits in small letters",
            Self::Signed(_) => "sign the time, a dot, and the raw body, in this order",
            Self::Body(_) => "verify the bytes as they came, before any parser, editor or proxy touches them",
            Self::Secret { in_use: false, .. } => {
                "give both sides the same secret; while rotating, the receiver knows both"
            }
            Self::Secret { .. } => "give both sides exactly the same bytes: no line end, blank, quotes or decoding",
            Self::Milliseconds | Self::NoWholeSeconds => "sign and send whole Unix seconds",
            Self::TooOld { .. } => "sign each attempt with the present time; check the clocks of both machines",
            Self::FromTheFuture { .. } => "check the clocks of both machines, and that the time is UTC",
            Self::Blanks => "send t=…,v0=… without blanks",
        }
    }
}

fn scheme_words(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::ElevenLabs => "it is signed as ElevenLabs does",
        Scheme::Stripe => "it is signed as Stripe does: t=…,v1=…",
        Scheme::StandardWebhooks => {
            "it is signed as Standard Webhooks say: webhook-id, webhook-timestamp and webhook-signature: v1,…"
        }
        Scheme::GitHub => "it is signed as GitHub does: sha256=… over the body alone",
        Scheme::Slack => "it is signed as Slack does: v0=… over v0:<time>:<body>",
    }
}

fn message_words(message: Message) -> &'static str {
    match message {
        Message::TimeDotBody => "<t>.<body> was signed",
        Message::IdTimeBody => "<id>.<t>.<body> was signed instead of <t>.<body>",
        Message::VersionTimeBody => "v0:<t>:<body> was signed instead of <t>.<body>",
        Message::BodyAlone => "the body alone was signed, without the time before it",
        Message::TimeBody => "the time and the body were signed without the dot between them",
        Message::MillisDotBody => "the time was signed in milliseconds and sent in seconds",
    }
}

fn body_code(change: BodyChange) -> &'static str {
    match change {
        BodyChange::Reserialised(_) | BodyChange::ReserialisedLine(_) | BodyChange::FractionsLost(_) => {
            "body_reserialised"
        }
        BodyChange::NewlineAdded | BodyChange::BlanksTrimmed => "newline_added",
        BodyChange::NewlineRemoved | BodyChange::CrLfRemoved => "newline_removed",
        BodyChange::CrLfToLf | BodyChange::LfToCrLf => "line_ends_changed",
        BodyChange::BomAdded | BodyChange::BomRemoved => "byte_order_mark",
        BodyChange::Mojibake => "read_as_latin1",
        BodyChange::Stringified | BodyChange::StringParsed => "stringified",
        BodyChange::Compressed => "body_compressed",
        BodyChange::Base64 => "body_base64",
        BodyChange::FormEncoded | BodyChange::FormField => "body_form_encoded",
        BodyChange::Empty => "empty_body_signed",
    }
}

fn body_words(change: BodyChange) -> String {
    let wording = match change {
        BodyChange::Reserialised(style) => {
            return format!("the body was parsed and serialised again: the signature fits it {}", style_words(style));
        }
        BodyChange::ReserialisedLine(style) => {
            return format!(
                "the body was parsed and serialised again: the signature fits it {}, and with a line end behind it",
                style_words(style)
            );
        }
        BodyChange::FractionsLost(style) => {
            return format!(
                "the body was parsed and serialised again by a program that drops the .0 of whole numbers, as JavaScript \
                 does: the signature fits it with them put back, {}",
                style_words(style)
            );
        }
        BodyChange::NewlineAdded => "a line end was added at the end of the body",
        BodyChange::BlanksTrimmed => "blanks or line ends were added around the body",
        BodyChange::NewlineRemoved => "the line end at the end of the body was removed",
        BodyChange::CrLfRemoved => "the CR LF at the end of the body was removed",
        BodyChange::CrLfToLf => "the body's line ends were changed from CR LF to LF",
        BodyChange::LfToCrLf => "the body's line ends were changed from LF to CR LF",
        BodyChange::BomAdded => "a byte order mark was put before the body",
        BodyChange::BomRemoved => "the byte order mark before the body was removed",
        BodyChange::Mojibake => "the body was read as Latin-1 and written as UTF-8",
        BodyChange::Stringified => "the body was wrapped into a JSON string once more (JSON.stringify of a text)",
        BodyChange::StringParsed => "the body was signed as a JSON string (JSON.stringify of a text)",
        BodyChange::Compressed => "the body is compressed; what is in it was signed",
        BodyChange::Base64 => "the body is in Base64; what it holds was signed",
        BodyChange::FormEncoded => "the body is encoded as a form; it was signed without that",
        BodyChange::FormField => "the body is a form; the value of one of its fields was signed",
        BodyChange::Empty => "an empty body was signed",
    };
    wording.into()
}

fn style_words(style: Style) -> String {
    let separators = match style.separators {
        Separators::Spaced => "with a blank behind each comma and colon".to_owned(),
        Separators::Compact => "without blanks".to_owned(),
        Separators::Indented(by) => format!("indented by {by}"),
    };
    let writing = match style.writing {
        Writing::Kept => "",
        Writing::Python => ", as Python's json.dumps spells texts and numbers",
        Writing::JavaScript => ", as JavaScript's JSON.stringify spells texts and numbers",
        Writing::PythonUnescaped => ", as Python spells numbers and with texts unescaped",
    };
    format!("{separators}{writing}")
}

fn key_code(change: KeyChange) -> &'static str {
    match change {
        KeyChange::None => "other_secret",
        KeyChange::NewlineAdded | KeyChange::CrLfAdded | KeyChange::BlankAdded | KeyChange::Trimmed => {
            "secret_with_blanks"
        }
        KeyChange::Quoted | KeyChange::Unquoted => "secret_with_quotes",
        KeyChange::PrefixCut => "secret_without_prefix",
        KeyChange::Base64Decoded | KeyChange::HexDecoded => "secret_decoded",
        KeyChange::Empty | KeyChange::Undefined | KeyChange::NoneText => "secret_unset",
    }
}

fn key_words(change: KeyChange) -> &'static str {
    match change {
        KeyChange::None => "this secret as it is",
        KeyChange::NewlineAdded => "the secret and a line feed behind it",
        KeyChange::CrLfAdded => "the secret and CR LF behind it",
        KeyChange::BlankAdded => "the secret and a blank behind it",
        KeyChange::Trimmed => "the secret without the blanks or line ends that ours has",
        KeyChange::Quoted => "the secret in quotes",
        KeyChange::Unquoted => "the secret without the quotes that ours has",
        KeyChange::PrefixCut => "the secret without its prefix",
        KeyChange::Base64Decoded => "the secret decoded as Base64",
        KeyChange::HexDecoded => "the secret decoded as hex",
        KeyChange::Empty => "an empty secret: the sender's setting is not set",
        KeyChange::Undefined => "the word undefined: the sender's setting is not set",
        KeyChange::NoneText => "the word None: the sender's setting is not set",
    }
}

/// Formats a duration for people.
fn span(secs: i64) -> String {
    match secs {
        ..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} days", secs / 86_400),
    }
}

/// Returns a hint if `secs` is within two minutes of whole hours, which suggests a local time that was taken for UTC.
fn zone_hint(secs: i64) -> &'static str {
    let off = (secs + 120) % 3600;
    if (3600 - 120..=14 * 3600 + 120).contains(&secs) && off <= 240 {
        " (whole hours: is a local time taken for UTC?)"
    } else {
        ""
    }
}
