//! The gateway's purse for asynchronous callers: `pipeline::reserve` takes from it, `pipeline::open_call` settles, the
//! configuration says when a rule changed, the grant task's messages come in, asks and returns go out.
//!
//! The order that makes a `lease.returned` true: a call's `finished` is in the journal before it is settled here, and
//! what goes back is computed from settled calls and journaled after it. So its seq is above every `finished` that it
//! takes into account.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use odock_events::{
    clock::{Clock, Timestamp},
    codec,
    envelope::{Envelope, Meta},
    ids::{GatewayId, ReclaimId},
    kind::Event,
    ledger::purse::{Admission, CallNumber, Output, Protocol, Purse, Refusal, Used, Want},
    log::messages::{AskAccount, ControlLease, ControlMessage, FullAccount},
    payload::{
        account::{AccountId, AccountSpec, RuleId},
        lease::{LeaseReturned, LeaseStated, ReturnedLease},
    },
};
use tokio::sync::{Notify, mpsc, oneshot};

mod control;
mod reservation;
mod tasks;
#[cfg(test)]
mod tests;

use self::reservation::{Left, Mailbox, Place};
pub use self::{
    reservation::Reservation,
    tasks::{MoneyLinks, NextWindow},
};
use crate::journal::{Journal, JournalError};

/// What each account of a call has reserved.
pub(crate) type Uses = Vec<(AccountId, i64)>;

/// Asks on their way to Redis. More are dropped: whoever still waits asks again.
const ASKS: usize = 256;
/// Full windows that are remembered; the projector tells of as many.
const MOST_FULL: usize = 10_000;

/// The purse, what waits for it, and the journal behind it.
pub struct Money {
    gateway_id: GatewayId,
    clock: Arc<dyn Clock>,
    journal: Journal,
    counter: Mutex<Counter>,
    asks: mpsc::Sender<Vec<AskAccount>>,
    /// Somebody waits: the ticker runs.
    waiting: Notify,
    mailbox: Arc<Mailbox>,
    /// Windows that nothing more is to be called in.
    full: Mutex<HashMap<AccountId, FullAccount>>,
    /// Returned totals that the journal did not take.
    unwritten: Mutex<BTreeMap<AccountId, i64>>,
}

/// The asks that `Money` makes, for `Money::spawn`.
pub struct Asks(mpsc::Receiver<Vec<AskAccount>>);

/// Behind the lock, which is never held across an await.
struct Counter {
    purse: Purse,
    waiting: HashMap<CallNumber, Waiting>,
    next_call: u64,
}

struct Waiting {
    answer: oneshot::Sender<Result<Reservation, Refusal>>,
    uses: Uses,
}

/// What is done after the lock is let go.
enum Action {
    Answer(
        oneshot::Sender<Result<Reservation, Refusal>>,
        Result<Reservation, Refusal>,
    ),
    Ask(Vec<AskAccount>),
    Return(Option<ReclaimId>, Vec<ReturnedLease>),
}

enum Step {
    Done(Result<(), Refusal>),
    Wait(Place, oneshot::Receiver<Result<Reservation, Refusal>>),
}

impl Money {
    /// A purse with the leases as the journal has them: orphans must be settled before.
    #[must_use]
    pub fn new(journal: Journal, clock: Arc<dyn Clock>, protocol: Protocol) -> (Self, Asks) {
        let now = clock.now();
        let mut purse = Purse::new(protocol);
        for lease in journal.leases() {
            purse.restore(&lease.account, lease.totals, now);
        }
        let (asks, receiver) = mpsc::channel(ASKS);
        let counter = Counter {
            purse,
            waiting: HashMap::new(),
            next_call: 0,
        };
        let money = Self {
            gateway_id: journal.identity().gateway_id,
            clock,
            journal,
            counter: Mutex::new(counter),
            asks,
            waiting: Notify::new(),
            mailbox: Arc::default(),
            full: Mutex::default(),
            unwritten: Mutex::default(),
        };
        (money, Asks(receiver))
    }

    /// Takes the wanted amounts of all accounts or of none. Ready at once when the purse has them; else waits in line,
    /// at most as long as the protocol says. From then on the caller must `settle` or `release` them, and await nothing
    /// before the call is where somebody does.
    pub async fn reserve(&self, wants: &[Want]) -> Result<(), Refusal> {
        match self.begin(wants) {
            Step::Done(done) => done,
            Step::Wait(place, answer) => place.wait(answer).await.map(|reservation| {
                reservation.keep();
            }),
        }
    }

    /// As `reserve`, for callers that may be dropped with the reservation in hand: it is released then.
    pub async fn hold(&self, wants: &[Want]) -> Result<Reservation, Refusal> {
        match self.begin(wants) {
            Step::Done(done) => done.map(|()| self.reservation(uses_of(wants))),
            Step::Wait(place, answer) => place.wait(answer).await,
        }
    }

    /// The call is in the journal as `finished`: what it took leaves the leases, the rest is free again.
    pub fn settle(&self, uses: &[Used]) {
        self.act(|purse, now, outputs| purse.settle(uses, now, outputs));
    }

    /// What is known of a window whose calls reserve nothing, if it is full.
    #[must_use]
    pub fn full(&self, account: AccountId) -> Option<FullAccount> {
        self.full_accounts().get(&account).cloned()
    }

    /// The call never reached for an upstream and has no record in the journal.
    pub fn release(&self, uses: &[(AccountId, i64)]) {
        self.act(|purse, now, outputs| purse.release(uses, now, outputs));
    }

    /// A rule was changed or deleted: its idle parts go back, and whether it is full is to be told anew.
    pub fn rule_changed(&self, rule: RuleId) {
        self.full_accounts().retain(|id, _| id.rule != rule);
        self.act(|purse, _, outputs| purse.rule_changed(rule, outputs));
    }

    /// Everything idle goes back: a graceful end.
    pub fn return_all(&self) {
        self.take_left(self.mailbox.take());
        self.act(|purse, _, outputs| purse.return_all(outputs));
    }

    /// Calls that wait for money.
    #[must_use]
    pub fn waiting_calls(&self) -> usize {
        self.lock().purse.line_length()
    }

    /// Sum of the reservations of calls under way on an account.
    #[must_use]
    pub fn reserved(&self, account: AccountId) -> i64 {
        self.lock().purse.reserved(account)
    }

    fn begin(&self, wants: &[Want]) -> Step {
        let now = self.clock.now();
        let mut outputs = Vec::new();
        let mut counter = self.lock();
        let call = CallNumber(counter.next_call);
        counter.next_call += 1;
        let step = match counter.purse.reserve(call, wants, now, &mut outputs) {
            Admission::Reserved => Step::Done(Ok(())),
            Admission::Refused(refusal) => Step::Done(Err(refusal)),
            Admission::Waiting => {
                let (answer, receiver) = oneshot::channel();
                let uses = uses_of(wants);
                counter.waiting.insert(call, Waiting { answer, uses });
                self.waiting.notify_one();
                Step::Wait(Place::new(call, Arc::clone(&self.mailbox)), receiver)
            }
        };
        self.carry_out(counter, outputs);
        step
    }

    /// One change of the purse and what follows from it.
    fn act(&self, change: impl FnOnce(&mut Purse, Timestamp, &mut Vec<Output>)) {
        let now = self.clock.now();
        let mut outputs = Vec::new();
        let mut counter = self.lock();
        change(&mut counter.purse, now, &mut outputs);
        self.carry_out(counter, outputs);
    }

    /// Lets go of the lock, then does what the purse wants done.
    fn carry_out(&self, mut counter: MutexGuard<'_, Counter>, outputs: Vec<Output>) {
        if outputs.is_empty() {
            return;
        }
        let actions: Vec<Action> = outputs
            .into_iter()
            .filter_map(|output| self.action(&mut counter, output))
            .collect();
        drop(counter);
        for action in actions {
            match action {
                // Whoever is gone has dropped the other end; the reservation comes back by the mailbox.
                Action::Answer(answer, result) => drop(answer.send(result)),
                Action::Ask(accounts) => drop(self.asks.try_send(accounts)),
                Action::Return(reclaim_id, leases) => self.write_returned(reclaim_id, leases),
            }
        }
    }

    fn action(&self, counter: &mut Counter, output: Output) -> Option<Action> {
        match output {
            Output::Admit(call) => {
                let Waiting { answer, uses } = counter.waiting.remove(&call)?;
                Some(Action::Answer(answer, Ok(self.reservation(uses))))
            }
            Output::Refuse(call, refusal) => {
                let waiting = counter.waiting.remove(&call)?;
                Some(Action::Answer(waiting.answer, Err(refusal)))
            }
            Output::Ask(accounts) => Some(Action::Ask(accounts)),
            Output::Return { reclaim_id, leases } => Some(Action::Return(reclaim_id, leases)),
        }
    }

    fn reservation(&self, uses: Uses) -> Reservation {
        Reservation::new(uses, Arc::clone(&self.mailbox))
    }

    fn knows(&self, account: AccountId) -> bool {
        self.lock().purse.knows(account)
    }

    fn learn(&self, account: &AccountSpec) {
        self.act(|purse, now, _| purse.learn(account, now));
    }

    /// A message of the grant task.
    fn receive(&self, message: ControlMessage) {
        match message {
            ControlMessage::Leases { leases } => {
                for lease in &leases {
                    self.apply(lease);
                }
            }
            ControlMessage::ReturnIdle {
                reclaim_id,
                account,
                granted,
            } => {
                if let (Some(account), Some(granted)) = (account, granted) {
                    self.apply(&ControlLease {
                        account,
                        granted,
                        scarce: true,
                        denial: None,
                    });
                }
                self.act(|purse, now, outputs| purse.reclaim(reclaim_id, account, now, outputs));
            }
            ControlMessage::Full { accounts } => {
                let mut full = self.full_accounts();
                for account in accounts {
                    if full.len() < MOST_FULL || full.contains_key(&account.account) {
                        full.insert(account.account, account);
                    }
                }
            }
            ControlMessage::StateLeases { generation } => self.state_leases(generation),
        }
    }

    /// A grant is in the journal before a nano of it is spent: a restart must know what it holds.
    fn apply(&self, answer: &ControlLease) {
        let grown = self.lock().purse.grows(answer);
        if let Some(account) = grown
            && let Err(error) = self.journal.granted(&account, answer.granted)
        {
            tracing::error!(%error, account = %account.id, "grant not written to the journal");
            return;
        }
        self.act(|purse, now, outputs| purse.apply(answer, now, outputs));
    }

    fn state_leases(&self, generation: u64) {
        let leases = self.journal.leases();
        let gateway_id = self.gateway_id;
        let event = Event::LeaseStated(LeaseStated {
            gateway_id,
            generation,
            leases,
        });
        let written = self.encode(event).map(|bytes| self.journal.event(&bytes));
        if let Err(error) = flatten(written) {
            tracing::error!(error, "lease totals not written to the journal");
        }
    }

    fn write_returned(&self, reclaim_id: Option<ReclaimId>, leases: Vec<ReturnedLease>) {
        let gateway_id = self.gateway_id;
        let event = LeaseReturned {
            gateway_id,
            reclaim_id,
            leases: leases.clone(),
        };
        let written = self
            .encode(Event::LeaseReturned(event))
            .map(|bytes| self.journal.returned(&bytes, &leases));
        if let Err(error) = flatten(written) {
            tracing::error!(error, "returned lease parts not written to the journal");
            let mut unwritten = self
                .unwritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for lease in leases {
                let total = unwritten.entry(lease.account).or_default();
                *total = lease.returned.max(*total);
            }
        }
    }

    /// What the journal did not take before goes in now.
    fn write_unwritten(&self) {
        let mut unwritten = self
            .unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let leases: Vec<ReturnedLease> = std::mem::take(&mut *unwritten)
            .into_iter()
            .map(|(account, returned)| ReturnedLease { account, returned })
            .collect();
        drop(unwritten);
        if !leases.is_empty() {
            self.write_returned(None, leases);
        }
    }

    fn encode(&self, event: Event) -> Result<Vec<u8>, codec::EncodeError> {
        let meta = Meta::new(self.gateway_id.into(), 0, self.clock.now());
        codec::encode(&Envelope { meta, event })
    }

    fn full_accounts(&self) -> MutexGuard<'_, HashMap<AccountId, FullAccount>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What callers left behind when they were dropped.
    fn take_left(&self, left: Vec<Left>) {
        for left in left {
            match left {
                Left::Place(call) => {
                    self.lock().waiting.remove(&call);
                    self.act(|purse, now, outputs| {
                        purse.abandon(call, now, outputs);
                    });
                }
                Left::Reservation(uses) => self.release(&uses),
            }
        }
    }

    fn sweep(&self, next_window: &NextWindow) {
        let now = self.clock.now();
        self.full_accounts()
            .retain(|_, full| full.resets_at.is_none_or(|end| now < end));
        self.act(|purse, now, outputs| {
            purse.sweep(now, outputs);
            for account in purse.ending_before(now.saturating_add(tasks::PREFETCH), now) {
                if let Some(end) = account.window_end.filter(|end| now < *end)
                    && let Some(next) = next_window(account.id, Some(&account.owner), end)
                {
                    purse.prefetch(&next, now, outputs);
                }
            }
        });
        self.journal
            .forget_ended(Timestamp(now.0 - Purse::FORGOTTEN_AFTER_MICROS));
        self.write_unwritten();
    }

    fn has_asked_lately(&self) -> bool {
        let asked_at = self.lock().purse.asked_at();
        asked_at.is_some_and(|at| self.clock.now().since(at) < tasks::ANSWERS_MATTER)
    }

    fn tick(&self) -> bool {
        self.act(Purse::tick);
        self.waiting_calls() > 0
    }
}

fn uses_of(wants: &[Want]) -> Uses {
    wants
        .iter()
        .map(|want| (want.account.id, want.amount))
        .collect()
}

fn flatten(written: Result<Result<u64, JournalError>, codec::EncodeError>) -> Result<u64, String> {
    written
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
impl Money {
    /// A purse that holds what is given and asks nobody.
    pub(crate) fn for_testing(
        journal: &Journal,
        clock: Arc<dyn Clock>,
        leases: &[(odock_events::payload::account::AccountSpec, i64)],
    ) -> Self {
        for (account, granted) in leases {
            journal.granted(account, *granted).unwrap();
        }
        Self::new(journal.clone(), clock, Protocol::default()).0
    }
}
