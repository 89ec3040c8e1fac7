//! After Postgres went back, gateways send again what it has forgotten, and their calls settle on grants that it has
//! forgotten too. Such a grant is written again, as large as the records prove it to have been; the gateway's own
//! statement that follows them may prove more.

use std::collections::BTreeMap;

use odock_events::{
    envelope::{EntityRef, Envelope},
    kind::Event,
    payload::{
        account::AccountSpec,
        lease::{LeaseGranted, LeaseTotals},
    },
};
use sqlx::PgConnection;

use super::{batch::Batch, transaction::Transaction};
use crate::{
    error::ProjectorError,
    projections::{
        gateway::Gateways,
        money::{LeaseKey, Money},
    },
    tasks::derived::{decided, spec_of},
};

/// The grants without which these batches could not be; none unless Postgres went back and a gateway has not stated
/// its leases yet.
pub(super) async fn missing_grants(
    connection: &mut PgConnection,
    transaction: &Transaction<'_>,
    money: &Money,
    gateways: &Gateways,
) -> Result<Vec<Envelope>, ProjectorError> {
    let stating: i64 = sqlx::query_scalar("SELECT stating FROM generation WHERE id = 1")
        .fetch_one(connection)
        .await?;
    if stating == 0 {
        return Ok(Vec::new());
    }
    let mut proven = Proven {
        money,
        leases: BTreeMap::new(),
    };
    for batch in transaction.batches {
        let row = gateways.rows.get(&batch.gateway_id);
        if row.is_none_or(|row| row.stated_generation < stating) {
            proven.read(batch);
        }
    }
    let missing = proven
        .leases
        .into_iter()
        .filter_map(|((account, gateway_id), proven)| {
            let needed = proven.totals.settled + proven.totals.returned;
            let spec = proven.spec.filter(|_| needed > proven.totals.granted)?;
            let organisation = Some(spec.organisation_id);
            let event = Event::LeaseGranted(LeaseGranted {
                gateway_id,
                account: spec,
                granted: needed,
            });
            let budget = EntityRef::from(account.rule);
            let mut envelope = decided(budget, organisation, None, transaction.recorded_at, event);
            envelope.meta.reason = Some("granted before postgres went back".into());
            Some(envelope)
        });
    Ok(missing.collect())
}

/// Applies one of them as the transaction's first entry.
pub(super) fn apply(money: &mut Money, envelope: &Envelope) {
    if let Err(error) = money.apply(0, envelope) {
        tracing::error!(%error, "a grant that was proven by records does not apply");
    }
}

struct Lease {
    totals: LeaseTotals,
    spec: Option<AccountSpec>,
}

struct Proven<'a> {
    money: &'a Money,
    leases: BTreeMap<LeaseKey, Lease>,
}

impl Proven<'_> {
    fn read(&mut self, batch: &Batch) {
        for (_, envelope) in batch.envelopes() {
            if let Event::UsageFinished(usage) = &envelope.event {
                for used in &usage.accounts {
                    let lease = self.lease((used.account.id, usage.gateway_id));
                    lease.totals.settled += used.from_lease(usage);
                    lease.spec.get_or_insert_with(|| used.account.clone());
                }
            }
            if let Event::LeaseReturned(returned) = &envelope.event {
                for part in &returned.leases {
                    let lease = self.lease((part.account, returned.gateway_id));
                    lease.totals.returned = lease.totals.returned.max(part.returned);
                }
            }
        }
    }

    fn lease(&mut self, key: LeaseKey) -> &mut Lease {
        let money = self.money;
        self.leases.entry(key).or_insert_with(|| Lease {
            totals: money.books.lease(key),
            spec: money
                .books
                .accounts
                .get(&key.0)
                .map(|account| spec_of(key.0, account)),
        })
    }
}
