//! All counters of this gateway and the calls that wait for them, behind one lock. A call takes what it needs of all of
//! its counters or of none. What the slices at hand do not have is asked for together: one question for everybody who
//! waits. Pure but for the channel that wakes a waiting call.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use odock_events::log::limits::{Answers, CounterAsk};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    counter::{Counter, Now, Peek, Taken},
    receipt::Held,
    scope::{CounterId, Need},
};

/// What a call took, to give back at its end.
pub(super) type Holdings = Vec<(CounterId, Taken)>;

/// The answer to a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Admitted(Admission),
    Denied(Denial),
}

#[derive(Debug, Default)]
pub(super) struct Admission {
    pub(super) holdings: Holdings,
    /// Shadowed limits that would have refused.
    pub(super) shadowed: Vec<Need>,
    pub(super) quota: Option<Quota>,
}

/// Why not, and when it may be tried again; `retry_at` `None`: never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial {
    pub(super) need: Need,
    pub(super) retry_after_micros: Option<i64>,
    pub(super) quota: Quota,
}

/// The limit that is nearest to its end, for the answer's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(super) counter: CounterId,
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) resets_after_micros: i64,
}

/// A call that has what it needs. Dropped on the way to it, everything comes back.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) held: Held,
    pub(super) shadowed: Vec<Need>,
}

pub(super) type Answer = Result<Passed, Box<Denial>>;

struct Waiter {
    needs: Vec<Need>,
    answer: oneshot::Sender<Answer>,
}

/// What to ask of one hash tag's counters.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) organisation: Uuid,
    pub(super) seq: u64,
    pub(super) counters: Vec<CounterId>,
    pub(super) asks: Vec<CounterAsk>,
}

/// Answers on their way to calls that waited.
pub(super) type Wakes = Vec<(oneshot::Sender<Answer>, Outcome)>;

pub(super) struct Book {
    counters: HashMap<CounterId, Counter>,
    waiters: VecDeque<Waiter>,
    /// Those that a sweep looks at.
    watched: HashSet<CounterId>,
    /// Busy ones that are asked for although nobody waits yet.
    refills: HashSet<CounterId>,
    /// Those where something came back: Redis is told at once.
    returned: HashSet<CounterId>,
    /// Redis' clock at an instant, not behind it.
    anchor: (Instant, i64),
    seq: u64,
    pub(super) live: u64,
    /// Redis does not answer: this gateway counts alone.
    pub(super) alone: bool,
}

impl Book {
    pub(super) fn new(at: Instant, clock: i64) -> Self {
        Self {
            counters: HashMap::new(),
            waiters: VecDeque::new(),
            watched: HashSet::new(),
            refills: HashSet::new(),
            returned: HashSet::new(),
            anchor: (at, clock),
            seq: 0,
            live: 1,
            alone: false,
        }
    }

    /// Redis' clock now, or a little later.
    pub(super) fn clock(&self, at: Instant) -> i64 {
        let passed = at.saturating_duration_since(self.anchor.0).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.anchor.1.saturating_add(passed)
    }

    /// Whether somebody has to be asked or told.
    pub(super) fn has_questions(&self) -> bool {
        !(self.waiters.is_empty() && self.refills.is_empty() && self.returned.is_empty())
    }

    /// Takes all needs or none. `None`: Redis has to be asked first.
    pub(super) fn take(&mut self, needs: &[Need], now: Now) -> Option<Outcome> {
        let mut unknown = false;
        let mut shadowed = Vec::new();
        for need in needs {
            match self.counter(need, now.at).peek(need, now) {
                Peek::Free => {}
                Peek::Unknown => unknown = true,
                Peek::Exhausted { .. } if need.shadow => shadowed.push(*need),
                Peek::Exhausted { retry_at } => {
                    return Some(Outcome::Denied(self.denial(need, retry_at, now)));
                }
            }
        }
        if unknown {
            return None;
        }
        let mut holdings = Vec::new();
        let mut nearest: Option<Quota> = None;
        for need in needs {
            if need.shadow && shadowed.contains(need) {
                continue;
            }
            let taken = self.take_one(need, now);
            if taken != Taken::Spent {
                holdings.push((need.counter, taken));
            }
            if need.counter.limit.window_seconds().is_some() && !need.shadow {
                let quota = self.quota(need, now);
                nearest = Some(nearest.map_or(quota, |nearest| nearest.nearer(quota)));
            }
        }
        Some(Outcome::Admitted(Admission {
            holdings,
            shadowed,
            quota: nearest,
        }))
    }

    fn take_one(&mut self, need: &Need, now: Now) -> Taken {
        let live = self.live;
        let counter = self.counter(need, now.at);
        let taken = counter.take(need.amount, now);
        let (refill, watch) = (counter.wants_refill(live, now), counter.is_watched(now.at));
        if refill {
            self.refills.insert(need.counter);
        }
        if watch {
            self.watched.insert(need.counter);
        }
        taken
    }

    fn denial(&mut self, need: &Need, retry_at: Option<i64>, now: Now) -> Denial {
        let quota = self.quota(need, now);
        Denial {
            need: *need,
            retry_after_micros: retry_at.map(|at| at.saturating_sub(now.at).max(0)),
            quota,
        }
    }

    fn quota(&mut self, need: &Need, now: Now) -> Quota {
        let counter = self.counter(need, now.at);
        Quota {
            counter: need.counter,
            limit: need.limit,
            remaining: counter.remaining(now),
            resets_after_micros: counter.resets_at(now.at).saturating_sub(now.at).max(0),
        }
    }

    /// Waits in line for Redis' answer.
    pub(super) fn wait(&mut self, needs: Vec<Need>) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        self.waiters.push_back(Waiter { needs, answer });
        receiver
    }

    pub(super) fn give_back(&mut self, holdings: &Holdings, actual: Option<u64>) {
        for (id, taken) in holdings {
            if let Some(counter) = self.counters.get_mut(id) {
                counter.give_back(*taken, actual);
                self.watched.insert(*id);
                if matches!(taken, Taken::Slot(_)) {
                    self.returned.insert(*id);
                }
            }
        }
    }

    /// Whether every slot among them is still this gateway's.
    pub(super) fn holds(&self, holdings: &Holdings, now: i64) -> bool {
        holdings.iter().all(|(id, taken)| match taken {
            Taken::Slot(slot) => self
                .counters
                .get(id)
                .is_some_and(|counter| counter.holds(*slot, now)),
            Taken::Spent | Taken::Tokens { .. } => true,
        })
    }

    /// What to ask for everybody who waits, what to refill, what to tell of. Empty: nothing.
    pub(super) fn questions(&mut self, now: i64) -> Vec<Question> {
        let moment = Now::of(now);
        let mut wanted: HashMap<CounterId, u64> = HashMap::new();
        wanted.extend(self.refills.drain().map(|id| (id, 0)));
        let waiting: Vec<Need> = self
            .waiters
            .iter()
            .flat_map(|waiter| waiter.needs.iter().copied())
            .collect();
        for need in waiting {
            let counter = self.counter(&need, now);
            let sum = match counter.peek(&need, moment) {
                Peek::Unknown => need.amount,
                Peek::Free if counter.free(moment) > 0 => need.amount,
                Peek::Free | Peek::Exhausted { .. } => continue,
            };
            *wanted.entry(need.counter).or_default() += sum;
        }
        let mut questions = Questions::default();
        let live = self.live;
        for id in self.returned.drain() {
            if wanted.contains_key(&id) {
                continue;
            }
            let told = self
                .counters
                .get_mut(&id)
                .and_then(|it| it.sweep(live, now));
            if let Some(ask) = told {
                questions.add(id, ask);
            }
        }
        for (id, waiting) in wanted {
            if let Some(counter) = self.counters.get_mut(&id) {
                let ask = counter.ask(waiting, live, moment);
                if ask.want > 0 {
                    questions.add(id, ask);
                }
            }
        }
        self.number(questions)
    }

    /// Looks through the counters that may have something idle or have to renew it.
    pub(super) fn sweep(&mut self, now: i64) -> Vec<Question> {
        let mut questions = Questions::default();
        let (live, counters) = (self.live, &mut self.counters);
        self.watched.retain(|id| {
            let Some(counter) = counters.get_mut(id) else {
                return false;
            };
            if let Some(ask) = counter.sweep(live, now) {
                questions.add(*id, ask);
            }
            counter.is_watched(now)
        });
        self.number(questions)
    }

    /// Forgets counters that nobody has used for a while.
    pub(super) fn forget(&mut self, now: i64) {
        self.counters.retain(|_, counter| !counter.is_over(now));
    }

    fn number(&mut self, questions: Questions) -> Vec<Question> {
        self.seq += 1;
        let mut questions = questions.0;
        for question in &mut questions {
            question.seq = self.seq;
        }
        questions
    }

    /// Takes Redis' answers in, or, when there are none, answers itself.
    pub(super) fn apply(&mut self, question: &Question, answers: Option<(&Answers, Instant)>) {
        let Some((answers, sent_at)) = answers else {
            self.answer_alone(question);
            return;
        };
        self.anchor = (sent_at, answers.clock);
        for ((id, ask), answer) in question.pairs().zip(&answers.counters) {
            if let Some(counter) = self.counters.get_mut(id) {
                counter.apply(ask, answer, answers.clock);
                self.watched.insert(*id);
            }
        }
    }

    fn answer_alone(&mut self, question: &Question) {
        let now = self.clock(Instant::now());
        for (id, ask) in question.pairs() {
            if let Some(counter) = self.counters.get_mut(id) {
                let answer = counter.answer_alone(ask, self.live, now);
                counter.apply(ask, &answer, now);
                self.watched.insert(*id);
            }
        }
    }

    /// Answers those who waited, in their order, as far as that can be said now.
    pub(super) fn wake(&mut self, now: Now) -> Wakes {
        let mut wakes = Vec::new();
        let mut still = VecDeque::new();
        while let Some(waiter) = self.waiters.pop_front() {
            if waiter.answer.is_closed() {
                continue;
            }
            match self.take(&waiter.needs, now) {
                Some(outcome) => wakes.push((waiter.answer, outcome)),
                None => still.push_back(waiter),
            }
        }
        self.waiters = still;
        wakes
    }

    fn counter(&mut self, need: &Need, now: i64) -> &mut Counter {
        self.counters
            .entry(need.counter)
            .or_insert_with(|| Counter::new(need, now))
    }
}

impl Question {
    fn pairs(&self) -> impl Iterator<Item = (&CounterId, &CounterAsk)> {
        self.counters.iter().zip(&self.asks)
    }
}

impl Quota {
    /// The one of which a smaller part is left.
    pub(super) fn nearer(self, other: Self) -> Self {
        let of = |quota: &Self, limit: u64| u128::from(quota.remaining) * u128::from(limit);
        if of(&other, self.limit) < of(&self, other.limit) {
            other
        } else {
            self
        }
    }
}

/// One question for each hash tag, of at most so many counters.
#[derive(Default)]
struct Questions(Vec<Question>);

impl Questions {
    fn add(&mut self, id: CounterId, ask: CounterAsk) {
        let organisation = id.scope.organisation;
        let open = self.0.iter_mut().rev().find(|question| {
            question.organisation == organisation && question.asks.len() < MOST_COUNTERS
        });
        match open {
            Some(question) => {
                question.counters.push(id);
                question.asks.push(ask);
            }
            None => self.0.push(Question {
                organisation,
                seq: 0,
                counters: vec![id],
                asks: vec![ask],
            }),
        }
    }
}

/// In one call of the script.
const MOST_COUNTERS: usize = 100;
