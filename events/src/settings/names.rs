//! Names that are not in a service's table: what replaced a retired one, and which known name a typo is nearest to.
//! Called by `Settings::from_pairs`.

use super::Setting;

/// A variable of other gateways, or of an older release, whose thing does not exist here.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    pub name: &'static str,
    /// What to do instead, or why there is nothing to do.
    pub instead: &'static str,
}

/// Names that operators may bring along. Each is refused and says why: to ignore a limit that somebody believes to be set
/// would be worse than not to start.
pub const RETIRED: &[Retired] = &[
    retired("REDIS_ADDR", "use REDIS_URL"),
    retired("REDIS_USERNAME", "use REDIS_URL"),
    retired("REDIS_PASSWORD", "use REDIS_URL"),
    retired("REDIS_DB", "use REDIS_URL"),
    retired(
        "REDIS_POOL_SIZE",
        "nothing replaces it: commands share one connection",
    ),
    retired(
        "REDIS_DIAL_TIMEOUT",
        "nothing replaces it: connecting has a fixed limit and is repeated",
    ),
    retired("POSTGRES_MAX_IDLE", "use POSTGRES_MAX_OPEN"),
    retired(
        "POSTGRES_MAX_LIFETIME",
        "nothing replaces it: a broken connection is opened anew",
    ),
    retired("POSTGRES_LOG_QUERIES", "use RUST_LOG=info,sqlx=debug"),
    retired(
        "LOGGER_OUTPUT",
        "nothing replaces it: logs go to standard error",
    ),
    retired(
        "AUTH_CACHE_TTL",
        "nothing replaces it: gateways hold the keys and follow changes; see KEY_CACHE_MAX and CONFIG_MAX_STALE",
    ),
    retired(
        "AUTH_NEGATIVE_CACHE_TTL",
        "nothing replaces it: while all keys fit into KEY_CACHE_MAX an unknown one needs no look-up, else it is remembered for a second",
    ),
    retired(
        "MODEL_CACHE_TTL",
        "nothing replaces it: configuration is pushed; see CONFIG_MAX_STALE",
    ),
    retired(
        "MCP_CACHE_TTL",
        "nothing replaces it: configuration is pushed",
    ),
    retired(
        "RATELIMIT_POLICY_CACHE_TTL",
        "nothing replaces it: configuration is pushed",
    ),
    retired(
        "SMART_ROUTING_POLICY_CACHE_TTL",
        "nothing replaces it: configuration is pushed",
    ),
    retired(
        "CACHE_INVALIDATION_CHANNEL",
        "nothing replaces it: changes travel in the config stream",
    ),
    retired(
        "CACHE_INVALIDATION_SECRET",
        "nothing replaces it: changes travel in the config stream",
    ),
    retired("SAFETY_ENGINE_MODE", "this version has no guardrails"),
    retired("SAFETY_SESSION_TTL", "this version has no guardrails"),
    retired("SAFETY_BLOCK_THRESHOLD", "this version has no guardrails"),
    retired("PLUGINS_CONFIG_PATH", "this version has no plugins"),
];

const fn retired(name: &'static str, instead: &'static str) -> Retired {
    Retired { name, instead }
}

/// What to say of a name that the table has not.
pub(super) fn explain_unknown(name: &str, table: &[Setting]) -> String {
    if let Some(retired) = RETIRED.iter().find(|retired| retired.name == name) {
        return format!("does not exist here: {}", retired.instead);
    }
    let nearest = table
        .iter()
        .min_by_key(|setting| distance(setting.name, name));
    match nearest.filter(|setting| distance(setting.name, name) <= 4) {
        Some(setting) => format!("is not known; did you mean {}?", setting.name),
        None => "is not known".to_owned(),
    }
}

/// Edits between two names.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (cell, candidate) in row.iter_mut().skip(1).zip(other.bytes()) {
            let value = (diagonal + usize::from(byte != candidate))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            (*cell, left) = (value, value);
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
