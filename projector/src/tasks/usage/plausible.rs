//! Whether an event can be what a gateway has written: its own, with amounts, times and texts that the tables can
//! hold. What is not is set aside, so that one gateway's fault stops nobody else. Pure; called by `batch`.

use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::GatewayId,
    kind::Event,
    payload::{
        account::AccountSpec,
        lease::{LeaseReturned, LeaseStated, LeaseTotals},
        usage::UsageFinished,
    },
};

/// A million dollars in nanos: no call costs more.
const LARGEST_COST: i64 = 1_000_000_000_000_000;
/// A hundred million dollars in nanos: sums of such totals over all gateways do not overflow.
const LARGEST_TOTAL: i64 = 100 * LARGEST_COST;
/// The year 2200, and as far before 1970: farther from now no clock is.
const FARTHEST_TIME: i64 = 7_258_118_400_000_000;
/// Texts that are part of an index.
const LONGEST_TEXT: usize = 1_024;

/// Kinds that no gateway writes, named one by one, so that a new kind must be placed.
macro_rules! not_of_gateways {
    () => {
        Event::OrganisationCreated(_)
            | Event::OrganisationUpdated(_)
            | Event::OrganisationDeleted(_)
            | Event::TeamCreated(_)
            | Event::TeamUpdated(_)
            | Event::TeamDeleted(_)
            | Event::UserCreated(_)
            | Event::UserUpdated(_)
            | Event::UserDeleted(_)
            | Event::MembershipCreated(_)
            | Event::MembershipUpdated(_)
            | Event::MembershipDeleted(_)
            | Event::ProviderCreated(_)
            | Event::ProviderUpdated(_)
            | Event::ProviderDeleted(_)
            | Event::ProviderKeyCreated(_)
            | Event::ProviderKeyUpdated(_)
            | Event::ProviderKeyRevoked(_)
            | Event::ProviderKeyDeleted(_)
            | Event::ModelCreated(_)
            | Event::ModelUpdated(_)
            | Event::ModelDeleted(_)
            | Event::KeyCreated(_)
            | Event::KeyUpdated(_)
            | Event::KeyRevoked(_)
            | Event::KeyUnrevoked(_)
            | Event::KeyRotated(_)
            | Event::KeyDeleted(_)
            | Event::GrantCreated(_)
            | Event::GrantDeleted(_)
            | Event::BudgetCreated(_)
            | Event::BudgetUpdated(_)
            | Event::BudgetDeleted(_)
            | Event::QuotaCreated(_)
            | Event::QuotaUpdated(_)
            | Event::QuotaDeleted(_)
            | Event::OverlayCreated(_)
            | Event::OverlayUpdated(_)
            | Event::OverlayDeleted(_)
            | Event::LeaseGranted(_)
            | Event::WindowClosed(_)
            | Event::WindowCarried(_)
            | Event::RaiseEnded(_)
            | Event::ThresholdCrossed(_)
            | Event::BudgetBreached(_)
            | Event::GatewayLost(_)
            | Event::LogGap(_)
            | Event::CommandRejected(_)
    };
}

pub(super) fn check(gateway_id: GatewayId, envelope: &Envelope) -> Result<(), String> {
    let (named, content) = match &envelope.event {
        Event::GatewayOpened(opened) => (opened.gateway_id, Ok(())),
        Event::GatewayClosed(closed) => (closed.gateway_id, Ok(())),
        Event::UsageFinished(usage) => (usage.gateway_id, check_usage(envelope, usage)),
        Event::LeaseReturned(returned) => (returned.gateway_id, check_returned(returned)),
        Event::LeaseStated(stated) => (stated.gateway_id, check_stated(stated)),
        not_of_gateways!() => {
            return Err(format!(
                "a gateway does not write {}",
                envelope.kind().name()
            ));
        }
    };
    if named != gateway_id {
        return Err("the event names another gateway".into());
    }
    if !is_time(envelope.meta.occurred_at) {
        return Err("a time is out of bounds".into());
    }
    content
}

fn check_returned(returned: &LeaseReturned) -> Result<(), String> {
    let amounts = returned.leases.iter().map(|lease| lease.returned);
    let times = returned
        .leases
        .iter()
        .map(|lease| lease.account.window_start);
    check_all(amounts, times)
}

fn check_stated(stated: &LeaseStated) -> Result<(), String> {
    let amounts = stated.leases.iter().flat_map(|lease| {
        let LeaseTotals {
            granted,
            settled,
            returned,
        } = lease.totals;
        let open = granted.saturating_sub(settled).saturating_sub(returned);
        [granted, settled, returned, open]
    });
    let owners = stated.leases.iter();
    check_names(owners.map(|lease| lease.account.owner.id_text()))?;
    let times = stated
        .leases
        .iter()
        .flat_map(|lease| times_of(&lease.account));
    check_all(amounts, times)
}

fn check_usage(envelope: &Envelope, usage: &UsageFinished) -> Result<(), String> {
    if envelope.meta.organisation_id.is_none() {
        return Err("the record names no organisation".into());
    }
    let tokens = &usage.tokens;
    let counts = [
        tokens.input,
        tokens.cached_input,
        tokens.cache_write,
        tokens.output,
        tokens.reasoning,
    ];
    if counts.iter().any(|count| *count > 1 << 40) || !(0..=LARGEST_COST).contains(&usage.cost.0) {
        return Err("an amount is out of bounds".into());
    }
    if usage.request_id.len() > LONGEST_TEXT || usage.model.len() > LONGEST_TEXT {
        return Err("a text is too long".into());
    }
    let own = [usage.started_at, usage.finished_at]
        .into_iter()
        .chain(usage.first_byte_at);
    let windows = usage
        .accounts
        .iter()
        .flat_map(|used| times_of(&used.account));
    let owners = usage
        .accounts
        .iter()
        .map(|used| used.account.owner.id_text());
    check_names(owners.chain(usage.end_user.clone()))?;
    check_all(
        usage.accounts.iter().map(|used| used.reserved),
        own.chain(windows),
    )
}

/// Names of tags and end users that a column can hold.
fn check_names(mut names: impl Iterator<Item = String>) -> Result<(), String> {
    if names.all(|name| name.len() <= LONGEST_TEXT && !name.contains('\0')) {
        Ok(())
    } else {
        Err("a name is too long or holds what no text can".into())
    }
}

fn check_all(
    mut amounts: impl Iterator<Item = i64>,
    mut times: impl Iterator<Item = Timestamp>,
) -> Result<(), String> {
    if !amounts.all(|amount| (0..=LARGEST_TOTAL).contains(&amount)) {
        return Err("an amount is out of bounds".into());
    }
    if !times.all(is_time) {
        return Err("a time is out of bounds".into());
    }
    Ok(())
}

fn times_of(account: &AccountSpec) -> impl Iterator<Item = Timestamp> {
    [account.id.window_start]
        .into_iter()
        .chain(account.window_end)
}

fn is_time(time: Timestamp) -> bool {
    (-FARTHEST_TIME..=FARTHEST_TIME).contains(&time.0)
}

#[cfg(test)]
mod tests {
    use odock_events::{examples, kind::Kind};

    use super::*;

    fn usage(change: impl FnOnce(&mut UsageFinished)) -> Result<(), String> {
        let mut envelope = examples::of_kind(Kind::UsageFinished);
        let Event::UsageFinished(usage) = &mut envelope.event else {
            panic!("the example is another kind")
        };
        change(usage);
        check(GatewayId(examples_gateway()), &envelope)
    }

    fn examples_gateway() -> uuid::Uuid {
        match examples::of_kind(Kind::GatewayClosed).event {
            Event::GatewayClosed(closed) => closed.gateway_id.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_gateway_writes_is_plausible() {
        for kind in Kind::ALL {
            let envelope = examples::of_kind(*kind);
            let plausible = check(GatewayId(examples_gateway()), &envelope).is_ok();
            assert_eq!(
                plausible,
                kind.source() == odock_events::kind::Source::Gateway,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn what_no_table_could_hold_is_not() {
        assert!(usage(|_| ()).is_ok());
        assert!(usage(|usage| usage.cost.0 = -1).is_err());
        assert!(usage(|usage| usage.cost.0 = i64::MAX).is_err());
        assert!(usage(|usage| usage.tokens.output = u64::MAX).is_err());
        assert!(usage(|usage| usage.accounts[0].reserved = -1).is_err());
        assert!(usage(|usage| usage.started_at = Timestamp(i64::MAX)).is_err());
        assert!(usage(|usage| usage.accounts[0].account.id.window_start.0 = i64::MIN).is_err());
        assert!(usage(|usage| usage.request_id = "x".repeat(5_000)).is_err());
        assert!(usage(|usage| usage.gateway_id = GatewayId::generate()).is_err());
    }
}
