//! What a simulated world is like, and which rule it is without.

/// A rule that is left out, to see that the checks would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// Answers carry amounts: a doubled one counts twice.
    Totals,
    /// A call keeps what it got of some accounts although another one refused.
    AllOrNone,
    /// Grants do not look at what is free.
    FreeCheck,
    /// Denials are told without calling idle parts back.
    Reclaim,
    /// A restart knows nothing of its journal's leases.
    Replay,
    /// Grants are spent without being journaled.
    GrantRecord,
    /// A reclaim is not answered.
    Answer,
    /// A grant of an account that the gateway does not know any more is not heard.
    Learning,
    /// A window that is over goes on to be granted from.
    Closing,
    /// What is idle stays where it is when its window is over.
    Idling,
    /// A lowered limit does not count.
    Lowering,
    /// A gateway that is lost has its leases freed.
    Holding,
}

#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    pub(super) gateways: usize,
    pub(super) calls: usize,
    /// Limits of the accounts; each call reserves on a random part of them.
    pub(super) limits: Vec<i64>,
    pub(super) reserved: i64,
    /// Least cost of a call; the most is `reserved`.
    pub(super) cheapest: i64,
    pub(super) span_micros: i64,
    pub(super) loss_percent: u64,
    pub(super) kills: usize,
    /// How long a window is; 0: it never ends.
    pub(super) window_seconds: i64,
    /// How often a limit is changed, up or down.
    pub(super) changes: usize,
    /// Of a hundred calls, so many are streams that reserve chunk by chunk.
    pub(super) streams_percent: u64,
    /// Gateways that go and never come back, nor does their disk. One stays.
    pub(super) lost: usize,
    /// By so much the clock of every second gateway is wrong.
    pub(super) skew_seconds: i64,
    pub(super) without: Without,
}
