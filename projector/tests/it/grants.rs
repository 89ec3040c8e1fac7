//! Money on asks: granted, denied, scarce, called back; by gateways that speak over real Redis.

use std::time::Duration;

use odock_events::{
    clock::{Clock as _, SystemClock, Timestamp},
    ids::{BudgetId, GatewayId, OrganisationId, ReclaimId},
    ledger::window,
    log::messages::{AskMessage, ControlMessage},
    payload::{
        account::{AccountId, AccountSpec},
        budget::{BudgetBody, BudgetMode, Period, Raise},
    },
};

use odock_projector::check::{Depth, violations};

use crate::support::{
    World,
    admin::{Admin, budget_body},
    gateway::{Gateway, account},
};

async fn tenant(world: &mut World, amount: i64) -> (OrganisationId, AccountSpec) {
    let mut admin = Admin::default();
    let organisation = admin.organisation(world, "Acme").await;
    let budget = admin.budget(world, organisation, amount).await;
    (
        organisation,
        account(budget, organisation, &budget_body(organisation, amount)),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_is_granted_spent_and_settled() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 1_000).await;
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 100, 600).await;
    let lease = gateway.lease().await;
    // Half of a fair share of what is free, with one live gateway.
    assert_eq!(
        (lease.granted, lease.scarce, lease.denial),
        (500, false, None)
    );
    assert_eq!(world.number("SELECT held FROM account").await, 500);

    let call = gateway.finished(std::slice::from_ref(&account), 80, 100);
    gateway.append(&world, &[call]).await;
    world.reaches("SELECT settled FROM account", 80).await;
    assert_eq!(world.number("SELECT held FROM account").await, 420);
    let back = gateway.returned(None, &[(account.id, 420)]);
    gateway.append(&world, &[back]).await;
    world.reaches("SELECT held FROM account", 0).await;
    // A late one with less says nothing new.
    let late = gateway.returned(None, &[(account.id, 100)]);
    gateway.append(&world, &[late]).await;
    world.reaches("SELECT last_seq FROM gateway", 4).await;
    assert_eq!(world.number("SELECT returned FROM lease").await, 420);
    assert_eq!(
        world
            .number("SELECT count(*) FROM event_log WHERE source = 'projector'")
            .await,
        1
    );
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unit_is_granted_and_the_next_ask_is_denied_with_figures() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 100, 100).await;
    assert_eq!(gateway.lease().await.granted, 100);
    let call = gateway.finished(std::slice::from_ref(&account), 100, 100);
    gateway.append(&world, &[call]).await;
    world.reaches("SELECT settled FROM account", 100).await;
    gateway.ask(&world, &account, 101, 200).await;
    let denial = gateway.denial().await;
    assert_eq!(
        (denial.must, denial.limit, denial.settled, denial.held),
        (101, 100, 100, 0)
    );
    assert!(denial.silent.is_empty());
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_not_there_denies() {
    let mut world = World::new().await;
    let projector = world.start();
    // When a command is folded, asks are read too.
    tenant(&mut world, 1).await;
    let organisation = OrganisationId::generate();
    let account = account(
        BudgetId::generate(),
        organisation,
        &budget_body(organisation, 100),
    );
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 1, 1).await;
    assert_eq!(gateway.denial().await.limit, 0);
    assert_eq!(world.number("SELECT count(*) FROM account").await, 0);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_money_is_called_back_from_its_holder_and_granted_to_the_one_who_waits() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut rich = Gateway::open(&world).await;
    let mut poor = Gateway::open(&world).await;
    rich.ask(&world, &account, 100, 100).await;
    assert_eq!(rich.lease().await.granted, 100);
    poor.ask(&world, &account, 40, 40).await;
    let reclaim = rich.reclaim().await;
    let answer = rich.returned(Some(reclaim), &[(account.id, 70)]);
    rich.append(&world, &[answer]).await;
    let lease = poor.lease().await;
    assert_eq!(
        (lease.granted, lease.scarce, lease.denial),
        (40, true, None)
    );
    assert_eq!(world.number("SELECT held FROM account").await, 70);
    // Its own calls do not show among an operator's.
    assert_eq!(
        world
            .number("SELECT count(*) FROM gateway WHERE last_reclaim_id IS NOT NULL")
            .await,
        0
    );
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_waits_for_the_answers_and_names_who_gave_none() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut one = Gateway::open(&world).await;
    let mut two = Gateway::open(&world).await;
    let mut poor = Gateway::open(&world).await;
    for gateway in [&mut one, &mut two] {
        gateway.ask(&world, &account, 50, 50).await;
        assert_eq!(gateway.lease().await.granted, 50);
    }
    poor.ask(&world, &account, 1, 1).await;
    let reclaim = one.reclaim().await;
    let nothing = one.returned(Some(reclaim), &[]);
    one.append(&world, &[nothing]).await;
    let denial = poor.denial().await;
    assert_eq!(denial.silent, [two.id]);
    // What comes free later still reaches the parked ask.
    let back = two.returned(None, &[(account.id, 50)]);
    two.append(&world, &[back]).await;
    let lease = poor.lease().await;
    assert_eq!((lease.granted, lease.denial), (1, None));
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scarcity_ends_when_a_tenth_is_free() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 100, 100).await;
    assert_eq!(gateway.lease().await.granted, 100);
    gateway.ask(&world, &account, 110, 110).await;
    let reclaim = gateway.reclaim().await;
    let back = gateway.returned(Some(reclaim), &[(account.id, 5)]);
    gateway.append(&world, &[back]).await;
    gateway.denial().await;
    let back = gateway.returned(None, &[(account.id, 60)]);
    gateway.append(&world, &[back]).await;
    // First the parked ask is served from it, then there is plenty.
    assert_eq!(gateway.lease().await.granted, 110);
    let lease = gateway.lease().await;
    assert_eq!((lease.granted, lease.scarce), (110, false));
    assert_eq!(world.number("SELECT count(*) FROM scarce_account").await, 0);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_above_its_reservation_is_a_breach_on_record() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 60, 60).await;
    assert_eq!(gateway.lease().await.granted, 60);
    let call = gateway.finished(std::slice::from_ref(&account), 75, 60);
    gateway.append(&world, &[call]).await;
    world.reaches("SELECT settled FROM account", 75).await;
    assert_eq!(world.number("SELECT breached FROM account").await, 15);
    assert_eq!(world.number("SELECT held FROM account").await, 0);
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE kind = 'budget.breached'")
            .await,
        1
    );
    // A gateway that settles what it was never granted is set aside; its money stays as it is.
    let call = gateway.finished(std::slice::from_ref(&account), 50, 50);
    gateway.append(&world, &[call]).await;
    world.reaches("SELECT count(*) FROM dead_letter", 1).await;
    assert_eq!(world.number("SELECT settled FROM account").await, 75);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_calls_everything_back_and_sees_who_has_answered() {
    let mut world = World::new().await;
    let projector = world.start();
    tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    let reclaim_id = ReclaimId::generate();
    world
        .log
        .send_ask(&AskMessage::Reclaim { reclaim_id })
        .await
        .unwrap();
    assert_eq!(gateway.reclaim().await, reclaim_id);
    let nothing = gateway.returned(Some(reclaim_id), &[]);
    gateway.append(&world, &[nothing]).await;
    world
        .reaches(
            "SELECT count(*) FROM gateway WHERE last_reclaim_id IS NOT NULL",
            1,
        )
        .await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_is_told_its_totals_and_its_predecessor_is_lost() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    gateway.ask(&world, &account, 60, 60).await;
    assert_eq!(gateway.lease().await.granted, 60);
    gateway.epoch = 2;
    let opened = gateway.opened(None);
    gateway.append(&world, &[opened]).await;
    assert_eq!(gateway.lease().await.granted, 60);
    let mut successor = Gateway::new(&world).await;
    let opened = successor.opened(Some(gateway.id));
    successor.append(&world, &[opened]).await;
    world
        .reaches("SELECT count(*) FROM gateway WHERE state = 'lost'", 1)
        .await;
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE kind = 'gateway.lost'")
            .await,
        1
    );
    // What it held stays held until somebody settles it.
    assert_eq!(world.number("SELECT held FROM account").await, 60);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_closed_a_minute_after_its_end() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut gateway = Gateway::open(&world).await;
    let organisation = OrganisationId::generate();
    let mut body = budget_body(organisation, 100);
    body.mode = odock_events::payload::budget::BudgetMode::Soft;
    let mut past = account(BudgetId::generate(), organisation, &body);
    past.window_end = Some("2026-01-01T00:00:00Z".parse().unwrap());
    let call = gateway.finished(std::slice::from_ref(&past), 10, 0);
    gateway.append(&world, &[call]).await;
    world
        .reaches("SELECT count(*) FROM account WHERE closed", 1)
        .await;
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE kind = 'window.closed'")
            .await,
        1
    );
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_twice_for_one_ask() {
    let mut world = World::new().await;
    let projector = world.start();
    let (_, account) = tenant(&mut world, 100).await;
    let mut gateway = Gateway::open(&world).await;
    // The first ask may come before the grant task listens; from then on each is heard.
    gateway.ask_until_granted(&world, &account, 10).await;
    for _ in 0..5 {
        gateway.ask(&world, &account, 10, 10).await;
    }
    while let Some(message) = gateway.control_within(Duration::from_millis(200)).await {
        if let ControlMessage::Leases { leases } = message {
            assert!(leases.iter().all(|lease| lease.granted == 10));
        }
    }
    assert_eq!(world.number("SELECT held FROM account").await, 10);
    let _: GatewayId = gateway.id;
    projector.stop().await;
}

/// A budget's account in the window that `moment` lies in.
fn account_at(budget: BudgetId, body: &BudgetBody, moment: Timestamp) -> AccountSpec {
    let organisation = OrganisationId::generate();
    let window = window::window_at(body, moment).unwrap();
    AccountSpec {
        id: AccountId::of(budget, window.start),
        window_end: window.end,
        owner: body.owner.clone(),
        rollover: body.rollover,
        ..account(budget, organisation, body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn line_088_what_a_window_leaves_goes_on_to_the_next_up_to_one_limit() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "carries").await;
    let now = SystemClock.now();
    // Never within the minute in which yesterday's window is still open.
    let just_after_midnight = now.seconds() % 86_400 < 300;
    let timezone = if just_after_midnight {
        "Asia/Tokyo"
    } else {
        "UTC"
    };
    let body = BudgetBody {
        period: Period::Daily,
        timezone: timezone.into(),
        rollover: true,
        mode: BudgetMode::Soft,
        ..budget_body(organisation, 100)
    };
    let budget = admin
        .budget_of(&mut world, organisation, body.clone())
        .await;
    let day = |ago: i64| Timestamp(now.0 - ago * 86_400_000_000);
    let mut gateway = Gateway::open(&world).await;
    let mut old = account_at(budget, &body, day(2));
    old.organisation_id = organisation;
    let call = gateway.finished(std::slice::from_ref(&old), 30, 0);
    gateway.append(&world, &[call]).await;
    world
        .reaches("SELECT count(*) FROM account WHERE carried_out = 70", 1)
        .await;
    let mut yesterday = account_at(budget, &body, day(1));
    yesterday.organisation_id = organisation;
    let call = gateway.finished(std::slice::from_ref(&yesterday), 10, 0);
    gateway.append(&world, &[call]).await;
    // Yesterday has 100 of its own and 70 that were carried in; of the 160 that are left one limit goes on.
    world
        .reaches(
            "SELECT coalesce(sum(carried_in), 0)::bigint FROM account WHERE NOT closed",
            100,
        )
        .await;
    let carried = "SELECT coalesce(sum(amount), 0)::bigint FROM ledger_entry WHERE kind = 'carry'";
    assert_eq!(
        world.number(carried).await,
        0,
        "what goes out of one comes into another"
    );
    let free = "SELECT limit_amount + carried_in - carried_out - held - settled FROM account WHERE NOT closed";
    assert_eq!(world.number(free).await, 200);
    let found = violations(&mut world.database, Depth::Full).await.unwrap();
    assert_eq!(found, [], "what follows from the ledger");
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_is_granted_until_it_ends() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "raises").await;
    let until = Timestamp(SystemClock.now().0 + 1_500_000);
    let body = BudgetBody {
        raise: Some(Raise { amount: 40, until }),
        ..budget_body(organisation, 100)
    };
    let budget = admin
        .budget_of(&mut world, organisation, body.clone())
        .await;
    let mut gateway = Gateway::open(&world).await;
    let account = account(budget, organisation, &body);
    gateway.ask(&world, &account, 140, 140).await;
    assert_eq!(gateway.lease().await.granted, 140);
    world.reaches("SELECT limit_amount FROM account", 100).await;
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE kind = 'raise.ended'")
            .await,
        1
    );
    gateway.ask(&world, &account, 141, 141).await;
    let denial = gateway.denial().await;
    assert_eq!((denial.limit, denial.held), (100, 140));
    projector.stop().await;
}
