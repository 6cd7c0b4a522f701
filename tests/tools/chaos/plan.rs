//! Plans: the run's seed and the call's number decide what is said in a call.

use fastrand::Rng;
use serde_json::{Value, json};

/// How webhooks name a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// By a sid of ours; the conversation becomes known at the call's end.
    Sid,
    /// By the conversation id; the server makes the sid.
    Conversation,
    /// By the provider's sid; the conversation becomes known at the call's end.
    ProviderSid,
    /// By either name, which makes two records that become one call when the post-call webhook states both names.
    TwoNames,
    /// Without live turns: the provider's transcript makes the turns.
    ProviderTurns,
}

/// What makes a repeated turn the same turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    TurnId,
    Key,
    /// Its bytes and its signature.
    Bytes,
}

#[derive(Debug, Clone)]
pub struct TurnPlan {
    /// Unique among all texts of the run.
    pub text: String,
    /// The field and the identifier that name the call.
    pub by: (&'static str, String),
    pub tag: Tag,
    /// Milliseconds before the turn.
    pub pause: u64,
    /// Whether an interim transcription precedes it.
    pub has_partial: bool,
    /// Number of copies sent at the same time.
    pub copies: usize,
    /// Whether it is sent again although it was acknowledged: at once, and after the call has ended.
    pub again: (bool, bool),
    speaker: &'static str,
}

#[derive(Debug, Clone)]
pub struct Plan {
    /// A part of all names and texts of the call.
    pub index: usize,
    pub shape: Shape,
    /// The names that the call has in the end.
    pub names: Vec<String>,
    pub turns: Vec<TurnPlan>,
    /// Number of turns that may be sent at the same time.
    pub at_once: usize,
    /// Whether the end waits until every turn is acknowledged.
    pub ends_in_order: bool,
}

impl Plan {
    #[must_use]
    pub fn new(seed: u64, index: usize) -> Self {
        let mut rng = Rng::with_seed(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shape = match rng.u8(..100) {
            0..35 => Shape::Sid,
            35..55 => Shape::Conversation,
            55..70 => Shape::ProviderSid,
            70..92 => Shape::TwoNames,
            _ => Shape::ProviderTurns,
        };
        let sid = format!("EL_c{index}_1790855035");
        let conversation = format!("conv_c{index}");
        let provider = format!("CAc{index}");
        let names = match shape {
            Shape::Sid | Shape::TwoNames => vec![sid, conversation],
            Shape::Conversation | Shape::ProviderTurns => vec![conversation],
            Shape::ProviderSid => vec![provider, conversation],
        };
        let is_fat = rng.u8(..100) < 4;
        let count = if shape == Shape::ProviderTurns { rng.usize(1..6) } else { rng.usize(4..40) };
        let pace = if is_fat { 40 } else { rng.u64(20..120) };
        let lean = rng.f32();
        let turns = (0..count).map(|turn| TurnPlan::new(&mut rng, (index, turn), shape, &names, (is_fat, pace, lean)));
        let turns = turns.collect();
        let at_once = if rng.u8(..100) < 25 { rng.usize(2..5) } else { 1 };
        Self { index, shape, names, turns, at_once, ends_in_order: rng.u8(..100) < 85 }
    }

    /// Returns the summary of the post-call webhook, which is unique among all texts of the run.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("c{} ended", self.index)
    }

    /// Returns the body of the post-call webhook.
    #[must_use]
    pub fn result(&self) -> Value {
        let transcript: Vec<Value> = match self.shape {
            Shape::ProviderTurns => {
                self.turns.iter().map(|turn| json!({"role": "agent", "message": turn.text})).collect()
            }
            _ => vec![json!({"role": "agent", "message": "never shown: its turns came in live"})],
        };
        let mut data = json!({"conversation_id": self.names.last(), "status": "done", "transcript": transcript,
            "analysis": {"transcript_summary": self.summary(), "call_successful": "success"},
            "metadata": {"call_duration_secs": 30, "cost": 7}});
        match self.shape {
            Shape::Sid | Shape::TwoNames => {
                let variables = json!({"system__call_sid": self.names[0]});
                data["conversation_initiation_client_data"] = json!({"dynamic_variables": variables});
            }
            Shape::ProviderSid => data["metadata"]["phone_call"] = json!({"call_sid": self.names[0]}),
            Shape::Conversation | Shape::ProviderTurns => {}
        }
        json!({"type": "post_call_transcription", "event_timestamp": 1_790_855_100, "data": data})
    }

    /// Returns the number of the call that an identifier belongs to; `None` if the server made the identifier.
    #[must_use]
    pub fn index_of(identifier: &str) -> Option<usize> {
        let rest = ["EL_c", "conv_c", "CAc"].iter().find_map(|prefix| identifier.strip_prefix(prefix))?;
        rest.split('_').next()?.parse().ok()
    }
}

impl TurnPlan {
    fn new(
        rng: &mut Rng,
        (index, turn): (usize, usize),
        shape: Shape,
        names: &[String],
        (is_fat, pace, lean): (bool, u64, f32),
    ) -> Self {
        let length = match rng.u8(..100) {
            _ if is_fat => rng.usize(20_000..60_000),
            0..90 => rng.usize(0..200),
            90..99 => rng.usize(200..4_000),
            _ => rng.usize(4_000..60_000),
        };
        let filler = ["said ", "größer ", "\"so\" ", "去年 ", "\u{1f600} ", "\\n\n"];
        let filler = filler[rng.usize(..filler.len())];
        let text = format!("c{index} t{turn} {}", filler.repeat(length / filler.len()));
        let by = match shape {
            Shape::TwoNames if rng.f32() < lean => ("conversation_id", names[1].clone()),
            Shape::Conversation | Shape::ProviderTurns => ("conversation_id", names[0].clone()),
            Shape::Sid | Shape::TwoNames | Shape::ProviderSid => ("call_sid", names[0].clone()),
        };
        let tag = match rng.u8(..10) {
            0..5 => Tag::TurnId,
            5..7 => Tag::Key,
            _ => Tag::Bytes,
        };
        Self {
            text,
            by,
            tag,
            pause: rng.u64(0..pace * 2),
            has_partial: rng.u8(..100) < 8,
            copies: if rng.u8(..100) < 5 { 3 } else { 1 },
            again: (rng.u8(..100) < 8, rng.u8(..100) < 10),
            speaker: ["agent", "user", "tool"][rng.usize(..3)],
        }
    }

    /// Returns the body of the webhook.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({self.by.0: self.by.1, "speaker": self.speaker, "message": self.text});
        if self.tag == Tag::TurnId {
            body["turn_id"] = self.key().into();
        }
        body
    }

    /// Returns the body of the interim transcription before the turn.
    #[must_use]
    pub fn partial(&self) -> Value {
        json!({self.by.0: self.by.1, "speaker": self.speaker, "message": format!("~{}", self.key()), "is_final": false})
    }

    /// Returns the `turn_id` or the `Idempotency-Key`.
    #[must_use]
    pub fn key(&self) -> String {
        self.text.splitn(3, ' ').take(2).collect::<Vec<_>>().join("-")
    }
}
