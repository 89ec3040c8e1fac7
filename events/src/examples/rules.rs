//! Examples of budgets, quotas and their accounts.

use super::{AT, id};
use crate::{
    clock::Timestamp,
    ids::{BudgetId, KeyId, OrganisationId, QuotaId, UsageId},
    payload::{
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetBody, BudgetMode, Owner, Period, Raise},
        lease::{RaiseEnded, WindowCarried},
        quota::{Metric, QuotaBody},
        threshold::{ThresholdCrossed, Thresholds},
    },
    units::NanoUsd,
};

pub(super) fn budget() -> BudgetBody {
    BudgetBody {
        name: Some("monthly".into()),
        owner: Owner::Key { id: KeyId(id(11)) },
        period: Period::Monthly,
        amount_nanos: NanoUsd(10_000_000_000),
        mode: BudgetMode::Hard,
        timezone: "UTC".into(),
        start_at: None,
        end_at: None,
        active: true,
        rollover: true,
        thresholds: Thresholds::of(&[75, 100]).unwrap_or_default(),
        raise: Some(Raise {
            amount: 5_000_000_000,
            until: Timestamp(AT.0 + 86_400_000_000),
        }),
        currency: "EUR".into(),
    }
}

pub(super) fn quota() -> QuotaBody {
    QuotaBody {
        name: Some("tokens of each project".into()),
        owner: Owner::Tag {
            name: "project".into(),
            value: None,
        },
        metric: Metric::Tokens,
        limit: 1_000,
        period: Period::Daily,
        timezone: "UTC".into(),
        start_at: None,
        end_at: None,
        active: true,
        rollover: true,
        thresholds: Thresholds::default(),
        raise: None,
    }
}

/// An account of a quota that counts each value of a tag by itself.
fn one_of_many() -> AccountSpec {
    let (owner, subject) = quota().owner.one("apollo");
    AccountSpec {
        id: AccountId {
            subject,
            ..AccountId::of(QuotaId(id(14)), Timestamp(1_793_491_200_000_000))
        },
        owner,
        unit: Unit::Tokens,
        limit: 1_000,
        window_end: Some(Timestamp(1_793_577_600_000_000)),
        rollover: true,
        ..account()
    }
}

pub(super) fn account() -> AccountSpec {
    AccountSpec {
        id: AccountId::of(BudgetId(id(13)), Timestamp(1_793_491_200_000_000)),
        organisation_id: OrganisationId(id(2)),
        owner: Owner::Key { id: KeyId(id(11)) },
        unit: Unit::Nanos,
        mode: BudgetMode::Hard,
        limit: 10_000_000_000,
        window_end: Some(Timestamp(1_796_083_200_000_000)),
        rollover: false,
        thresholds: Thresholds::default(),
    }
}

pub(super) fn carried() -> WindowCarried {
    let to = one_of_many();
    WindowCarried {
        from: AccountId {
            window_start: Timestamp(1_793_404_800_000_000),
            ..to.id
        },
        to,
        amount: 250,
    }
}

pub(super) fn raise_ended() -> RaiseEnded {
    RaiseEnded {
        account: account().id,
        limit: 10_000_000_000,
    }
}

pub(super) fn crossed() -> ThresholdCrossed {
    ThresholdCrossed {
        account: account(),
        percent: 80,
        settled: 8_000_000_001,
        limit: 10_000_000_000,
        usage_id: UsageId(id(21)),
    }
}
