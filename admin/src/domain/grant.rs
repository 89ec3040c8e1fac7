//! Grants: one for each pair of key and model; alone or in batches that happen as a whole.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    envelope::Envelope,
    ids::{GrantId, KeyId, ModelId},
    kind::Event,
    payload::{
        Nothing,
        grant::{GrantBody, GrantTarget},
    },
    state::{EntityRow, Grant, fold},
};

use super::{changed, created, no_such};
use crate::{
    command::{Decision, answer::Answer, stamp::Stamp},
    error::{ApiError, Code, Faults},
    shape::grant::{GrantBatch, GrantCreate},
};

pub(crate) const BATCH_MAX: usize = 500;

/// What the organisation has of what a command names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) keys: BTreeSet<KeyId>,
    pub(crate) models: BTreeSet<ModelId>,
    /// Grants of the pairs that are asked for.
    pub(crate) pairs: BTreeMap<(KeyId, ModelId), GrantId>,
    /// The versions of the grants to delete.
    pub(crate) grants: BTreeMap<GrantId, u64>,
}

pub(crate) fn pair_of(asked: &GrantCreate) -> (KeyId, ModelId) {
    match asked.target {
        GrantTarget::Model { id } => (asked.key_id, id),
    }
}

pub(crate) fn create(
    stamp: &Stamp,
    id: GrantId,
    asked: &GrantCreate,
    known: &Known,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    check_references("", asked, known, &mut faults)?;
    faults.finish()?;
    if known.pairs.contains_key(&pair_of(asked)) {
        return Err(ApiError::new(
            Code::Conflict,
            "the key has this grant already",
        ));
    }
    created(stamp, id, event(asked))
}

pub(crate) fn delete(stamp: &Stamp, row: Grant) -> Result<Decision, ApiError> {
    changed(stamp, row.into(), Event::GrantDeleted(Nothing {}))
}

/// All of it or nothing. Deletions come first, so that a batch may replace a grant.
pub(crate) fn batch(
    stamp: &Stamp,
    asked: &GrantBatch,
    known: &Known,
) -> Result<Decision, ApiError> {
    let count = asked.create.len() + asked.delete.len();
    if !(1..=BATCH_MAX).contains(&count) {
        return Err(ApiError::invalid(
            "",
            format!("expected 1 to {BATCH_MAX} grants in all"),
        ));
    }
    let mut faults = Faults::default();
    let mut envelopes = deletions(stamp, &asked.delete, known, &mut faults);
    let deleted: BTreeSet<GrantId> = asked.delete.iter().copied().collect();
    let mut seen = BTreeSet::new();
    let mut taken = None;
    for (index, create) in asked.create.iter().enumerate() {
        let place = format!("/create/{index}");
        check_references(&place, create, known, &mut faults)?;
        let pair = pair_of(create);
        let granted = known
            .pairs
            .get(&pair)
            .is_some_and(|grant| !deleted.contains(grant));
        if !seen.insert(pair) || granted {
            taken.get_or_insert(place);
        }
    }
    faults.finish()?;
    if let Some(place) = taken {
        return Err(ApiError::field(
            Code::Conflict,
            place,
            "the key has this grant already",
        ));
    }
    let mut rows = Vec::with_capacity(asked.create.len());
    for create in &asked.create {
        let envelope = stamp.envelope(GrantId::generate(), 1, event(create));
        rows.push(row_of(&envelope)?);
        envelopes.push(envelope);
    }
    let answer = Answer::Batch {
        created: rows,
        deleted: asked.delete.clone(),
    };
    Ok(Decision::new(envelopes, answer))
}

fn deletions(
    stamp: &Stamp,
    asked: &[GrantId],
    known: &Known,
    faults: &mut Faults,
) -> Vec<Envelope> {
    let mut seen = BTreeSet::new();
    let mut envelopes = Vec::with_capacity(asked.len());
    for (index, id) in asked.iter().enumerate() {
        let place = format!("/delete/{index}");
        match known.grants.get(id) {
            None => faults.add(place, "there is no such grant in this organisation"),
            Some(_) if !seen.insert(*id) => faults.add(place, "is there twice"),
            Some(version) => {
                let event = Event::GrantDeleted(Nothing {});
                envelopes.push(stamp.envelope(*id, version + 1, event));
            }
        }
    }
    envelopes
}

fn check_references(
    place: &str,
    asked: &GrantCreate,
    known: &Known,
    faults: &mut Faults,
) -> Result<(), ApiError> {
    let (key, model) = pair_of(asked);
    if !known.keys.contains(&key) {
        faults.take::<()>(Err(no_such(&format!("{place}/key_id"), "key")))?;
    }
    if !known.models.contains(&model) {
        faults.take::<()>(Err(no_such(&format!("{place}/target/id"), "model")))?;
    }
    Ok(())
}

fn event(asked: &GrantCreate) -> Event {
    Event::GrantCreated(GrantBody {
        key_id: asked.key_id,
        target: asked.target,
    })
}

fn row_of(envelope: &Envelope) -> Result<EntityRow, ApiError> {
    match fold::apply(None, envelope).map_err(ApiError::internal)? {
        fold::Change::Put(row) => Ok(*row),
        fold::Change::Delete(_) | fold::Change::Nothing => {
            Err(ApiError::internal("a grant that was created is not there"))
        }
    }
}

#[cfg(test)]
mod tests {
    use odock_events::ids::OrganisationId;

    use super::*;
    use crate::domain::testing::{after, kinds};

    fn asked() -> (GrantCreate, Known) {
        let (key_id, id) = (KeyId::generate(), ModelId::generate());
        let known = Known {
            keys: [key_id].into(),
            models: [id].into(),
            ..Known::default()
        };
        (
            GrantCreate {
                key_id,
                target: GrantTarget::Model { id },
            },
            known,
        )
    }

    #[test]
    fn a_pair_has_one_grant() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let (create_one, mut known) = asked();
        let decision = create(&stamp, GrantId::generate(), &create_one, &known).unwrap();
        let row = after::<GrantBody>(&decision);
        assert_eq!(row.body.key_id, create_one.key_id);
        known.pairs.insert(pair_of(&create_one), row.id);
        let twice = create(&stamp, GrantId::generate(), &create_one, &known);
        assert_eq!(twice.err().unwrap().code, Code::Conflict);
        assert_eq!(kinds(&delete(&stamp, row).unwrap()), ["grant.deleted"]);
        let strangers = create(&stamp, GrantId::generate(), &create_one, &Known::default());
        assert_eq!(strangers.err().unwrap().fields.len(), 2);
    }

    #[test]
    fn a_batch_may_replace_and_is_all_or_nothing() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let (create_one, mut known) = asked();
        let old = GrantId::generate();
        known.pairs.insert(pair_of(&create_one), old);
        known.grants.insert(old, 1);
        let replace = GrantBatch {
            create: vec![create_one],
            delete: vec![old],
        };
        let decision = batch(&stamp, &replace, &known).unwrap();
        assert_eq!(kinds(&decision), ["grant.deleted", "grant.created"]);
        let taken = GrantBatch {
            create: vec![create_one],
            delete: vec![],
        };
        assert_eq!(
            batch(&stamp, &taken, &known).err().unwrap().code,
            Code::Conflict
        );
        let twice = GrantBatch {
            create: vec![create_one, create_one],
            delete: vec![old],
        };
        assert_eq!(
            batch(&stamp, &twice, &known).err().unwrap().fields[0].field,
            "/create/1"
        );
        let unknown = GrantBatch {
            create: vec![],
            delete: vec![GrantId::generate(), old, old],
        };
        let error = batch(&stamp, &unknown, &known).err().unwrap();
        let fields: Vec<_> = error
            .fields
            .iter()
            .map(|fault| fault.field.as_str())
            .collect();
        assert_eq!(fields, ["/delete/0", "/delete/2"]);
        let empty = GrantBatch {
            create: vec![],
            delete: vec![],
        };
        assert!(batch(&stamp, &empty, &known).is_err());
        let many = GrantBatch {
            create: vec![create_one; BATCH_MAX + 1],
            delete: vec![],
        };
        assert!(batch(&stamp, &many, &known).is_err());
    }
}
