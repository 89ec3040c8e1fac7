//! Books neither lose nor make money, whatever events come in whatever order.

use std::collections::BTreeMap;

use odock_events::{
    envelope::{Envelope, Meta},
    examples,
    ids::{BudgetId, GatewayId, QuotaId, UsageId},
    kind::{Event, Kind},
    ledger::books::Books,
    payload::{
        account::{AccountId, AccountSpec, RuleId, Unit},
        budget::BudgetMode,
        lease::{
            LeaseGranted, LeaseReturned, LeaseStated, LeaseTotals, RaiseEnded, ReturnedLease,
            StatedLease, WindowCarried,
        },
        usage::{AccountUse, UsageFinished},
    },
    units::NanoUsd,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::template;

#[derive(Clone, Debug)]
enum Step {
    Grant {
        account: u8,
        gateway: u8,
        granted: i64,
    },
    Settle {
        gateway: u8,
        cost: i64,
        reserved: i64,
        soft: bool,
    },
    Return {
        account: u8,
        gateway: u8,
        returned: i64,
    },
    State {
        account: u8,
        gateway: u8,
        granted: i64,
    },
    Carry {
        from: u8,
        amount: i64,
    },
    EndRaise {
        account: u8,
        limit: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let lease = || (0_u8..2, 0_u8..2, 0_i64..2_000);
    prop_oneof![
        lease().prop_map(|(account, gateway, granted)| Step::Grant {
            account,
            gateway,
            granted
        }),
        (0_u8..2, 0_i64..400, 0_i64..400, any::<bool>()).prop_map(
            |(gateway, cost, reserved, soft)| Step::Settle {
                gateway,
                cost,
                reserved,
                soft
            }
        ),
        lease().prop_map(|(account, gateway, returned)| Step::Return {
            account,
            gateway,
            returned
        }),
        lease().prop_map(|(account, gateway, granted)| Step::State {
            account,
            gateway,
            granted
        }),
        (0_u8..2, 0_i64..300).prop_map(|(from, amount)| Step::Carry { from, amount }),
        (0_u8..2, 0_i64..3_000).prop_map(|(account, limit)| Step::EndRaise { account, limit }),
    ]
}

fn gateway(number: u8) -> GatewayId {
    GatewayId(Uuid::from_u128(u128::from(number) + 1))
}

/// Money and tokens.
fn spec(number: u8) -> AccountSpec {
    let id = Uuid::from_u128(u128::from(number) + 10);
    let (rule, unit) = match number {
        0 => (RuleId::Budget(BudgetId(id)), Unit::Nanos),
        _ => (RuleId::Quota(QuotaId(id)), Unit::Tokens),
    };
    let template = template();
    AccountSpec {
        id: AccountId::of(rule, template.id.window_start),
        unit,
        ..template
    }
}

fn envelope(step: &Step) -> Envelope {
    let event = match *step {
        Step::Grant {
            account,
            gateway: number,
            granted,
        } => Event::LeaseGranted(LeaseGranted {
            gateway_id: gateway(number),
            account: spec(account),
            granted,
        }),
        Step::Settle {
            gateway: number,
            cost,
            reserved,
            soft,
        } => {
            let Event::UsageFinished(usage) = examples::of_kind(Kind::UsageFinished).event else {
                unreachable!("the example of usage is usage")
            };
            let mut accounts: Vec<AccountUse> = (0..2)
                .map(|account| AccountUse {
                    account: spec(account),
                    reserved,
                })
                .collect();
            if soft {
                accounts[1].account.mode = BudgetMode::Soft;
                accounts[1].reserved = 0;
            }
            Event::UsageFinished(UsageFinished {
                usage_id: UsageId::generate(),
                gateway_id: gateway(number),
                cost: NanoUsd(cost),
                accounts,
                ..usage
            })
        }
        Step::Return {
            account,
            gateway: number,
            returned,
        } => Event::LeaseReturned(LeaseReturned {
            gateway_id: gateway(number),
            reclaim_id: None,
            leases: vec![ReturnedLease {
                account: spec(account).id,
                returned,
            }],
        }),
        Step::State {
            account,
            gateway: number,
            granted,
        } => Event::LeaseStated(LeaseStated {
            gateway_id: gateway(number),
            generation: 1,
            leases: vec![StatedLease {
                account: spec(account),
                totals: LeaseTotals {
                    granted,
                    ..LeaseTotals::default()
                },
            }],
        }),
        Step::Carry { from, amount } => Event::WindowCarried(WindowCarried {
            from: spec(from).id,
            to: spec(1 - from),
            amount,
        }),
        Step::EndRaise { account, limit } => Event::RaiseEnded(RaiseEnded {
            account: spec(account).id,
            limit,
        }),
    };
    Envelope {
        meta: Meta::new(gateway(0).into(), 0, examples::AT),
        event,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn money_is_held_settled_or_free_and_nothing_else(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut books = Books::default();
        let (mut settled, mut from_leases) = (BTreeMap::<AccountId, i64>::new(), 0);
        for step in &steps {
            let envelope = envelope(step);
            let before = books.clone();
            let Ok(applied) = books.apply(&envelope) else {
                // What cannot be is refused as a whole.
                prop_assert_eq!(&books, &before);
                continue;
            };
            if let Event::UsageFinished(usage) = &envelope.event {
                // The first counts money, the second tokens.
                let tokens = usage.tokens.total().cast_signed();
                let amounts = [usage.cost.0, tokens];
                let mut excess = 0;
                for (used, amount) in usage.accounts.iter().zip(amounts) {
                    *settled.entry(used.account.id).or_default() += amount;
                    from_leases += amount.min(used.reserved);
                    if used.account.mode == BudgetMode::Hard {
                        excess += (amount - used.reserved).max(0);
                    }
                }
                let breached = applied.facts.iter().map(|(_, fact)| match fact {
                    Event::BudgetBreached(breached) => breached.excess,
                    _ => 0,
                });
                prop_assert_eq!(breached.sum::<i64>(), excess);
            } else if let Step::Carry { .. } = step {
                // A fact, not a total; what goes out of one comes into the other, if there is one to go out of.
                let moved: i64 = applied.lines.iter().map(|line| line.amount).sum();
                prop_assert!(moved == 0 || applied.lines.len() == 1);
            } else {
                // Totals: the second time changes nothing.
                let once = books.clone();
                let again = books.apply(&envelope).unwrap();
                prop_assert!(again.lines.iter().all(|line| line.amount == 0));
                prop_assert_eq!(&books.accounts, &once.accounts);
                prop_assert_eq!(&books.leases, &once.leases);
            }
            for (id, account) in &books.accounts {
                let leases = books.leases.iter().filter(|((lease, _), _)| lease == id);
                let open: i64 = leases.map(|(_, totals)| totals.open()).sum();
                prop_assert_eq!(account.held, open);
                prop_assert_eq!(account.settled, settled.get(id).copied().unwrap_or(0));
                let carried = account.carried_in - account.carried_out;
                prop_assert_eq!(account.free(), account.limit + carried - account.held - account.settled);
            }
            prop_assert!(books.leases.values().all(|totals| totals.open() >= 0));
        }
        let in_leases: i64 = books.leases.values().map(|totals| totals.settled).sum();
        prop_assert_eq!(in_leases, from_leases);
    }
}
