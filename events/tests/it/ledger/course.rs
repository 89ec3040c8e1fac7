//! The course of a simulated world: what is planned, what happens, and what must hold after each step and at the end.

use odock_events::{
    ids::{GatewayId, ReclaimId},
    ledger::{books::Account, purse::Refusal},
    log::messages::ControlLease,
    payload::account::AccountSpec,
};

use super::{
    gateway::Gateway,
    projector::Projector,
    setting::Setting,
    world::{Happening, World},
};

/// What a run ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) admitted: usize,
    pub(super) cut: usize,
    pub(super) accounts: Vec<Account>,
    pub(super) asks: usize,
}

/// Runs a world to its end. An error names the rule that was broken.
pub(super) fn run(setting: Setting, template: &AccountSpec) -> Result<Outcome, String> {
    let mut world = World::new(setting, template);
    let setting = world.setting.clone();
    let mut gateways: Vec<Gateway> = (0..setting.gateways)
        .map(|index| Gateway::new(index, GatewayId(world.uuid())))
        .collect();
    let mut projector = Projector::new(gateways.iter().map(|gateway| gateway.id).collect());
    schedule(&mut world);
    drain(&mut world, &mut gateways, &mut projector)?;
    windows_are_empty(&setting, &projector)?;
    spend_the_rest(&mut world, &mut gateways, &mut projector)?;
    let unanswered = world
        .refusals
        .iter()
        .filter(|refusal| matches!(refusal, Refusal::Unanswered { .. }))
        .count();
    if unanswered > 0 && is_exact(&setting) {
        return Err(format!(
            "{unanswered} calls had no answer although nothing was lost"
        ));
    }
    reclaim(&mut world, &mut gateways, &mut projector)?;
    Ok(Outcome {
        admitted: world.admitted,
        cut: world.cut,
        accounts: projector.books.accounts.values().cloned().collect(),
        asks: projector.asks,
    })
}

/// Nothing is lost on the way: every promise holds to the letter.
fn is_exact(setting: &Setting) -> bool {
    setting.loss_percent == 0 && setting.kills == 0 && setting.lost == 0 && setting.changes == 0
}

/// A minute after its end nothing of a window is held any more, without anybody's calling for it: where every answer came
/// and every clock is right.
fn windows_are_empty(setting: &Setting, projector: &Projector) -> Result<(), String> {
    if setting.window_seconds == 0 || setting.skew_seconds != 0 || !is_exact(setting) {
        return Ok(());
    }
    let mut accounts = projector.books.accounts.iter();
    match accounts.find(|(_, account)| account.held > 0 || !account.closed) {
        Some((id, account)) => Err(format!("{id} is over: {account:?}")),
        None => Ok(()),
    }
}

/// All is quiet. Whoever asks now must be served as long as there is money, account by account. When nothing was lost,
/// the first who asks is; a lost answer may leave a part with a gateway that learns of it when it asks next.
fn spend_the_rest(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    let setting = world.setting.clone();
    let exact = is_exact(&setting);
    if setting.window_seconds > 0 {
        // A window ends before all of it can be spent one call after the other.
        return Ok(());
    }
    let present: Vec<usize> = (0..gateways.len())
        .filter(|index| !gateways[*index].is_lost())
        .collect();
    for account in 0..setting.limits.len() {
        let mut refused = 0;
        while refused < 2 * setting.gateways {
            let (left, admitted) = (projector.left(&world.specs[account]), world.admitted);
            let gateway = present[(admitted + refused) % present.len()];
            world.after(
                1_100_000,
                Happening::Call {
                    gateway,
                    accounts: vec![account],
                    chunks: 0,
                },
            );
            drain(world, gateways, projector)?;
            refused += usize::from(world.admitted == admitted);
            if exact && world.admitted == admitted && left >= setting.reserved {
                return Err(format!("{left} is left and a call is refused"));
            }
        }
        let left = projector.left(&world.specs[account]);
        if left >= setting.reserved {
            return Err(format!("{left} is left and calls are refused"));
        }
    }
    Ok(())
}

fn schedule(world: &mut World) {
    let setting = world.setting.clone();
    for call in 0..setting.calls {
        let delay = world.between(0, setting.span_micros);
        let mut accounts: Vec<usize> = (0..world.specs.len())
            .filter(|_| world.below(100) < 70)
            .collect();
        if accounts.is_empty() {
            accounts.push(0);
        }
        let streams = world.below(100) < setting.streams_percent;
        let chunks = if streams {
            1 + world.below(4) as u32
        } else {
            0
        };
        world.after(
            delay,
            Happening::Call {
                gateway: call % setting.gateways,
                accounts,
                chunks,
            },
        );
    }
    for _ in 0..setting.changes {
        let delay = world.between(0, setting.span_micros);
        let account = world.below(setting.limits.len() as u64) as usize;
        let limit = setting.limits[account] * world.between(20, 200) / 100;
        world.after(delay, Happening::Change { account, limit });
    }
    // The first stays, so that somebody can spend what is left.
    for gateway in (1..setting.gateways).take(setting.lost) {
        let delay = world.between(0, setting.span_micros);
        world.after(delay, Happening::Lose { gateway });
    }
    for _ in 0..setting.kills {
        let delay = world.between(0, setting.span_micros);
        let gateway = world.below(setting.gateways as u64) as usize;
        world.after(delay, Happening::Kill { gateway });
    }
    // Windows are closed a minute after their end, and what is idle goes back then.
    let rest = match setting.window_seconds {
        0 => 0,
        length => length + 65,
    };
    for second in 1..=setting.span_micros / 1_000_000 + rest {
        world.after(second * 1_000_000, Happening::Sweep);
        world.after(second * 1_000_000 + 500_000, Happening::Close);
    }
}

/// Lets everything happen that is under way, and checks after each step.
fn drain(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    let mut steps = 0;
    while let Some(happening) = world.next() {
        happen(world, gateways, projector, happening)?;
        for (id, account) in &projector.books.accounts {
            let spent: i64 = gateways.iter().map(|gateway| gateway.spent(*id)).sum();
            world.check(*id, account, spent)?;
        }
        steps += 1;
        if steps > 200_000 {
            return Err("it never comes to rest".to_owned());
        }
    }
    for gateway in gateways {
        gateway.is_at_rest(projector.books.accounts.keys())?;
    }
    Ok(())
}

fn happen(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
    happening: Happening,
) -> Result<(), String> {
    match happening {
        Happening::Call {
            gateway,
            accounts,
            chunks,
        } => gateways[gateway].call(world, &accounts, chunks),
        Happening::TopUp {
            gateway,
            life,
            call,
        } => gateways[gateway].top_up(world, life, call),
        Happening::Lose { gateway } => {
            gateways[gateway].lose();
            projector.lose(world, gateway);
        }
        Happening::Change { account, limit } => {
            projector.change(world, account, limit)?;
            for gateway in 0..gateways.len() {
                let delay = world.between(1_000, 20_000);
                world.after(delay, Happening::Changed { gateway, account });
            }
        }
        Happening::Changed { gateway, account } => gateways[gateway].changed(world, account),
        Happening::Close => projector.close(world)?,
        Happening::End {
            gateway,
            life,
            call,
        } => gateways[gateway].end(world, life, call),
        Happening::Kill { gateway } => gateways[gateway].kill(world),
        Happening::Tick { gateway, life } => gateways[gateway].tick(world, life),
        Happening::Sweep => gateways.iter_mut().for_each(|gateway| gateway.sweep(world)),
        Happening::Ask { gateway, accounts } => projector.ask(world, gateway, accounts)?,
        Happening::Totals { gateway } => projector.tell_totals(world, gateway),
        Happening::Answer { gateway, lease } => gateways[gateway].answer(world, lease),
        Happening::ReturnIdle {
            gateway,
            id,
            account,
            granted,
        } => {
            if let (Some(account), Some(granted)) = (account, granted) {
                let lease = ControlLease {
                    account,
                    granted,
                    scarce: true,
                    denial: None,
                };
                gateways[gateway].answer(world, lease);
            }
            gateways[gateway].return_idle(world, id, account);
        }
        Happening::Shipped { gateway, seq } => {
            projector.follow(world, gateway, &gateways[gateway].stream[..seq])?;
        }
        Happening::RoundOver { account, id } => projector.round_over(world, account, id)?,
    }
    Ok(())
}

/// An operator calls everything back: all money is free or settled then.
fn reclaim(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    // As gateways do for a while after they have asked: a lost answer is made good by totals.
    for gateway in 0..12 * gateways.len() {
        world.send(&Happening::Totals {
            gateway: gateway % gateways.len(),
        });
        drain(world, gateways, projector)?;
    }
    for gateway in (0..gateways.len())
        .filter(|index| !gateways[*index].is_lost())
        .collect::<Vec<_>>()
    {
        let id = ReclaimId(world.uuid());
        world.after(
            1_000,
            Happening::ReturnIdle {
                gateway,
                id,
                account: None,
                granted: None,
            },
        );
        drain(world, gateways, projector)?;
        if !projector.answered.contains(&id) {
            return Err("a reclaim was not answered".to_owned());
        }
    }
    for (id, account) in &projector.books.accounts {
        let there = gateways.iter().filter(|gateway| !gateway.is_lost());
        let settled: i64 = there.map(|gateway| gateway.spent(*id)).sum();
        // What a lost gateway holds stays held, and what it told of is settled: nothing is freed by time alone.
        let gone = gateways.iter().filter(|gateway| gateway.is_lost());
        let gone = gone.map(|gateway| projector.books.lease((*id, gateway.id)));
        let (held, told) = gone.fold((0, 0), |(held, told), lease| {
            (held + lease.open(), told + lease.settled)
        });
        if account.held != held || account.settled != settled + told {
            return Err(format!(
                "at {id}: {account:?}, and the gateways settled {settled}, those that are lost {told}, with {held} held"
            ));
        }
    }
    Ok(())
}
