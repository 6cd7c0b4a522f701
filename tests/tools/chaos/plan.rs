//! Plans: the run's seed and the index of a call determine its names, its turns and their webhooks.

use fastrand::Rng;
use serde_json::{Value, json};

/// How webhooks name a call, and where its turns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallShape {
    /// Turns name our `call_sid`. The post-call webhook adds the conversation id.
    Sid,
    /// All webhooks name the conversation id. The server makes the `call_sid`.
    Conversation,
    /// Turns name the provider's `call_sid`. The post-call webhook adds the conversation id.
    ProviderSid,
    /// Turns name either our `call_sid` or the conversation id, which makes two records. They are merged when the
    /// post-call webhook states both names.
    TwoNames,
    /// There are no live turns. The transcript of the post-call webhook makes them.
    ProviderTurns,
}

/// The dedup key by which the server recognizes a turn that is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupBy {
    TurnId,
    IdempotencyKey,
    /// The bytes of the body and the time of the signature.
    Bytes,
}

#[derive(Debug, Clone)]
pub struct TurnPlan {
    /// Unique among all texts of the run.
    pub text: String,
    /// The field and the identifier that name the call.
    pub named_by: (&'static str, String),
    pub dedup_by: DedupBy,
    /// Pause before the turn.
    pub delay_ms: u64,
    /// Whether an interim transcription precedes the turn.
    pub has_partial: bool,
    /// Number of copies sent at the same time.
    pub copies: usize,
    /// Whether the turn is sent again as soon as it was acknowledged.
    pub resend_at_once: bool,
    /// Whether the turn is sent again after the call has ended.
    pub resend_after_end: bool,
    speaker: &'static str,
}

#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of the call in the run, which is a part of all its names and texts.
    pub index: usize,
    pub shape: CallShape,
    /// The names that lead to the call after its end.
    pub names: Vec<String>,
    pub turns: Vec<TurnPlan>,
    /// Number of turns that may wait for their answers at the same time.
    pub max_in_flight: usize,
    /// Whether the post-call webhook is sent only after every turn was acknowledged.
    pub ends_after_turns: bool,
}

impl Plan {
    #[must_use]
    pub fn new(seed: u64, index: usize) -> Self {
        let mut rng = Rng::with_seed(seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shape = match rng.u8(..100) {
            0..35 => CallShape::Sid,
            35..55 => CallShape::Conversation,
            55..70 => CallShape::ProviderSid,
            70..92 => CallShape::TwoNames,
            _ => CallShape::ProviderTurns,
        };
        let sid = format!("EL_c{index}_1790855035");
        let conversation = format!("conv_c{index}");
        let provider = format!("CAc{index}");
        let names = match shape {
            CallShape::Sid | CallShape::TwoNames => vec![sid, conversation],
            CallShape::Conversation | CallShape::ProviderTurns => vec![conversation],
            CallShape::ProviderSid => vec![provider, conversation],
        };
        let has_long_turns = rng.u8(..100) < 4;
        let count = if shape == CallShape::ProviderTurns { rng.usize(1..6) } else { rng.usize(4..40) };
        let mean_delay_ms = if has_long_turns { 40 } else { rng.u64(20..120) };
        let conversation_share = rng.f32();
        let style = (has_long_turns, mean_delay_ms, conversation_share);
        let turns = (0..count).map(|turn| TurnPlan::new(&mut rng, (index, turn), shape, &names, style)).collect();
        let max_in_flight = if rng.u8(..100) < 25 { rng.usize(2..5) } else { 1 };
        Self { index, shape, names, turns, max_in_flight, ends_after_turns: rng.u8(..100) < 85 }
    }

    /// Returns the summary of the post-call webhook, which is unique among all texts of the run.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("c{} ended", self.index)
    }

    /// Returns the body of the post-call webhook.
    #[must_use]
    pub fn post_call_body(&self) -> Value {
        let transcript: Vec<Value> = match self.shape {
            CallShape::ProviderTurns => {
                self.turns.iter().map(|turn| json!({"role": "agent", "message": turn.text})).collect()
            }
            _ => vec![json!({"role": "agent", "message": "not in the log: the call has live turns"})],
        };
        let mut data = json!({"conversation_id": self.names.last(), "status": "done", "transcript": transcript,
            "analysis": {"transcript_summary": self.summary(), "call_successful": "success"},
            "metadata": {"call_duration_secs": 30, "cost": 7}});
        match self.shape {
            CallShape::Sid | CallShape::TwoNames => {
                let variables = json!({"system__call_sid": self.names[0]});
                data["conversation_initiation_client_data"] = json!({"dynamic_variables": variables});
            }
            CallShape::ProviderSid => data["metadata"]["phone_call"] = json!({"call_sid": self.names[0]}),
            CallShape::Conversation | CallShape::ProviderTurns => {}
        }
        json!({"type": "post_call_transcription", "event_timestamp": 1_790_855_100, "data": data})
    }

    /// Returns the index of the call that an identifier belongs to; `None` if the server made the identifier.
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
        shape: CallShape,
        names: &[String],
        (has_long_turns, mean_delay_ms, conversation_share): (bool, u64, f32),
    ) -> Self {
        let length = match rng.u8(..100) {
            _ if has_long_turns => rng.usize(20_000..60_000),
            0..90 => rng.usize(0..200),
            90..99 => rng.usize(200..4_000),
            _ => rng.usize(4_000..60_000),
        };
        let filler = ["said ", "größer ", "\"so\" ", "去年 ", "\u{1f600} ", "\\n\n"];
        let filler = filler[rng.usize(..filler.len())];
        let text = format!("c{index} t{turn} {}", filler.repeat(length / filler.len()));
        let named_by = match shape {
            CallShape::TwoNames if rng.f32() < conversation_share => ("conversation_id", names[1].clone()),
            CallShape::Conversation | CallShape::ProviderTurns => ("conversation_id", names[0].clone()),
            CallShape::Sid | CallShape::TwoNames | CallShape::ProviderSid => ("call_sid", names[0].clone()),
        };
        let dedup_by = match rng.u8(..10) {
            0..5 => DedupBy::TurnId,
            5..7 => DedupBy::IdempotencyKey,
            _ => DedupBy::Bytes,
        };
        Self {
            text,
            named_by,
            dedup_by,
            delay_ms: rng.u64(0..mean_delay_ms * 2),
            has_partial: rng.u8(..100) < 8,
            copies: if rng.u8(..100) < 5 { 3 } else { 1 },
            resend_at_once: rng.u8(..100) < 8,
            resend_after_end: rng.u8(..100) < 10,
            speaker: ["agent", "user", "tool"][rng.usize(..3)],
        }
    }

    /// Returns the body of the turn's webhook.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut body = json!({self.named_by.0: self.named_by.1, "speaker": self.speaker, "message": self.text});
        if self.dedup_by == DedupBy::TurnId {
            body["turn_id"] = self.dedup_key().into();
        }
        body
    }

    /// Returns the body of the interim transcription before the turn.
    #[must_use]
    pub fn partial_body(&self) -> Value {
        let text = format!("~{}", self.dedup_key());
        json!({self.named_by.0: self.named_by.1, "speaker": self.speaker, "message": text, "is_final": false})
    }

    /// Returns the value of `turn_id` or `Idempotency-Key`.
    #[must_use]
    pub fn dedup_key(&self) -> String {
        self.text.splitn(3, ' ').take(2).collect::<Vec<_>>().join("-")
    }
}
