//! The metrics of limits. Labels are closed sets, and every handle is looked up once.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::scope::LimitKind;

/// Where in a call's life a limit is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    PreAuth,
    Early,
    Final,
}

impl Stage {
    const ALL: [(Self, &'static str); 3] = [
        (Self::PreAuth, "pre_auth"),
        (Self::Early, "early"),
        (Self::Final, "final"),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::PreAuth => "pre_auth",
            Self::Early => "early",
            Self::Final => "final",
        }
    }
}

pub struct LimitMetrics {
    /// By stage: gates that let a call through.
    allowed: [IntCounter; 3],
    /// By stage and limit.
    denied: [[IntCounter; LimitKind::ALL.len()]; 3],
    shadowed: [[IntCounter; LimitKind::ALL.len()]; 3],
    asked: IntCounter,
    alone: IntGauge,
}

impl LimitMetrics {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let decisions = IntCounterVec::new(
            Opts::new(
                "gateway_ratelimit_decisions_total",
                "What the gates of limits said.",
            ),
            &["ratelimit_stage", "decision"],
        )?;
        let rejections = IntCounterVec::new(
            Opts::new(
                "gateway_ratelimit_rejections_total",
                "Calls that a limit refused, or would have refused if it were not shadowed.",
            ),
            &["ratelimit_stage", "ratelimit_module", "decision"],
        )?;
        let asked = IntCounter::new(
            "gateway_ratelimit_script_calls_total",
            "Questions to the counters in Redis.",
        )?;
        let alone = IntGauge::new(
            "gateway_ratelimit_alone",
            "1 while Redis does not answer and this gateway counts with its share of each limit.",
        )?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(rejections.clone()))?;
        registry.register(Box::new(asked.clone()))?;
        registry.register(Box::new(alone.clone()))?;
        let by_limit = |decision: &str| {
            Stage::ALL.map(|(_, stage)| {
                LimitKind::ALL
                    .map(|limit| rejections.with_label_values(&[stage, limit.name(), decision]))
            })
        };
        Ok(Self {
            allowed: Stage::ALL.map(|(_, stage)| decisions.with_label_values(&[stage, "allowed"])),
            denied: by_limit("denied"),
            shadowed: by_limit("shadow_denied"),
            asked,
            alone,
        })
    }

    pub(super) fn allowed(&self, stage: Stage) {
        self.allowed[stage as usize].inc();
    }

    pub(super) fn denied(&self, stage: Stage, limit: LimitKind) {
        if let Some(counter) = self.denied[stage as usize].get(limit as usize) {
            counter.inc();
        }
    }

    /// A refusal that was not one: counted, and told of in the log.
    pub(super) fn shadowed(&self, stage: Stage, limit: LimitKind, scope: &super::scope::ScopeId) {
        if let Some(counter) = self.shadowed[stage as usize].get(limit as usize) {
            counter.inc();
        }
        let shown = scope.shown();
        tracing::info!(
            stage = stage.name(),
            limit = limit.name(),
            scope = shown.kind,
            scope_id = shown.id,
            "a shadowed limit would have refused a call"
        );
    }

    pub(super) fn asked(&self) {
        self.asked.inc();
    }

    /// How often the counters in Redis were asked.
    #[must_use]
    pub fn script_calls(&self) -> u64 {
        self.asked.get()
    }

    pub(super) fn counts_alone(&self, alone: bool) {
        self.alone.set(i64::from(alone));
    }
}
