//! Whole numbers whose `.0` a program dropped: JavaScript reads `0.0` and writes `0`.
//!
//! The received body does not show which numbers had a `.0`. So the search puts it back by field: first into the
//! fields that the vendor's models define as floats, then into sets that differ from these in a few fields. A set of
//! fields is a `u64` with a bit for each entry of `fields`.

use crate::json_style::{self, Full, Separators, Sink, Style, Writing};

/// Fields that are floats in the vendor's models (Python SDK 2.78.0).
const FLOAT_FIELDS: [&str; 19] = [
    "price",
    "llm_price",
    "platform_price",
    "free_minutes_consumed",
    "free_llm_dollars_consumed",
    "cost_fiat",
    "queue_wait_secs",
    "call_success_score",
    "success_score",
    "tool_latency_secs",
    "elapsed_time",
    "vector_distance",
    "rag_latency_secs",
    "stability",
    "similarity_boost",
    "speed",
    "temperature",
    "confidence",
    "score",
];
/// Maximum number of fields that are distinguished. A set of fields has to fit into the bits of a `u64`.
const MAX_FIELDS: usize = 48;
/// Maximum number of fields in which a tried set differs from the likely one.
const MAX_DIFFERENCES: u32 = 3;

/// The fields of a body that hold whole numbers.
#[derive(Debug)]
pub(crate) struct Floats<'b> {
    fields: Vec<&'b str>,
}

impl<'b> Floats<'b> {
    pub fn of(json: Option<&'b str>) -> Self {
        Self { fields: json.map(|json| json_style::whole_number_fields(json, MAX_FIELDS)).unwrap_or_default() }
    }

    /// Returns the styles in which fractions are put back: those that write fractions.
    pub fn styles(&self) -> impl Iterator<Item = Style> {
        let spaced = |writing| Style { separators: Separators::Spaced, writing };
        let compact = |writing| Style { separators: Separators::Compact, writing };
        let styles = [
            json_style::WIRE,
            spaced(Writing::PythonUnescaped),
            compact(Writing::Python),
            compact(Writing::PythonUnescaped),
        ];
        styles.into_iter().filter(|_| !self.fields.is_empty())
    }

    /// Returns the fields that the vendor's models define as floats, or all fields if none of them is.
    pub fn likely_set(&self) -> u64 {
        let known = (0_u32..).zip(&self.fields).filter(|(_, field)| FLOAT_FIELDS.contains(field));
        match known.fold(0, |set, (at, _)| set | 1 << at) {
            0 => self.all(),
            set => set,
        }
    }

    fn all(&self) -> u64 {
        (1 << self.fields.len()) - 1
    }

    /// Returns the other sets of fields, the likeliest first. There are up to about ten thousand.
    pub fn other_sets(&self) -> impl Iterator<Item = u64> {
        let (likely, all) = (self.likely_set(), self.all());
        let bits = move || (0..u64::BITS).map(|at| 1_u64 << at).take_while(move |bit| *bit <= all);
        let one = bits();
        let two = bits()
            .flat_map(move |first| bits().filter(move |second| *second < first).map(move |second| first | second));
        let three = bits().flat_map(move |first| {
            let below = move |limit: u64| bits().filter(move |bit| *bit < limit);
            below(first).flat_map(move |second| below(second).map(move |third| first | second | third))
        });
        let flips = one.chain(two).chain(three).filter(|flips| flips.count_ones() <= MAX_DIFFERENCES);
        std::iter::once(all)
            .chain(flips.map(move |flips| likely ^ flips))
            .filter(move |set| *set != 0 && *set != likely)
    }

    /// Writes `json` with fractions in the fields of `set`.
    pub fn write(&self, json: &str, style: Style, set: u64, out: &mut impl Sink) -> Result<(), Full> {
        let is_float =
            |name: &str| self.fields.iter().position(|field| *field == name).is_some_and(|at| set >> at & 1 == 1);
        json_style::write_with_floats(json, style, &is_float, out)
    }
}
