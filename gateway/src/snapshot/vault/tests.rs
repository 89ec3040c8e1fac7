//! The vault with a real key pair.

use std::sync::LazyLock;

use odock_events::{
    clock::FixedClock,
    seal::{KeyPair, PublicKey, generate_key_pair},
};
use secrecy::ExposeSecret as _;

use super::*;
use crate::snapshot::testing::World;

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| generate_key_pair().unwrap());
const TTL: Duration = Duration::from_secs(300);

fn vault() -> Vault {
    vault_of(&PAIR, Arc::new(FixedClock::default()))
}

fn vault_of(pair: &KeyPair, clock: Arc<dyn Clock>) -> Vault {
    Vault::new(
        Some(PrivateKey::from_pem(&pair.private_pem).unwrap()),
        TTL,
        clock,
    )
}

/// A provider key with `secret`, and the envelope it points to.
fn sealed(number: u32, secret: &str) -> (ProviderKey, (SealedSecretId, Arc<str>)) {
    let mut row = World::new().provider_key(number);
    let owner = associated_data(row.organisation_id, row.body.provider_id);
    let public = PublicKey::from_pem(&PAIR.public_pem).unwrap();
    let json: Arc<str> = public.seal(secret, &owner).unwrap().to_json().into();
    row.body.sealed_sha256 = Sha256Digest::of(json.as_bytes());
    let id = row.body.sealed_secret_id;
    (row, (id, json))
}

#[tokio::test]
async fn a_key_opens_once_and_serves_both_forms() {
    let vault = vault();
    let (row, envelope) = sealed(1, "sk-upstream");
    vault.put_envelopes([envelope]);
    let all = futures_util::future::join_all((0..20).map(|_| vault.secret(&row))).await;
    let first = all[0].clone().unwrap();
    assert!(
        all.iter()
            .all(|opened| Arc::ptr_eq(opened.as_ref().unwrap(), &first))
    );
    assert_eq!(first.secret().expose_secret(), "sk-upstream");
    let header = vault.authorization(&row).unwrap();
    assert_eq!(header, "Bearer sk-upstream");
    assert!(header.is_sensitive());
    assert!(!format!("{first:?}{header:?}{vault:?}").contains("sk-upstream"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_a_key_opens_in_place() {
    let vault = vault();
    let (row, envelope) = sealed(1, "sk-upstream");
    vault.put_envelopes([envelope]);
    assert_eq!(vault.authorization(&row).unwrap(), "Bearer sk-upstream");
    assert!(vault.opened(&row).is_some());
}

#[tokio::test]
async fn an_opened_key_is_forgotten_after_its_time() {
    let clock = Arc::new(FixedClock::default());
    let vault = vault_of(&PAIR, Arc::clone(&clock) as Arc<dyn Clock>);
    let begun = Timestamp(1_000_000);
    clock.set(begun);
    let (row, envelope) = sealed(1, "sk-upstream");
    vault.put_envelopes([envelope]);
    let first = vault.secret(&row).await.unwrap();
    clock.set(begun.saturating_add(TTL.saturating_sub(Duration::from_secs(1))));
    vault.forget_expired();
    assert!(Arc::ptr_eq(&vault.secret(&row).await.unwrap(), &first));
    clock.set(begun.saturating_add(TTL));
    assert!(vault.opened(&row).is_none());
    vault.forget_expired();
    assert!(read(&vault.slots).is_empty());
    assert_eq!(
        Arc::strong_count(&first),
        1,
        "nothing else holds the plain text"
    );
    assert!(vault.secret(&row).await.is_ok());
    clock.set(begun);
    assert!(
        vault.opened(&row).is_none(),
        "a clock that goes back keeps nothing"
    );
}

#[tokio::test]
async fn each_reason_has_its_own_error() {
    let (row, (id, json)) = sealed(1, "sk-upstream");
    let vault = vault();
    assert_eq!(vault.secret(&row).await.unwrap_err(), VaultError::NotHere);
    assert_eq!(vault.authorization(&row).unwrap_err(), VaultError::NotHere);
    vault.put_envelopes([(id, Arc::clone(&json))]);

    let mut moved = row.clone();
    moved.body.provider_id = ProviderId::generate();
    let error = vault.secret(&moved).await.unwrap_err();
    assert_eq!(error, VaultError::Seal(SealError::Content));
    let mut changed = row.clone();
    changed.body.sealed_sha256 = Sha256Digest::of(b"other");
    assert_eq!(
        vault.secret(&changed).await.unwrap_err(),
        VaultError::Changed
    );
    assert!(vault.secret(&row).await.is_ok());

    let other = generate_key_pair().unwrap();
    let foreign = vault_of(&other, Arc::new(FixedClock::default()));
    foreign.put_envelopes([(id, Arc::clone(&json))]);
    let error = foreign.secret(&row).await.unwrap_err();
    assert_eq!(
        (error, error.name()),
        (VaultError::Seal(SealError::KeyId), "other_key_pair")
    );
    let keyless = Vault::new(None, TTL, Arc::new(FixedClock::default()));
    keyless.put_envelopes([(id, json)]);
    assert_eq!(
        keyless.secret(&row).await.unwrap_err(),
        VaultError::NoPrivateKey
    );

    let (row, envelope) = sealed(2, "two\nlines");
    vault.put_envelopes([envelope]);
    assert_eq!(
        vault.secret(&row).await.unwrap_err(),
        VaultError::NotHeaderSafe
    );
}

#[tokio::test]
async fn what_the_configuration_does_not_name_is_forgotten() {
    let vault = vault();
    let (kept, kept_envelope) = sealed(1, "sk-kept");
    let (mut revoked, revoked_envelope) = sealed(2, "sk-revoked");
    vault.put_envelopes([kept_envelope.clone(), revoked_envelope]);
    let (kept_secret, revoked_secret) = (
        vault.secret(&kept).await.unwrap(),
        vault.secret(&revoked).await.unwrap(),
    );
    revoked.body.revoked = true;
    revoked.version = 2;
    let rows = [kept.clone().into(), revoked.into()];
    let snapshot = Snapshot::of_rows(2, rows);
    vault.keep_only(&snapshot);
    assert_eq!(vault.envelopes(), [kept_envelope]);
    assert_eq!(
        (
            Arc::strong_count(&kept_secret),
            Arc::strong_count(&revoked_secret)
        ),
        (2, 1)
    );
    assert_eq!(vault.missing(&snapshot), []);
    let (missing, (id, _)) = sealed(3, "sk-missing");
    assert_eq!(vault.missing(&Snapshot::of_rows(3, [missing.into()])), [id]);
    let mut renamed = kept.clone();
    renamed.version = 2;
    vault.keep_only(&Snapshot::of_rows(4, [renamed.into()]));
    assert_eq!(
        Arc::strong_count(&kept_secret),
        1,
        "dropped when the row changes"
    );
}
