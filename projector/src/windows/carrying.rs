//! Rollover: what is free in a closed window, or becomes free there later, goes on to the window after it, up to one limit
//! in all.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    kind::Event,
    payload::{
        account::{AccountId, AccountSpec, RuleId},
        budget::Owner,
        lease::WindowCarried,
    },
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Deciding, PAGE, WindowTask};
use crate::{
    error::ProjectorError,
    projections::{
        entity,
        money::{Touched, id_of},
    },
};

/// A closed window with something left.
struct Left {
    from: AccountId,
    owner: Owner,
    end: Timestamp,
}

/// Carries on from a page of windows. Only once a second, and without going on to the next page: one that cannot be carried
/// from, because its rule is inactive or has ended, is found again each time.
pub(super) async fn carry_some(task: &mut WindowTask<'_>) -> Result<Option<i64>, ProjectorError> {
    let left = find(task.database).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let named: BTreeSet<RuleId> = left.iter().map(|left| left.from.rule).collect();
    let rules = entity::share_rules(task.database, &named).await?;
    let mut touched = Touched::default();
    let mut next: BTreeMap<AccountId, AccountSpec> = BTreeMap::new();
    for Left { from, owner, end } in left {
        let rule = rules.get(&from.rule).filter(|rule| rule.is_active());
        // Windows touch: the one after it begins where it ends, unless the rule has ended there.
        let window = rule.and_then(|rule| rule.window_at(end));
        if let (Some(rule), Some(window)) = (rule, window.filter(|window| window.start == end)) {
            let to = rule.account_of(owner, from.subject, window, task.now);
            touched.account(from, None);
            touched.account(to.id, Some(&to));
            next.insert(from, to);
        }
    }
    task.decide(touched, Some(named), |deciding| {
        for (from, to) in next {
            carry(deciding, from, to);
        }
    })
    .await
}

fn carry(deciding: &mut Deciding, from: AccountId, to: AccountSpec) {
    let rule = deciding.rules.get(&from.rule);
    let books = &deciding.money.books;
    let account = books.accounts.get(&from);
    let may = rule.is_some_and(|rule| rule.is_active() && rule.rollover());
    let Some(account) = account.filter(|account| account.closed && may) else {
        return;
    };
    let carried = books.accounts.get(&to.id).map_or(0, |next| next.carried_in);
    let amount = account.free().min(to.limit - carried);
    if amount > 0 {
        let event = Event::WindowCarried(WindowCarried { from, to, amount });
        deciding.decided(from, event);
    }
}

/// Closed windows with something left and room for it in the window after them, the newest first.
async fn find(database: &mut PgConnection) -> Result<Vec<Left>, ProjectorError> {
    type Columns = (
        String,
        Uuid,
        Uuid,
        DateTime<Utc>,
        String,
        String,
        DateTime<Utc>,
    );
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT c.rule_kind, c.rule_id, c.subject, c.window_start, c.owner_kind, c.owner_id, c.window_end
         FROM account c LEFT JOIN account n
             ON n.rule_id = c.rule_id AND n.subject = c.subject AND n.window_start = c.window_end
         WHERE c.closed AND c.rollover AND c.window_end IS NOT NULL
             AND c.limit_amount + c.carried_in - c.carried_out - c.held - c.settled > 0
             AND coalesce(n.carried_in, 0) < coalesce(n.limit_amount, c.limit_amount)
         ORDER BY c.window_end DESC LIMIT $1",
    )
    .bind(PAGE)
    .fetch_all(database)
    .await?;
    let mut left = Vec::with_capacity(rows.len());
    for (kind, rule, subject, start, owner_kind, owner_id, end) in rows {
        let owner = Owner::from_text(&owner_kind, &owner_id);
        left.push(Left {
            from: id_of((kind, rule, subject, start))?,
            owner: owner.ok_or(ProjectorError::Foreign {
                table: "account",
                value: owner_kind,
            })?,
            end: Timestamp::from_datetime(end),
        });
    }
    Ok(left)
}
