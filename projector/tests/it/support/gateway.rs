//! A gateway that is only its streams: a seq that goes on, leases by totals, asks, and what the projector answers.

use std::time::Duration;

use odock_events::{clock::Timestamp, ids::BudgetId, ledger::window};
use odock_events::{
    clock::{Clock as _, SystemClock},
    codec,
    envelope::{EntityRef, Envelope, Meta},
    examples,
    ids::{EventId, GatewayId, OrganisationId, ReclaimId, UsageId},
    kind::{Event, Kind},
    log::{
        UsageAppend, UsageAppended,
        messages::{
            Ask, AskAccount, AskMessage, ControlLease, ControlMessage, Denial, GatewayPresence,
        },
        reader::{StreamId, StreamReader},
    },
    payload::{
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetBody, BudgetMode, Owner},
        gateway::{GatewayClosed, GatewayOpened},
        lease::{LeaseReturned, LeaseStated, ReturnedLease, StatedLease},
        usage::{AccountUse, UsageFinished},
    },
    units::NanoUsd,
};

use super::World;

pub(crate) struct Gateway {
    pub(crate) id: GatewayId,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    /// Every event so far: the journal.
    pub(crate) journal: Vec<Vec<u8>>,
    base: u64,
    reader: StreamReader,
    after: StreamId,
}

/// The account of an organisation's endless budget.
pub(crate) fn account(
    budget: BudgetId,
    organisation: OrganisationId,
    body: &BudgetBody,
) -> AccountSpec {
    let window = window::window_at(body, SystemClock.now()).unwrap();
    AccountSpec {
        id: AccountId::of(budget, window.start),
        organisation_id: organisation,
        owner: Owner::Organisation { id: organisation },
        unit: Unit::Nanos,
        mode: body.mode,
        limit: body.amount_nanos.0,
        window_end: window.end,
        rollover: body.rollover,
        thresholds: body.thresholds,
    }
}

impl Gateway {
    /// Starts: opens its stream and shows itself.
    pub(crate) async fn open(world: &World) -> Self {
        let mut gateway = Self::new(world).await;
        let opened = gateway.opened(None);
        gateway.append(world, &[opened]).await;
        gateway.show(world).await;
        gateway
    }

    pub(crate) async fn new(world: &World) -> Self {
        Self {
            id: GatewayId::generate(),
            seq: 0,
            epoch: 1,
            journal: Vec::new(),
            base: 0,
            reader: StreamReader::connect(&world.redis.url()).await.unwrap(),
            after: StreamId::beginning(),
        }
    }

    pub(crate) async fn show(&self, world: &World) {
        let now = SystemClock.now();
        let presence = GatewayPresence {
            gateway_id: self.id,
            epoch: self.epoch,
            applied_version: 0,
            applied_at: now,
            heartbeat_at: now,
            closes_when_stale: false,
            max_stale_ms: 60_000,
        };
        world
            .log
            .put_presence(world.generation().await, &presence)
            .await
            .unwrap();
    }

    pub(crate) fn opened(&self, predecessor: Option<GatewayId>) -> Event {
        Event::GatewayOpened(GatewayOpened {
            gateway_id: self.id,
            epoch: self.epoch,
            nonce: "nonce".into(),
            predecessor,
            tail_unproven: false,
            version: "0.0.0".into(),
        })
    }

    pub(crate) fn closed(&self) -> Event {
        Event::GatewayClosed(GatewayClosed {
            gateway_id: self.id,
            epoch: self.epoch,
        })
    }

    /// A call that cost `cost` and had reserved `reserved` on each hard account.
    pub(crate) fn finished(&self, accounts: &[AccountSpec], cost: i64, reserved: i64) -> Event {
        let Event::UsageFinished(example) = examples::of_kind(Kind::UsageFinished).event else {
            panic!("the example is another kind")
        };
        let used = |account: &AccountSpec| AccountUse {
            account: account.clone(),
            reserved: if account.mode == BudgetMode::Hard {
                reserved
            } else {
                0
            },
        };
        Event::UsageFinished(UsageFinished {
            usage_id: UsageId::generate(),
            gateway_id: self.id,
            cost: NanoUsd(cost),
            accounts: accounts.iter().map(used).collect(),
            started_at: SystemClock.now(),
            ..example
        })
    }

    pub(crate) fn returned(&self, id: Option<ReclaimId>, leases: &[(AccountId, i64)]) -> Event {
        let leases = leases.iter();
        let leases = leases.map(|(account, returned)| ReturnedLease {
            account: *account,
            returned: *returned,
        });
        Event::LeaseReturned(LeaseReturned {
            gateway_id: self.id,
            reclaim_id: id,
            leases: leases.collect(),
        })
    }

    pub(crate) fn stated(&self, generation: u64, leases: Vec<StatedLease>) -> Event {
        Event::LeaseStated(LeaseStated {
            gateway_id: self.id,
            generation,
            leases,
        })
    }

    /// Journals events and ships them as one entry.
    pub(crate) async fn append(&mut self, world: &World, events: &[Event]) {
        let first = self.seq + 1;
        self.append_journal(events);
        self.deliver(world, first).await;
    }

    /// Journals and ships something that is no event.
    pub(crate) async fn append_raw(&mut self, world: &World, bytes: &[u8]) {
        self.journal.push(bytes.to_vec());
        self.seq += 1;
        self.deliver(world, self.seq).await;
    }

    /// Ships the journal from a seq on. A generation that was raised meanwhile has a watermark of its own, above which all is
    /// sent again.
    async fn deliver(&mut self, world: &World, first: u64) {
        match self.ship(world, first, self.seq).await {
            UsageAppended::Ok { last } => assert_eq!(last, self.seq),
            UsageAppended::Gap { .. } | UsageAppended::Stale { .. } | UsageAppended::Closed => {
                self.send_again(world).await;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Journals events without shipping them.
    pub(crate) fn append_journal(&mut self, events: &[Event]) {
        for event in events {
            self.journal
                .push(codec::encode(&self.envelope(event.clone())).unwrap());
            self.seq += 1;
        }
    }

    /// Goes on after seqs that were shipped by hand.
    pub(crate) fn skip(&mut self, count: u64) {
        self.seq += count;
        self.journal.extend((0..count).map(|_| Vec::new()));
    }

    /// Ships journaled events, whether they were shipped before or not.
    pub(crate) async fn ship(&self, world: &World, first: u64, last: u64) -> UsageAppended {
        let events = &self.journal[first as usize - 1..last as usize];
        let bytes = codec::pack_batch(events.iter().map(Vec::as_slice)).unwrap();
        self.ship_bytes(world, first, last, &bytes).await
    }

    pub(crate) async fn ship_bytes(
        &self,
        world: &World,
        first: u64,
        last: u64,
        bytes: &[u8],
    ) -> UsageAppended {
        let append = UsageAppend {
            generation: world.generation().await,
            gateway_id: self.id,
            epoch: self.epoch,
            nonce: "nonce",
            first,
            last,
            base: self.base,
            bytes,
        };
        world.log.append_usage(&append).await.unwrap()
    }

    /// Takes the watermark of the generation in force and ships everything above it again.
    pub(crate) async fn send_again(&mut self, world: &World) {
        let generation = world.generation().await;
        self.base = world
            .log
            .watermark(generation, self.id)
            .await
            .unwrap()
            .unwrap_or(0);
        if self.base < self.seq {
            let appended = self.ship(world, self.base + 1, self.seq).await;
            let (UsageAppended::Ok { last } | UsageAppended::Duplicate { top: last }) = appended
            else {
                panic!("{appended:?}");
            };
            assert_eq!(last, self.seq);
        }
        self.show(world).await;
    }

    pub(crate) async fn ask(&self, world: &World, account: &AccountSpec, must: i64, want: i64) {
        let accounts = vec![AskAccount {
            account: account.clone(),
            must,
            want,
        }];
        let ask = AskMessage::Ask(Ask {
            gateway_id: self.id,
            accounts,
        });
        world.log.send_ask(&ask).await.unwrap();
    }

    /// Asks again and again, as a gateway does, until it is granted.
    pub(crate) async fn ask_until_granted(
        &mut self,
        world: &World,
        account: &AccountSpec,
        must: i64,
    ) -> ControlLease {
        for _ in 0..300 {
            self.show(world).await;
            self.ask(world, account, must, must).await;
            let message = self.control_within(Duration::from_millis(30)).await;
            if let Some(ControlMessage::Leases { leases }) = message
                && let Some(lease) = leases.into_iter().find(|lease| lease.granted >= must)
            {
                return lease;
            }
        }
        panic!("nothing was granted")
    }

    /// The next message of the projector.
    pub(crate) async fn control(&mut self) -> ControlMessage {
        self.control_within(Duration::from_secs(10))
            .await
            .expect("a message of the projector")
    }

    pub(crate) async fn control_within(&mut self, wait: Duration) -> Option<ControlMessage> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let messages = self
                .reader
                .control(self.id, &self.after, left)
                .await
                .unwrap();
            // One at a time; the rest is read again.
            if let Some((id, message)) = messages.into_iter().next() {
                self.after = id;
                return Some(message);
            }
            if left.is_zero() {
                return None;
            }
        }
    }

    /// The next answer about a lease.
    pub(crate) async fn lease(&mut self) -> ControlLease {
        loop {
            if let ControlMessage::Leases { leases } = self.control().await
                && let Some(lease) = leases.into_iter().next()
            {
                return lease;
            }
        }
    }

    /// The next answer that is a denial.
    pub(crate) async fn denial(&mut self) -> Denial {
        loop {
            if let Some(denial) = self.lease().await.denial {
                return denial;
            }
        }
    }

    /// The next call for idle parts.
    pub(crate) async fn reclaim(&mut self) -> ReclaimId {
        loop {
            if let ControlMessage::ReturnIdle { reclaim_id, .. } = self.control().await {
                return reclaim_id;
            }
        }
    }

    fn envelope(&self, event: Event) -> Envelope {
        let (entity, organisation) = match &event {
            Event::UsageFinished(usage) => {
                let account = usage.accounts.first();
                let organisation = account.map(|used| used.account.organisation_id);
                (
                    EntityRef::from(usage.usage_id),
                    organisation.or(Some(OrganisationId(self.id.0))),
                )
            }
            _ => (EntityRef::from(self.id), None),
        };
        let meta = Meta {
            id: EventId::generate(),
            organisation_id: organisation,
            config_version: Some(1),
            price_version: Some(1),
            ..Meta::new(entity, 0, Timestamp(SystemClock.now().0))
        };
        Envelope { meta, event }
    }
}
