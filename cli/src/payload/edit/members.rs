//! Where the members of a JSON text's objects and arrays stand.

use std::ops::Range;

/// What an object or array holds, by place in the text.
pub(crate) struct Members {
    /// Whether it is an array.
    pub(crate) is_array: bool,
    /// Each member, in the order of the text.
    pub(crate) all: Vec<Member>,
    /// Behind the last member.
    pub(crate) end: usize,
}

/// One of them.
pub(crate) struct Member {
    /// Its key, in an object.
    pub(crate) key: Option<String>,
    /// Where it begins: its key, or its value.
    start: usize,
    pub(crate) value: Range<usize>,
}

impl Members {
    /// Of the JSON text's value at `range`; `None` where that is neither an object nor an array.
    pub(crate) fn of(json: &str, range: &Range<usize>) -> Option<Self> {
        let bytes = json.as_bytes();
        let skip = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            }
            at
        };
        let mut at = skip(range.start);
        let is_array = match bytes.get(at)? {
            b'[' => true,
            b'{' => false,
            _ => return None,
        };
        let (mut all, mut end) = (Vec::new(), at + 1);
        at = skip(at + 1);
        while !matches!(bytes.get(at)?, b']' | b'}') {
            let start = at;
            let key = if is_array {
                None
            } else {
                let after = value_end(bytes, at)?;
                let key = serde_json::from_str(json.get(at..after)?).ok();
                at = skip(skip(after) + 1);
                key
            };
            end = value_end(bytes, at)?;
            all.push(Member { key, start, value: at..end });
            at = skip(end);
            if bytes.get(at) == Some(&b',') {
                at = skip(at + 1);
            }
        }
        Some(Self { is_array, all, end })
    }

    /// A member and the comma that goes with it; where several go, each takes the comma before it or, as the first,
    /// behind it.
    pub(crate) fn with_comma(&self, member: usize, alone: bool) -> Range<usize> {
        let (start, end) = (self.all[member].start, self.all[member].value.end);
        match (member.checked_sub(1), self.all.get(member + 1)) {
            (Some(before), _) if alone => self.all[before].value.end..end,
            (_, Some(next)) => start..next.start,
            _ => start..end,
        }
    }
}

/// Where the value that begins at `at` ends. Needs no stack, however deep it is nested.
fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        let ends = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']') || byte.is_ascii_whitespace();
        let closed = matches!(bytes[at - 1], b'"' | b'}' | b']');
        if depth == 0 && (closed || bytes.get(at).is_none_or(ends)) {
            return Some(at);
        }
    }
}
