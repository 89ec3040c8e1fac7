//! One transaction of the grant task: rules shared, accounts locked, each ask decided, the grants written as one
//! entry of the log.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    clock::Timestamp,
    envelope::{EntityRef, Envelope},
    ids::GatewayId,
    kind::Event,
    ledger::{
        grant::{self, Decision, Situation},
        rule::Rule,
    },
    log::messages::{ControlLease, Denial},
    payload::{
        account::{AccountId, AccountSpec, RuleId},
        budget::Owner,
        lease::LeaseGranted,
    },
};
use sqlx::{Connection as _, PgConnection};

use crate::{
    error::ProjectorError,
    head,
    projections::{
        entity,
        money::{self, Money, Touched},
    },
    tasks::{
        derived::{self, decided},
        parked::{self, Parked},
    },
};

/// One account of one gateway's ask, as granted totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OneAsk {
    pub(super) gateway: GatewayId,
    pub(super) spec: AccountSpec,
    pub(super) must: i64,
    pub(super) want: i64,
}

/// What is to be told, or done, about an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Told {
        gateway: GatewayId,
        lease: ControlLease,
    },
    Short(Short),
}

/// An ask that is not free now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) ask: OneAsk,
    pub(super) granted: i64,
    pub(super) figures: Denial,
    /// Live gateways with an open part of it, who can be called, and what each was granted in all.
    pub(super) holders: BTreeMap<GatewayId, i64>,
    /// Holders without a heartbeat.
    pub(super) away: Vec<GatewayId>,
}

/// What was committed.
pub(super) struct Decided {
    /// `None` when nothing was granted.
    pub(super) position: Option<i64>,
    pub(super) answers: Vec<Answer>,
}

/// What a decision rests on beside the tables.
pub(super) struct Decide<'a> {
    pub(super) generation: u64,
    pub(super) now: Timestamp,
    pub(super) live: &'a BTreeSet<GatewayId>,
    /// The generation is so new that not every gateway has shown itself in it.
    pub(super) is_new: bool,
}

impl Decide<'_> {
    pub(super) async fn run(
        &self,
        database: &mut PgConnection,
        asks: Vec<OneAsk>,
    ) -> Result<Decided, ProjectorError> {
        let asks = newest(asks);
        let mut transaction = database.begin().await?;
        let connection = &mut *transaction;
        self.hold_generation(connection).await?;
        if parked::is_stating(connection, self.live, self.is_new).await? {
            return Ok(Decided {
                position: None,
                answers: Vec::new(),
            });
        }
        let named: BTreeSet<RuleId> = asks.iter().map(|ask| ask.spec.id.rule).collect();
        let rules = entity::share_rules(connection, &named).await?;
        let mut touched = Touched::default();
        for ask in &asks {
            touched.leases.insert((ask.spec.id, ask.gateway));
            touched.account(ask.spec.id, grantable(&rules, ask, self.now).as_ref());
        }
        let mut money = Money::lock(connection, &touched).await?;
        let ids: Vec<AccountId> = touched.accounts.keys().copied().collect();
        let crowded = crowded(connection, &touched, &money).await?;
        let mut deciding = Deciding {
            decide: self,
            crowded,
            scarce: parked::scarce_among(connection, &ids).await?,
            grants: Vec::new(),
            answers: Vec::new(),
            short: Vec::new(),
        };
        for ask in asks {
            let spec = grantable(&rules, &ask, self.now);
            deciding.decide(&mut money, ask, spec);
        }
        deciding.park(connection, &mut money).await?;
        let Deciding {
            grants, answers, ..
        } = deciding;
        let mut position = None;
        if grants.is_empty() {
            money.write(connection, 0).await?;
        } else {
            let before = head::take_positions(connection, 1).await?;
            derived::write(connection, &grants, before + 1, self.now).await?;
            money.write(connection, before).await?;
            position = Some(before + 1);
        }
        transaction.commit().await?;
        Ok(Decided { position, answers })
    }

    /// Holds the generation until the end: what compare-and-set is to the other tasks.
    async fn hold_generation(&self, connection: &mut PgConnection) -> Result<(), ProjectorError> {
        let held: i64 =
            sqlx::query_scalar("SELECT generation FROM generation WHERE id = 1 FOR SHARE")
                .fetch_one(connection)
                .await?;
        if held as u64 == self.generation {
            Ok(())
        } else {
            Err(ProjectorError::Fenced {
                what: format!("generation {held} is in force"),
            })
        }
    }
}

/// The newest ask of each gateway for each account, in the order in which they came.
fn newest(asks: Vec<OneAsk>) -> Vec<OneAsk> {
    let mut newest: Vec<OneAsk> = Vec::with_capacity(asks.len());
    for ask in asks {
        let same =
            |other: &&mut OneAsk| other.gateway == ask.gateway && other.spec.id == ask.spec.id;
        match newest.iter_mut().find(same) {
            Some(older) => *older = ask,
            None => newest.push(ask),
        }
    }
    newest
}

/// The account as its rule says it is, or nothing when nothing may be granted from it now.
fn grantable(rules: &BTreeMap<RuleId, Rule>, ask: &OneAsk, now: Timestamp) -> Option<AccountSpec> {
    let (id, rule) = (ask.spec.id, rules.get(&ask.spec.id.rule)?);
    let window = rule.window_at(id.window_start)?;
    let is_window = window.start == id.window_start;
    if !rule.is_active() || !is_window || !grant::is_grantable(window.start, window.end, now) {
        return None;
    }
    // A subject is what its name makes it, whatever the gateway says.
    let each = match (&ask.spec.owner, rule.owner().is_each()) {
        (Owner::Tag { value, .. }, true) => value.as_deref(),
        (Owner::EndUser { id }, true) => id.as_deref(),
        _ => None,
    };
    rule.account(window, each, now).filter(|spec| spec.id == id)
}

/// The new accounts of rules that have as many subjects as there may be.
async fn crowded(
    connection: &mut PgConnection,
    touched: &Touched,
    money: &Money,
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    let new = touched
        .accounts
        .keys()
        .filter(|id| !id.subject.is_nil() && !money.books.accounts.contains_key(id));
    let mut full: BTreeMap<RuleId, bool> = BTreeMap::new();
    let mut crowded = BTreeSet::new();
    for id in new {
        let is_full = match full.get(&id.rule) {
            Some(known) => *known,
            None => money::is_crowded(connection, id.rule).await?,
        };
        full.insert(id.rule, is_full);
        if is_full {
            crowded.insert(*id);
        }
    }
    Ok(crowded)
}

/// The asks of one transaction while they are decided.
struct Deciding<'a> {
    decide: &'a Decide<'a>,
    /// New accounts of rules that have too many already.
    crowded: BTreeSet<AccountId>,
    scarce: BTreeSet<AccountId>,
    grants: Vec<Envelope>,
    answers: Vec<Answer>,
    short: Vec<Short>,
}

impl Deciding<'_> {
    fn decide(&mut self, money: &mut Money, ask: OneAsk, spec: Option<AccountSpec>) {
        let (id, key) = (ask.spec.id, (ask.spec.id, ask.gateway));
        let account = money.books.accounts.get(&id);
        let closed = account.is_some_and(|account| account.closed);
        let granted = money.books.lease(key).granted;
        let (held, settled) = account.map_or((0, 0), |account| (account.held, account.settled));
        let too_many = self.crowded.contains(&id);
        let carried = account.map_or(0, |account| account.allowance() - account.limit);
        let limit = spec.as_ref().map_or(0, |spec| spec.limit + carried);
        let figures = Denial {
            must: ask.must,
            limit,
            settled,
            held,
            silent: Vec::new(),
            too_many,
            resets_at: spec
                .as_ref()
                .and_then(|spec| spec.window_end)
                .or(ask.spec.window_end),
        };
        let Some(spec) = spec.filter(|_| !closed && !too_many) else {
            self.answers.push(told(&ask, granted, true, Some(figures)));
            return;
        };
        let scarce = self.scarce.contains(&id);
        let situation = Situation {
            free: limit - held - settled,
            granted,
            live_gateways: u32::try_from(self.decide.live.len())
                .unwrap_or(u32::MAX)
                .max(1),
        };
        let want = if scarce { ask.must } else { ask.want };
        match grant::decide(situation, ask.must, want) {
            Decision::Granted(total) => {
                let total = self.grant(money, &ask, spec, granted, total);
                self.answers.push(told(&ask, total, scarce, None));
            }
            Decision::Short => {
                self.scarce.insert(id);
                let (holders, away) = (BTreeMap::new(), Vec::new());
                self.short.push(Short {
                    ask,
                    granted,
                    figures,
                    holders,
                    away,
                });
            }
        }
    }

    /// Writes the grant into the books; a total that is reached already needs no event.
    fn grant(
        &mut self,
        money: &mut Money,
        ask: &OneAsk,
        account: AccountSpec,
        granted: i64,
        total: i64,
    ) -> i64 {
        if total <= granted {
            return granted;
        }
        let organisation = Some(account.organisation_id);
        let event = Event::LeaseGranted(LeaseGranted {
            gateway_id: ask.gateway,
            account,
            granted: total,
        });
        let budget = EntityRef::from(ask.spec.id.rule);
        let envelope = decided(budget, organisation, None, self.decide.now, event);
        if let Err(error) = money.apply(0, &envelope) {
            tracing::error!(%error, "a grant does not apply");
            return granted;
        }
        self.grants.push(envelope);
        total
    }

    /// Parks what is short and finds out who holds some of it.
    async fn park(
        &mut self,
        connection: &mut PgConnection,
        money: &mut Money,
    ) -> Result<(), ProjectorError> {
        let ids: BTreeSet<AccountId> = self.short.iter().map(|short| short.ask.spec.id).collect();
        let ids: Vec<AccountId> = ids.into_iter().collect();
        money.load_all_leases(connection, &ids).await?;
        for mut short in std::mem::take(&mut self.short) {
            let ask = &short.ask;
            let parked = Parked {
                account: ask.spec.id,
                gateway: ask.gateway,
                must: ask.must,
                want: ask.want,
            };
            parked::park(connection, parked, self.decide.now).await?;
            for ((account, gateway), totals) in &money.books.leases {
                if *account == ask.spec.id && totals.open() > 0 {
                    if self.decide.live.contains(gateway) {
                        short.holders.insert(*gateway, totals.granted);
                    } else {
                        short.away.push(*gateway);
                    }
                }
            }
            self.answers.push(Answer::Short(short));
        }
        Ok(())
    }
}

fn told(ask: &OneAsk, granted: i64, scarce: bool, denial: Option<Denial>) -> Answer {
    let lease = ControlLease {
        account: ask.spec.id,
        granted,
        scarce,
        denial,
    };
    Answer::Told {
        gateway: ask.gateway,
        lease,
    }
}
