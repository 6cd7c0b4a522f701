//! The table of settings: their keys and defaults.

#[derive(Debug, Clone, Copy)]
pub(super) struct SettingKey {
    /// The key as the settings file spells it. Its environment variable is derived from it.
    pub name: &'static str,
    /// The default as text; empty for none.
    pub default: &'static str,
    /// Whether `config show` hides the value.
    pub is_secret: bool,
}

const fn key(name: &'static str, default: &'static str) -> SettingKey {
    SettingKey { name, default, is_secret: false }
}

const fn secret(name: &'static str, default: &'static str) -> SettingKey {
    SettingKey { name, default, is_secret: true }
}

/// Every setting, in the order in which `config show` prints them.
pub(super) const KEYS: &[SettingKey] = &[
    key("address", "127.0.0.1"),
    key("port", "8000"),
    key("public_url", ""),
    secret("database_url", "sqlite://callscope.db"),
    secret("redis_url", ""),
    secret("webhook_secrets", ""),
    key("webhook_auth", "required"),
    key("webhook_tolerance", "1800"),
    secret("jwt_secret", ""),
    key("max_post_call_mib", "128"),
    key("trusted_variable", ""),
    key("unknown_calls", "create"),
    key("max_connections", ""),
    key("max_connections_per_token", "1000"),
    key("max_connections_per_address", "5000"),
    key("allowed_origins", ""),
    key("retention_days", "0"),
    key("delivery_retention_days", "0"),
    key("delivery_max_mb", "0"),
    key("log", "info"),
    key("log_format", "text"),
    key("ping_interval", "25"),
    key("pong_timeout", "60"),
    key("write_deadline", "10"),
    key("storage_deadline", "60"),
    key("head_deadline", "10"),
    key("idle_timeout", "75"),
    key("drain_deadline", "8"),
    key("drain_rate", "500"),
];

/// The prefix of environment variables.
pub(super) const PREFIX: &str = "CALLSCOPE_";

/// Variables with the prefix that are not settings of the server: `CALLSCOPE_CONFIG` names the settings file, and the
/// client and the tests read the others.
const OTHER_VARIABLES: [&str; 6] = ["CONFIG", "SERVER", "TOKEN", "WEBHOOK_SECRET", "COMPLETE", "REHEARSE"];
const OTHER_PREFIXES: [&str; 3] = ["TEST_", "LOAD_", "CHAOS_"];

/// Similarity, from 0 to 1, from which a key counts as a misspelt setting.
const MIN_SIMILARITY: f64 = 0.6;

/// Returns the environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase())
}

/// Whether a variable has the prefix but is neither a setting nor read by another program of this project.
pub(super) fn is_unknown(variable: &str) -> bool {
    let Some(name) = variable.strip_prefix(PREFIX) else { return false };
    !KEYS.iter().any(|key| key.name.eq_ignore_ascii_case(name) && name == name.to_uppercase())
        && !OTHER_VARIABLES.contains(&name)
        && !OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the key that is most similar to `name`, and whether `name` is probably a misspelling of it.
pub(super) fn nearest(name: &str) -> (&'static str, bool) {
    // Comparing takes time in proportion to the length, and a name from outside may be long.
    let name: String = name.to_lowercase().chars().take(64).collect();
    let similarity = |key: &SettingKey| strsim::normalized_damerau_levenshtein(&name, key.name);
    let best = KEYS.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    best.map_or(("", false), |key| (key.name, similarity(key) >= MIN_SIMILARITY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_leads_to_the_setting_and_a_secret_does_not() {
        for (name, expected) in [
            ("WEBHOOK_TOLERENCE", "webhook_tolerance"),
            ("WEBHOOK_SECRET", "webhook_secrets"),
            ("JWT_SECRETS", "jwt_secret"),
            ("DATABASEURL", "database_url"),
            ("MAX_CONNECTION", "max_connections"),
        ] {
            assert_eq!(nearest(name), (expected, true), "{name}");
        }
        assert!(!nearest("wsec_0123456789abcdef").1);
        assert!(!nearest("hunter2hunter2hunter2").1);
    }

    #[test]
    fn variables_of_other_programs_are_not_unknown() {
        for name in ["CALLSCOPE_TOKEN", "CALLSCOPE_CONFIG", "CALLSCOPE_TEST_REDIS", "CALLSCOPE_PORT", "PATH"] {
            assert!(!is_unknown(name), "{name}");
        }
        for name in ["CALLSCOPE_WEBHOOK_TOLERENCE", "CALLSCOPE_port", "CALLSCOPE_", "CALLSCOPE_JWT"] {
            assert!(is_unknown(name), "{name}");
        }
    }
}
