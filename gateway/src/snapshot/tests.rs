//! Snapshots against a plain map of rows: whatever the history, applying it delta by delta gives what loading its
//! result gives.

use std::collections::BTreeMap;

use odock_events::{
    clock::Timestamp,
    envelope::EntityRef,
    payload::account::RuleId,
    state::{
        EntityRow,
        config::{ConfigChange, ConfigDelta},
    },
    units::Sha256Digest,
};
use proptest::prelude::*;

use super::{
    Consequences, Gap, Snapshot,
    testing::{World, budget_id, grant_id, key_id, model_id},
};

fn delta(version: u64, changes: Vec<ConfigChange>) -> ConfigDelta {
    let committed_at = Timestamp(0);
    ConfigDelta {
        version,
        position: version,
        command_id: None,
        committed_at,
        changes,
    }
}

fn put(row: impl Into<EntityRow>) -> ConfigChange {
    ConfigChange::Put(Box::new(row.into()))
}

fn delete(entity: impl Into<EntityRef>) -> ConfigChange {
    ConfigChange::Delete(entity.into())
}

fn apply(snapshot: &Snapshot, changes: Vec<ConfigChange>) -> (Snapshot, Consequences) {
    snapshot
        .apply(delta(snapshot.version + 1, changes))
        .unwrap()
}

#[test]
fn only_the_next_version_applies() {
    let snapshot = Snapshot::of_rows(7, []);
    for version in [0, 6, 7, 9] {
        let gap = snapshot.apply(delta(version, vec![])).unwrap_err();
        assert_eq!(
            gap,
            Gap {
                current: 7,
                found: version
            }
        );
    }
    assert_eq!(snapshot.apply(delta(8, vec![])).unwrap().0.version, 8);
}

#[test]
fn grants_count_whether_they_come_before_or_after_their_key() {
    let world = World::new();
    let (key, grant) = (world.key(1), world.grant(1, 1, 5));
    let secret = key.body.secret_sha256;
    for rows in [
        [key.clone().into(), grant.clone().into()],
        [grant.into(), key.into()],
    ] {
        let snapshot = Snapshot::of_rows(1, rows);
        let entry = snapshot.key(&secret).unwrap();
        assert!(entry.may_use(model_id(5)) && !entry.may_use(model_id(6)));
        let (snapshot, _) = apply(&snapshot, vec![delete(grant_id(1))]);
        assert!(!snapshot.key(&secret).unwrap().may_use(model_id(5)));
    }
}

#[test]
fn a_grant_that_replaces_another_in_one_delta_stays() {
    let world = World::new();
    let secret = world.key(1).body.secret_sha256;
    let snapshot = Snapshot::of_rows(1, [world.key(1).into(), world.grant(1, 1, 5).into()]);
    let (snapshot, _) = apply(
        &snapshot,
        vec![put(world.grant(2, 1, 5)), delete(grant_id(1))],
    );
    assert!(snapshot.key(&secret).unwrap().may_use(model_id(5)));
    assert_eq!(
        snapshot.grants().collect::<Vec<_>>(),
        [(grant_id(2), key_id(1), model_id(5))]
    );
}

#[test]
fn a_rotated_key_keeps_its_grants_under_its_new_secret_only() {
    let world = World::new();
    let old = world.key(1);
    let before = Snapshot::of_rows(1, [old.clone().into(), world.grant(1, 1, 5).into()]);
    let mut rotated = old.clone();
    rotated.body.secret_sha256 = Sha256Digest::of(b"new");
    let (after, consequences) = apply(&before, vec![put(rotated)]);
    assert!(after.key(&old.body.secret_sha256).is_none());
    assert!(
        after
            .key(&Sha256Digest::of(b"new"))
            .unwrap()
            .may_use(model_id(5))
    );
    assert_eq!(
        (after.key_count(), consequences),
        (1, Consequences::default())
    );
    assert!(
        before.key(&old.body.secret_sha256).is_some(),
        "a request keeps its snapshot"
    );
}

#[test]
fn revoked_and_deleted_keys_are_dead() {
    let world = World::new();
    let snapshot = Snapshot::of_rows(1, [world.key(1).into(), world.key(2).into()]);
    let mut revoked = world.key(1);
    revoked.body.revoked = true;
    let (snapshot, consequences) = apply(&snapshot, vec![put(revoked), delete(key_id(2))]);
    assert_eq!(consequences.dead_keys, [key_id(1), key_id(2)]);
    assert!(snapshot.key_by_id(key_id(1)).unwrap().key.body.revoked);
    assert_eq!(
        (
            snapshot.key_by_id(key_id(2)).is_none(),
            snapshot.key_count()
        ),
        (true, 1)
    );
}

#[test]
fn a_renamed_model_leaves_its_old_name_to_others() {
    let world = World::new();
    let snapshot = Snapshot::of_rows(1, [world.organisation().into(), world.model(1).into()]);
    let mut renamed = world.model(1);
    renamed.body.name = "other".to_owned();
    let mut successor = world.model(2);
    successor.body.name = "model-1".to_owned();
    // Also when the successor comes first.
    for changes in [
        [put(renamed.clone()), put(successor.clone())],
        [put(successor), put(renamed)],
    ] {
        let (snapshot, _) = apply(&snapshot, changes.to_vec());
        let tenant = snapshot.tenant(world.organisation().id).unwrap();
        assert_eq!(tenant.model("other").unwrap().id, model_id(1));
        assert_eq!(tenant.model("model-1").unwrap().id, model_id(2));
        assert_eq!(tenant.model_by_id(model_id(1)).unwrap().body.name, "other");
        let (snapshot, _) = apply(&snapshot, vec![delete(model_id(2))]);
        assert!(
            snapshot
                .tenant(world.organisation().id)
                .unwrap()
                .model("model-1")
                .is_none()
        );
    }
}

fn rule(number: u32) -> RuleId {
    budget_id(number).into()
}

#[test]
fn rules_are_found_by_owner_and_by_id() {
    let world = World::new();
    let owner = key_id(1).0;
    let rows = [2, 1].map(|number| world.budget_of_key(number, 1).into());
    let snapshot = Snapshot::of_rows(1, rows);
    let ids = |snapshot: &Snapshot| -> Vec<_> {
        snapshot
            .rules_of(owner)
            .iter()
            .map(|rule| rule.id())
            .collect()
    };
    assert_eq!(ids(&snapshot), [rule(1), rule(2)]);
    let mut lowered = world.budget_of_key(2, 1);
    lowered.body.amount_nanos.0 = 5;
    let (snapshot, consequences) = apply(&snapshot, vec![put(lowered)]);
    assert_eq!(consequences.changed_rules, [rule(2)]);
    assert_eq!(snapshot.rule(budget_id(2)).unwrap().limit(), 5);
    let (snapshot, consequences) = apply(&snapshot, vec![delete(budget_id(1))]);
    assert_eq!(consequences.changed_rules, [rule(1)]);
    assert_eq!(ids(&snapshot), [rule(2)]);
    let (snapshot, _) = apply(&snapshot, vec![delete(budget_id(2))]);
    assert!(snapshot.rules_of(owner).is_empty() && snapshot.rule(budget_id(2)).is_none());
}

#[test]
fn a_load_has_the_consequences_of_the_deltas_it_stands_for() {
    let world = World::new();
    let mut revoked_before = world.key(4);
    revoked_before.body.revoked = true;
    let keys = [
        world.key(1),
        world.key(2),
        world.key(3),
        revoked_before.clone(),
    ];
    let mut rows: Vec<EntityRow> = keys.map(Into::into).to_vec();
    rows.extend([1, 2, 3].map(|number| world.budget_of_key(number, 1).into()));
    let before = Snapshot::of_rows(1, rows);
    let mut revoked = world.key(2);
    revoked.body.revoked = true;
    let mut changed = world.budget_of_key(2, 1);
    changed.version = 2;
    let rows: Vec<EntityRow> = vec![
        world.key(1).into(),
        revoked.into(),
        revoked_before.into(),
        world.budget_of_key(1, 1).into(),
        changed.into(),
    ];
    let mut consequences = Snapshot::of_rows(9, rows).consequences_after(&before);
    consequences.dead_keys.sort();
    consequences.changed_rules.sort();
    assert_eq!(consequences.dead_keys, [key_id(2), key_id(3)]);
    assert_eq!(consequences.changed_rules, [rule(2), rule(3)]);
}

/// One step of a history, on a few entities of each kind so that they meet.
fn step() -> impl Strategy<Value = ConfigChange> {
    let world = World::new();
    let number = 1..5_u32;
    prop_oneof![
        Just(put(world.organisation())),
        Just(delete(world.organisation().id)),
        number
            .clone()
            .prop_map(move |number| put(world.provider(number))),
        number
            .clone()
            .prop_map(move |number| delete(world.provider(number).id)),
        number
            .clone()
            .prop_map(move |number| put(world.provider_key(number))),
        number
            .clone()
            .prop_map(move |number| delete(world.provider_key(number).id)),
        // Names are unique among models, and change.
        (number.clone(), 0..3_u32).prop_map(move |(number, name)| {
            let mut model = world.model(number);
            model.body.name = format!("model-{number}-{name}");
            put(model)
        }),
        number
            .clone()
            .prop_map(move |number| delete(model_id(number))),
        (number.clone(), 0..3_u32, any::<bool>()).prop_map(move |(number, secret, revoked)| {
            let mut key = world.key(number);
            key.body.secret_sha256 = Sha256Digest::of(format!("{number}-{secret}").as_bytes());
            key.body.revoked = revoked;
            put(key)
        }),
        number
            .clone()
            .prop_map(move |number| delete(key_id(number))),
        // A grant never changes, so its number says what it grants; several name the same model.
        (0..24_u32).prop_map(move |grant| put(world.grant(grant, grant % 4 + 1, grant % 3 + 1))),
        (0..24_u32).prop_map(|grant| delete(grant_id(grant))),
        (number.clone(), 0..3_i64).prop_map(move |(number, amount)| {
            let mut budget = world.budget_of_key(number, number % 2 + 1);
            budget.body.amount_nanos.0 = amount;
            put(budget)
        }),
        number.prop_map(|number| delete(budget_id(number))),
    ]
}

fn order(entity: EntityRef) -> (String, uuid::Uuid) {
    (format!("{:?}", entity.kind), entity.id)
}

fn sorted_rows(snapshot: &Snapshot) -> Vec<EntityRow> {
    let mut rows: Vec<_> = snapshot.rows().collect();
    rows.sort_by_key(|row| order(row.entity()));
    rows
}

fn sorted_grants(snapshot: &Snapshot) -> Vec<(odock_events::ids::GrantId, Vec<u8>)> {
    let mut grants: Vec<_> = snapshot
        .grants()
        .map(|(grant, key, model)| (grant, [key.0.into_bytes(), model.0.into_bytes()].concat()))
        .collect();
    grants.sort();
    grants
}

/// What each key may use, by the key's id.
fn permissions(snapshot: &Snapshot) -> BTreeMap<odock_events::ids::KeyId, Vec<bool>> {
    let may = |number: u32| {
        let entry = snapshot.key_by_id(key_id(number))?;
        let models = (1..5).map(|model| entry.may_use(model_id(model)));
        Some((key_id(number), models.collect()))
    };
    (1..5).filter_map(may).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn deltas_one_by_one_give_what_loading_their_result_gives(
        history in prop::collection::vec(prop::collection::vec(step(), 1..4), 0..40)
    ) {
        let mut folded: BTreeMap<(String, uuid::Uuid), EntityRow> = BTreeMap::new();
        let mut snapshot = Snapshot::default();
        for changes in history {
            for change in &changes {
                match change {
                    ConfigChange::Put(row) => {
                        folded.insert(order(row.entity()), (**row).clone());
                    }
                    ConfigChange::Delete(entity) => {
                        folded.remove(&order(*entity));
                    }
                }
            }
            let before = snapshot.clone();
            let rows_before = sorted_rows(&before);
            snapshot = apply(&snapshot, changes).0;
            prop_assert_eq!(rows_before, sorted_rows(&before), "an older snapshot stays as it was");
        }
        let loaded = Snapshot::of_rows(snapshot.version, folded.into_values());
        prop_assert_eq!(sorted_rows(&snapshot), sorted_rows(&loaded));
        prop_assert_eq!(sorted_grants(&snapshot), sorted_grants(&loaded));
        prop_assert_eq!(permissions(&snapshot), permissions(&loaded));
        prop_assert_eq!(snapshot.key_count(), loaded.key_count());
        for number in 1..5 {
            prop_assert_eq!(snapshot.rule(budget_id(number)), loaded.rule(budget_id(number)));
            let model = |snapshot: &Snapshot| {
                let tenant = snapshot.tenant(World::new().organisation().id)?;
                let model = tenant.model_by_id(model_id(number))?;
                Some((model.clone(), tenant.model(&model.body.name).cloned()))
            };
            prop_assert_eq!(model(&snapshot), model(&loaded));
        }
    }
}
