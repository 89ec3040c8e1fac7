//! The purse step by step: who is served, who is refused, what goes back and when.

use super::*;
use crate::{
    examples,
    ids::BudgetId,
    kind::{Event, Kind},
};

const SECOND: i64 = 1_000_000;

/// A purse with its time and what it wanted done.
struct Bench {
    purse: Purse,
    now: i64,
    outputs: Vec<Output>,
    calls: u64,
}

fn account(number: u128) -> AccountSpec {
    let Event::LeaseGranted(granted) = examples::of_kind(Kind::LeaseGranted).event else {
        panic!("the example is another kind")
    };
    let budget = BudgetId(uuid::Uuid::from_u128(number));
    let id = AccountId::of(budget, granted.account.id.window_start);
    AccountSpec {
        id,
        window_end: None,
        ..granted.account
    }
}

fn want(account: &AccountSpec, amount: i64) -> Want {
    Want {
        account: account.clone(),
        amount,
    }
}

fn lease(account: &AccountSpec, granted: i64) -> ControlLease {
    ControlLease {
        account: account.id,
        granted,
        scarce: false,
        denial: None,
    }
}

fn scarce(account: &AccountSpec, granted: i64) -> ControlLease {
    ControlLease {
        scarce: true,
        ..lease(account, granted)
    }
}

/// Nothing is free beyond what is granted.
fn denied(account: &AccountSpec, granted: i64, must: i64) -> ControlLease {
    let denial = Denial {
        must,
        limit: 1_000,
        settled: 1_000,
        held: 0,
        silent: Vec::new(),
        resets_at: None,
        too_many: false,
    };
    ControlLease {
        denial: Some(denial),
        ..scarce(account, granted)
    }
}

impl Bench {
    /// It asks for what its calls need, so that each step can be followed.
    fn new() -> Self {
        Self::with(Protocol {
            least_calls: 0,
            ..Protocol::default()
        })
    }

    fn with(protocol: Protocol) -> Self {
        Self {
            purse: Purse::new(protocol),
            now: 1_000 * SECOND,
            outputs: Vec::new(),
            calls: 0,
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    fn reserve(&mut self, wants: &[Want]) -> (CallNumber, Admission) {
        self.calls += 1;
        let call = CallNumber(self.calls);
        (
            call,
            self.purse
                .reserve(call, wants, Timestamp(self.now), &mut self.outputs),
        )
    }

    fn waits(&mut self, wants: &[Want]) -> CallNumber {
        let (call, admission) = self.reserve(wants);
        assert_eq!(admission, Admission::Waiting);
        call
    }

    fn apply(&mut self, answer: &ControlLease) -> Vec<Output> {
        self.outputs.clear();
        self.purse.apply(answer, self.time(), &mut self.outputs);
        std::mem::take(&mut self.outputs)
    }

    /// The purse knows the account and holds this much of it, idle.
    fn fund(&mut self, account: &AccountSpec, granted: i64) {
        let totals = LeaseTotals {
            granted,
            ..LeaseTotals::default()
        };
        self.purse.restore(account, totals, self.time());
    }

    fn tick(&mut self, micros: i64) -> Vec<Output> {
        self.now += micros;
        self.outputs.clear();
        self.purse.tick(self.time(), &mut self.outputs);
        std::mem::take(&mut self.outputs)
    }

    fn settle(&mut self, account: &AccountSpec, reserved: i64, cost: i64) -> Vec<Output> {
        self.outputs.clear();
        let used = Used {
            account: account.id,
            reserved,
            settled: cost,
        };
        self.purse
            .settle(&[used], Timestamp(self.now), &mut self.outputs);
        std::mem::take(&mut self.outputs)
    }
}

fn admitted(outputs: &[Output]) -> Vec<CallNumber> {
    let admitted = outputs.iter().filter_map(|output| match output {
        Output::Admit(call) => Some(*call),
        Output::Refuse(..) | Output::Ask(_) | Output::Return { .. } => None,
    });
    admitted.collect()
}

fn returned(outputs: &[Output]) -> Vec<(Option<ReclaimId>, Vec<ReturnedLease>)> {
    let returned = outputs.iter().filter_map(|output| match output {
        Output::Return { reclaim_id, leases } => Some((*reclaim_id, leases.clone())),
        Output::Admit(_) | Output::Refuse(..) | Output::Ask(_) => None,
    });
    returned.collect()
}

fn asked(outputs: &[Output]) -> Vec<(AccountId, i64, i64)> {
    let asks = outputs.iter().filter_map(|output| match output {
        Output::Ask(accounts) => Some(accounts),
        Output::Admit(_) | Output::Refuse(..) | Output::Return { .. } => None,
    });
    asks.flatten()
        .map(|ask| (ask.account.id, ask.must, ask.want))
        .collect()
}

#[test]
fn who_came_first_is_served_first_and_nobody_overtakes() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.fund(&account, 50);
    let large = bench.waits(&[want(&account, 100)]);
    assert_eq!(asked(&bench.outputs), [(account.id, 100, 100)]);
    let small = bench.waits(&[want(&account, 10)]);
    assert_eq!(admitted(&bench.apply(&lease(&account, 90))), []);
    assert_eq!(
        admitted(&bench.apply(&lease(&account, 110))),
        [large, small]
    );
    assert_eq!(
        (
            bench.purse.reserved(account.id),
            bench.purse.spendable(account.id)
        ),
        (110, 0)
    );
}

#[test]
fn somebody_who_waits_elsewhere_holds_nobody_up() {
    let (mut bench, one, two) = (Bench::new(), account(1), account(2));
    bench.fund(&two, 100);
    bench.waits(&[want(&one, 100)]);
    assert_eq!(bench.reserve(&[want(&two, 100)]).1, Admission::Reserved);
}

#[test]
fn all_accounts_or_none_and_nothing_stays_reserved_while_waiting() {
    let (mut bench, one, two) = (Bench::new(), account(1), account(2));
    bench.fund(&one, 100);
    let call = bench.waits(&[want(&one, 100), want(&two, 100)]);
    assert_eq!(asked(&bench.outputs), [(two.id, 100, 100)]);
    assert_eq!(
        (bench.purse.reserved(one.id), bench.purse.spendable(one.id)),
        (0, 100)
    );
    assert_eq!(admitted(&bench.apply(&lease(&two, 100))), [call]);
    assert_eq!(
        (bench.purse.reserved(one.id), bench.purse.reserved(two.id)),
        (100, 100)
    );
}

#[test]
fn totals_that_come_twice_or_late_change_nothing() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.fund(&account, 100);
    assert_eq!(
        bench.purse.grows(&lease(&account, 200)),
        Some(account.clone())
    );
    bench.apply(&lease(&account, 200));
    assert_eq!(bench.purse.grows(&lease(&account, 200)), None);
    bench.apply(&lease(&account, 200));
    bench.apply(&lease(&account, 150));
    assert_eq!(bench.purse.spendable(account.id), 200);
}

#[test]
fn a_denial_is_in_force_for_a_second_and_ends_when_the_lease_grows_or_frees_some() {
    let (mut bench, account) = (Bench::new(), account(1));
    let call = bench.waits(&[want(&account, 100)]);
    let outputs = bench.apply(&denied(&account, 0, 100));
    assert!(
        matches!(&outputs[0], Output::Refuse(refused, Refusal::Denied { .. }) if *refused == call)
    );
    bench.now += 999_999;
    assert!(matches!(
        bench.reserve(&[want(&account, 100)]).1,
        Admission::Refused(_)
    ));
    assert!(asked(&bench.outputs).is_empty());
    bench.now += 1;
    bench.waits(&[want(&account, 100)]);
    bench.apply(&denied(&account, 0, 100));
    bench.apply(&lease(&account, 100));
    assert_eq!(bench.reserve(&[want(&account, 100)]).1, Admission::Reserved);
    bench.apply(&denied(&account, 100, 200));
    assert!(matches!(
        bench.reserve(&[want(&account, 100)]).1,
        Admission::Refused(_)
    ));
    bench.settle(&account, 100, 30);
    bench.waits(&[want(&account, 100)]);
}

#[test]
fn a_denial_of_what_was_granted_since_is_late() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.waits(&[want(&account, 100)]);
    bench.apply(&lease(&account, 100));
    bench.apply(&denied(&account, 0, 100));
    bench.waits(&[want(&account, 100)]);
}

#[test]
fn a_new_limit_ends_a_denial() {
    let (mut bench, mut account) = (Bench::new(), account(1));
    bench.waits(&[want(&account, 100)]);
    bench.apply(&denied(&account, 0, 100));
    account.limit += 1;
    bench.waits(&[want(&account, 100)]);
}

#[test]
fn asks_are_repeated_until_there_is_an_answer_and_then_nobody_waits_any_more() {
    let (mut bench, account) = (Bench::new(), account(1));
    let call = bench.waits(&[want(&account, 100)]);
    assert!(asked(&bench.tick(29_999)).is_empty());
    assert_eq!(asked(&bench.tick(1)), [(account.id, 100, 100)]);
    let outputs = bench.tick(220_000);
    let unanswered = Refusal::Unanswered {
        account: Box::new(account.clone()),
    };
    assert_eq!(outputs, [Output::Refuse(call, unanswered)]);
    assert_eq!(bench.purse.line_length(), 0);
    assert!(bench.tick(30_000).is_empty());
}

#[test]
fn a_clock_that_goes_back_holds_nobody() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.waits(&[want(&account, 100)]);
    bench.apply(&denied(&account, 0, 100));
    bench.now -= 500 * SECOND;
    let call = bench.waits(&[want(&account, 100)]);
    assert_eq!(asked(&bench.outputs).len(), 1);
    assert!(matches!(bench.tick(-SECOND)[..], [Output::Refuse(refused, _)] if refused == call));
}

#[test]
fn who_leaves_makes_room_for_those_behind() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.fund(&account, 50);
    let gone = bench.waits(&[want(&account, 100)]);
    let stays = bench.waits(&[want(&account, 50)]);
    let (now, mut outputs) = (bench.time(), Vec::new());
    assert!(bench.purse.abandon(gone, now, &mut outputs));
    assert_eq!(admitted(&outputs), [stays]);
    assert!(!bench.purse.abandon(gone, now, &mut outputs));
}

#[test]
fn who_waited_behind_a_refused_call_is_served_when_that_one_is_gone() {
    let (mut bench, one, two) = (Bench::new(), account(1), account(2));
    bench.fund(&two, 100);
    bench.waits(&[want(&one, 100), want(&two, 100)]);
    let behind = bench.waits(&[want(&two, 100)]);
    assert_eq!(admitted(&bench.apply(&denied(&one, 0, 100))), [behind]);
    let (mut bench, mut all) = (Bench::new(), Vec::new());
    bench.fund(&two, 100);
    bench.waits(&[want(&one, 100), want(&two, 100)]);
    bench.now += 100_000;
    let behind = bench.waits(&[want(&two, 100)]);
    for _ in 0..5 {
        all.extend(bench.tick(30_000));
    }
    assert_eq!(admitted(&all), [behind]);
}

#[test]
fn a_reclaim_is_answered_also_with_nothing_and_who_waits_asks_anew() {
    let (mut bench, account) = (Bench::new(), account(1));
    let id = ReclaimId::generate();
    let mut outputs = Vec::new();
    bench
        .purse
        .reclaim(id, Some(account.id), bench.time(), &mut outputs);
    assert_eq!(returned(&outputs), [(Some(id), Vec::new())]);
    bench.fund(&account, 60);
    bench.waits(&[want(&account, 100)]);
    outputs.clear();
    bench
        .purse
        .reclaim(id, Some(account.id), bench.time(), &mut outputs);
    let all = ReturnedLease {
        account: account.id,
        returned: 60,
    };
    assert_eq!(returned(&outputs), [(Some(id), vec![all])]);
    // The ask before it counted on the 60 that went back.
    assert_eq!(asked(&outputs), [(account.id, 160, 160)]);
    outputs.clear();
    bench.purse.reclaim(id, None, bench.time(), &mut outputs);
    assert_eq!(returned(&outputs), [(Some(id), Vec::new())]);
}

#[test]
fn what_a_call_frees_of_a_scarce_account_goes_back_at_once() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.fund(&account, 100);
    bench.reserve(&[want(&account, 100)]);
    bench.apply(&scarce(&account, 100));
    let back = ReturnedLease {
        account: account.id,
        returned: 70,
    };
    assert_eq!(
        returned(&bench.settle(&account, 100, 30)),
        [(None, vec![back])]
    );
    assert_eq!(bench.purse.spendable(account.id), 0);
    bench.apply(&lease(&account, 200));
    bench.reserve(&[want(&account, 100)]);
    assert!(returned(&bench.settle(&account, 100, 30)).is_empty());
}

#[test]
fn idle_leases_and_those_of_windows_that_are_over_go_back() {
    let (mut bench, idle, mut over) = (Bench::new(), account(1), account(2));
    over.window_end = Some(Timestamp(bench.now));
    bench.fund(&idle, 100);
    bench.fund(&over, 100);
    let mut outputs = Vec::new();
    bench
        .purse
        .sweep(Timestamp(bench.now + 59 * SECOND), &mut outputs);
    assert!(outputs.is_empty());
    bench.reserve(&[want(&over, 10)]);
    bench
        .purse
        .sweep(Timestamp(bench.now + 60 * SECOND), &mut outputs);
    let leases = [
        ReturnedLease {
            account: idle.id,
            returned: 100,
        },
        ReturnedLease {
            account: over.id,
            returned: 90,
        },
    ];
    assert_eq!(returned(&outputs), [(None, leases.to_vec())]);
}

#[test]
fn a_window_that_is_forgotten_is_not_opened_again_by_a_clock_that_went_back() {
    let (mut bench, mut account) = (Bench::new(), account(1));
    account.window_end = Some(Timestamp(bench.now));
    bench.fund(&account, 100);
    let mut outputs = Vec::new();
    let later = Timestamp(bench.now + Purse::FORGOTTEN_AFTER_MICROS);
    bench.purse.sweep(later, &mut outputs);
    bench.purse.sweep(later, &mut outputs);
    assert!(bench.purse.stated().is_empty());
    let refused = Refusal::Unanswered {
        account: Box::new(account.clone()),
    };
    assert_eq!(
        bench.reserve(&[want(&account, 10)]).1,
        Admission::Refused(refused)
    );
    assert_eq!(asked(&bench.outputs), []);
}

#[test]
fn a_changed_budget_and_a_graceful_end_give_idle_parts_back() {
    let (mut bench, one, two) = (Bench::new(), account(1), account(2));
    bench.fund(&one, 100);
    bench.fund(&two, 100);
    bench.reserve(&[want(&one, 40)]);
    bench.outputs.clear();
    bench.purse.rule_changed(one.id.rule, &mut bench.outputs);
    let first = ReturnedLease {
        account: one.id,
        returned: 60,
    };
    assert_eq!(returned(&bench.outputs), [(None, vec![first])]);
    bench.outputs.clear();
    bench.purse.return_all(&mut bench.outputs);
    let second = ReturnedLease {
        account: two.id,
        returned: 100,
    };
    assert_eq!(returned(&bench.outputs), [(None, vec![second])]);
}

#[test]
fn half_empty_leases_are_refilled_beside_the_calls() {
    let (mut bench, account) = (Bench::new(), account(1));
    bench.fund(&account, 100);
    bench.reserve(&[want(&account, 60)]);
    assert!(asked(&bench.outputs).is_empty());
    bench.reserve(&[want(&account, 40)]);
    // Nobody waits: the ask names no more than there is, and wants what the pace says.
    assert_eq!(asked(&bench.outputs), [(account.id, 100, 200)]);
}

#[test]
fn the_line_is_bounded() {
    let account = account(1);
    let mut bench = Bench::new();
    bench.purse = Purse::new(Protocol {
        longest_line: 1,
        ..Protocol::default()
    });
    bench.waits(&[want(&account, 100)]);
    assert_eq!(
        bench.reserve(&[want(&account, 100)]).1,
        Admission::Refused(Refusal::Crowded)
    );
}

#[test]
fn a_new_account_asks_for_more_than_its_first_call() {
    let mut bench = Bench::with(Protocol::default());
    let account = account(1);
    bench.waits(&[want(&account, 100)]);
    assert_eq!(asked(&bench.outputs), [(account.id, 100, 1_600)]);
    let answer = lease(&account, 1_600);
    assert_eq!(admitted(&bench.apply(&answer)).len(), 1);
    // The pace of this moment counts, long before a sweep has taken it.
    bench.settle(&account, 100, 100);
    bench.reserve(&[want(&account, 100)]);
    let ten_seconds = 100 * 10 * 10;
    let target = ten_seconds + 100;
    assert_eq!(asked(&bench.outputs), [(account.id, 1_600, 200 + target)]);
}
