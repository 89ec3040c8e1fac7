//! Events to bytes and back. The bytes that were stored are hashed and never encoded again.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    envelope::{Envelope, Meta},
    ids::{CommandId, OrganisationId},
    kind::{Event, Kind},
    upcast,
};

/// Why bytes are not an event that this build knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown kind of event `{kind}` (schema {schema}); a newer release wrote it")]
    UnknownKind { kind: String, schema: u16 },
    #[error("`{kind}` has schema {schema}, newer than {known} that this build knows")]
    UnknownSchema {
        kind: &'static str,
        schema: u16,
        known: u16,
    },
    #[error("damaged event: {0}")]
    Damaged(#[from] rmp_serde::decode::Error),
    #[error("damaged event of an older schema: {0}")]
    NotRaised(#[from] upcast::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("event cannot be encoded: {0}")]
pub struct EncodeError(#[from] rmp_serde::encode::Error);

#[derive(Serialize, Deserialize)]
struct Wire {
    kind: String,
    schema: u16,
    meta: Meta,
    payload: ByteBuf,
}

/// The event as it is stored: `MessagePack` with named fields, the payload as a nested document.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, EncodeError> {
    #[derive(Serialize)]
    struct WireRef<'a> {
        kind: &'static str,
        schema: u16,
        meta: &'a Meta,
        payload: &'a serde_bytes::Bytes,
    }
    let kind = envelope.kind();
    let payload = envelope.event.pack()?;
    let wire = WireRef {
        kind: kind.name(),
        schema: kind.schema(),
        meta: &envelope.meta,
        payload: serde_bytes::Bytes::new(&payload),
    };
    Ok(pack_named(&wire, payload.len() + TYPICAL_META)?)
}

/// `MessagePack` with named fields, into a buffer that need not grow when the result has `expected` bytes at most.
pub fn pack_named<T: Serialize>(
    value: &T,
    expected: usize,
) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = Vec::with_capacity(expected);
    value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())?;
    Ok(bytes)
}

/// Kind and meta of a usage record take a little less.
const TYPICAL_META: usize = 512;

/// Reads an event of any released schema and raises its payload to today's.
pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let wire: Wire = rmp_serde::from_slice(bytes)?;
    let Some(kind) = Kind::from_name(&wire.kind) else {
        return Err(DecodeError::UnknownKind {
            kind: wire.kind,
            schema: wire.schema,
        });
    };
    if wire.schema > kind.schema() || wire.schema == 0 {
        return Err(DecodeError::UnknownSchema {
            kind: kind.name(),
            schema: wire.schema,
            known: kind.schema(),
        });
    }
    let payload = upcast::raise(kind, wire.schema, wire.payload.into_vec())?;
    Ok(Envelope {
        meta: wire.meta,
        event: Event::unpack(kind, &payload)?,
    })
}

/// One entry of the management stream and one row of the log: a command with all its events, or what the projector
/// decided in one transaction. One organisation version, one config version, one position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `None` for what the projector decided itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// `None`: the platform's boundary, or no boundary at all (projector).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<OrganisationId>,
    /// The boundary's version before this command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
    /// Encoded envelopes, in order.
    pub events: Vec<ByteBuf>,
}

impl Entry {
    /// An entry of the given events.
    pub fn of(
        command_id: Option<CommandId>,
        boundary: Option<OrganisationId>,
        expected_version: Option<u64>,
        envelopes: &[Envelope],
    ) -> Result<Self, EncodeError> {
        let events = envelopes
            .iter()
            .map(|envelope| encode(envelope).map(ByteBuf::from))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            command_id,
            boundary,
            expected_version,
            events,
        })
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(rmp_serde::to_vec_named(self)?)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(rmp_serde::from_slice(bytes)?)
    }

    /// The events, decoded in order.
    pub fn envelopes(&self) -> Result<Vec<Envelope>, DecodeError> {
        self.events.iter().map(|bytes| decode(bytes)).collect()
    }
}

/// The body of one entry of a usage stream and of one row of `usage_batch`: consecutive encoded events.
pub fn pack_batch<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, EncodeError> {
    let events: Vec<&serde_bytes::Bytes> =
        events.into_iter().map(serde_bytes::Bytes::new).collect();
    Ok(rmp_serde::to_vec(&events)?)
}

/// The encoded events of one batch, in order.
pub fn unpack_batch(bytes: &[u8]) -> Result<Vec<ByteBuf>, DecodeError> {
    Ok(rmp_serde::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn every_kind_comes_back_from_its_bytes() {
        for envelope in examples::one_of_each() {
            let bytes = encode(&envelope).unwrap();
            assert_eq!(decode(&bytes).unwrap(), envelope);
        }
    }

    #[test]
    fn a_kind_of_a_newer_release_is_named() {
        let wire = Wire {
            kind: "moon.landed".into(),
            schema: 1,
            meta: examples::meta(),
            payload: ByteBuf::new(),
        };
        let error = decode(&rmp_serde::to_vec_named(&wire).unwrap()).unwrap_err();
        assert!(error.to_string().contains("moon.landed"));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let envelope = examples::one_of_each().remove(0);
        let wire = Wire {
            kind: envelope.kind().name().into(),
            schema: envelope.kind().schema() + 1,
            meta: envelope.meta,
            payload: ByteBuf::new(),
        };
        let error = decode(&rmp_serde::to_vec_named(&wire).unwrap()).unwrap_err();
        assert!(matches!(error, DecodeError::UnknownSchema { .. }));
    }

    #[test]
    fn a_batch_keeps_its_events_and_their_order() {
        let events: Vec<Vec<u8>> = examples::one_of_each()
            .iter()
            .map(|event| encode(event).unwrap())
            .collect();
        let packed = pack_batch(events.iter().map(Vec::as_slice)).unwrap();
        let unpacked = unpack_batch(&packed).unwrap();
        assert!(
            unpacked
                .iter()
                .map(|event| event.as_slice())
                .eq(events.iter().map(Vec::as_slice))
        );
    }
}
