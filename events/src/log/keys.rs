//! Names of the keys in Redis. Every stream's key carries the generation; the hash tags keep what one script touches
//! in one slot of a cluster.

use crate::ids::GatewayId;

/// The three planes, each with a generation key of its own and a slot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    Management,
    Usage,
    Config,
}

impl Plane {
    pub const ALL: [Self; 3] = [Self::Management, Self::Usage, Self::Config];

    /// The key that holds this plane's generation: absent means closed.
    #[must_use]
    pub fn generation_key(self) -> &'static str {
        match self {
            Self::Management => "{m}:gen",
            Self::Usage => "{u0}:gen",
            Self::Config => "{c}:gen",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Management => "{m}",
            Self::Usage => "{u0}",
            Self::Config => "{c}",
        }
    }
}

/// Keys of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    pub generation: u64,
}

impl Keys {
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { generation }
    }

    fn key(self, plane: Plane, name: &str) -> String {
        format!("{}:{}:{name}", plane.tag(), self.generation)
    }

    /// The management stream.
    #[must_use]
    pub fn management(self) -> String {
        self.key(Plane::Management, "mgmt")
    }

    /// Hash: version of each boundary, and the stream's seq under `#seq`.
    #[must_use]
    pub fn versions(self) -> String {
        self.key(Plane::Management, "versions")
    }

    /// One gateway's usage stream.
    #[must_use]
    pub fn usage(self, gateway: GatewayId) -> String {
        self.key(Plane::Usage, &format!("usage:{gateway}"))
    }

    /// Hash: `epoch:nonce` of each gateway that appends.
    #[must_use]
    pub fn owner(self) -> String {
        self.key(Plane::Usage, "owner")
    }

    /// Hash: how far Postgres has each gateway's stream.
    #[must_use]
    pub fn watermarks(self) -> String {
        self.key(Plane::Usage, "ack")
    }

    /// The config stream.
    #[must_use]
    pub fn config(self) -> String {
        self.key(Plane::Config, "cfg")
    }

    /// Hash: presence of each gateway.
    #[must_use]
    pub fn gateways(self) -> String {
        self.key(Plane::Config, "gateways")
    }
}

/// Lossy, without a generation.
pub const ASKS: &str = "{c}:asks";
pub const BEAT: &str = "{c}:beat";
/// What the projector left after its last commit: another value means that this Redis is not the one it knew.
pub const CHECKPOINT: &str = "{m}:checkpoint";

/// The command that goes first at a boundary; a courtesy among admins that expires by itself.
#[must_use]
pub fn turn(boundary: &str) -> String {
    format!("{{m}}:turn:{boundary}")
}

/// Messages to one gateway; lossy, without a generation.
#[must_use]
pub fn control(gateway: GatewayId) -> String {
    format!("{{c}}:ctl:{gateway}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_carry_their_slot_and_generation() {
        let keys = Keys::new(7);
        assert_eq!(keys.management(), "{m}:7:mgmt");
        assert_eq!(keys.config(), "{c}:7:cfg");
        let gateway = GatewayId::generate();
        assert_eq!(keys.usage(gateway), format!("{{u0}}:7:usage:{gateway}"));
        assert_eq!(control(gateway), format!("{{c}}:ctl:{gateway}"));
    }
}
