//! Names that are not in a service's table: what replaced a retired one, and which known name a typo is nearest to.
//! Called by `Settings::from_pairs`.

use super::Setting;

/// A variable of other gateways, or of an older release, whose thing does not exist here.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    pub name: &'static str,
    pub replaced_by: &'static str,
}

/// Names that operators may bring along; each is refused with what replaced it.
pub const RETIRED: &[Retired] = &[
    Retired {
        name: "AUTH_CACHE_TTL",
        replaced_by: "nothing: gateways hold every key and follow changes; see CONFIG_MAX_STALE",
    },
    Retired {
        name: "AUTH_NEGATIVE_CACHE_TTL",
        replaced_by: "nothing: the key cache is complete, an unknown key needs no look-up",
    },
    Retired {
        name: "MODEL_CACHE_TTL",
        replaced_by: "nothing: configuration is pushed; see CONFIG_MAX_STALE",
    },
    Retired {
        name: "MCP_CACHE_TTL",
        replaced_by: "nothing: configuration is pushed",
    },
    Retired {
        name: "RATELIMIT_POLICY_CACHE_TTL",
        replaced_by: "nothing: configuration is pushed",
    },
    Retired {
        name: "SMART_ROUTING_POLICY_CACHE_TTL",
        replaced_by: "nothing: configuration is pushed",
    },
    Retired {
        name: "REDIS_ADDR",
        replaced_by: "REDIS_URL",
    },
    Retired {
        name: "REDIS_USERNAME",
        replaced_by: "REDIS_URL",
    },
    Retired {
        name: "REDIS_PASSWORD",
        replaced_by: "REDIS_URL",
    },
    Retired {
        name: "REDIS_DB",
        replaced_by: "REDIS_URL",
    },
    Retired {
        name: "CACHE_INVALIDATION_CHANNEL",
        replaced_by: "nothing: changes travel in the config stream",
    },
];

/// What to say of a name that the table has not.
pub(super) fn explain_unknown(name: &str, table: &[Setting]) -> String {
    if let Some(retired) = RETIRED.iter().find(|retired| retired.name == name) {
        return format!("does not exist here; replaced by {}", retired.replaced_by);
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
