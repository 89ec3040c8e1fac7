//! The demo models and the settings a slug may carry: `demo-slow@tokens=200,gap_ms=5`. Called for each chat call.

use std::time::Duration;

use super::answer::Refusal;

/// One of the models of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoModel {
    Fast,
    Fee,
    Slow,
    Error500,
    Hang,
    CutStream,
    NoUsage,
}

impl DemoModel {
    pub(super) const ALL: [Self; 7] = [
        Self::Fast,
        Self::Fee,
        Self::Slow,
        Self::Error500,
        Self::Hang,
        Self::CutStream,
        Self::NoUsage,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fast => "demo-fast",
            Self::Fee => "demo-fee",
            Self::Slow => "demo-slow",
            Self::Error500 => "demo-error-500",
            Self::Hang => "demo-hang",
            Self::CutStream => "demo-cut-stream",
            Self::NoUsage => "demo-no-usage",
        }
    }

    fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    fn tokens(self) -> u64 {
        match self {
            Self::Fast | Self::Fee | Self::NoUsage | Self::Error500 | Self::Hang => 20,
            Self::Slow => 100,
            Self::CutStream => 5,
        }
    }

    fn first_byte_after(self) -> Duration {
        if self == Self::Slow {
            Duration::from_millis(500)
        } else {
            Duration::ZERO
        }
    }

    fn gap(self) -> Duration {
        if self == Self::Slow {
            Duration::from_millis(50)
        } else {
            Duration::ZERO
        }
    }
}

/// How one call is answered: the model and what its slug sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behaviour {
    pub(super) model: DemoModel,
    /// For one choice.
    pub(super) tokens: u64,
    pub(super) first_byte_after: Duration,
    pub(super) gap: Duration,
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<u64>,
    pub(super) omit_done: bool,
    pub(super) chunk_bytes: Option<usize>,
    pub(super) crlf: bool,
    pub(super) usage_null: bool,
}

impl Behaviour {
    /// Reads a slug.
    ///
    /// # Errors
    /// 404 for an unknown model, 400 for a setting that is unknown or out of range.
    pub(super) fn parse(slug: &str) -> Result<Self, Refusal> {
        let (name, settings) = match slug.split_once('@') {
            Some((name, settings)) => (name, Some(settings)),
            None => (slug, None),
        };
        let Some(model) = DemoModel::find(name) else {
            return Err(Refusal::unknown_model(slug));
        };
        let mut behaviour = Self::of(model);
        for setting in settings
            .into_iter()
            .flat_map(|settings| settings.split(','))
        {
            if behaviour.set(setting).is_none() {
                return Err(Refusal::bad_setting(setting));
            }
        }
        Ok(behaviour)
    }

    fn of(model: DemoModel) -> Self {
        Self {
            model,
            tokens: model.tokens(),
            first_byte_after: model.first_byte_after(),
            gap: model.gap(),
            status: (model == DemoModel::Error500).then_some(500),
            retry_after: None,
            omit_done: false,
            chunk_bytes: None,
            crlf: false,
            usage_null: false,
        }
    }

    /// `None`: not a setting, or not a value for it.
    fn set(&mut self, setting: &str) -> Option<()> {
        let (name, text) = setting.split_once('=')?;
        let value = parse_number(text)?;
        match name {
            "tokens" => self.tokens = at_most(value, MAX_TOKENS)?,
            "gap_ms" => self.gap = Duration::from_millis(at_most(value, MAX_MS)?),
            "first_ms" => self.first_byte_after = Duration::from_millis(at_most(value, MAX_MS)?),
            "status" => self.status = Some(parse_status(value)?),
            "retry_after" => self.retry_after = Some(at_most(value, MAX_MS)?),
            "chunk_bytes" => {
                self.chunk_bytes = Some(usize::try_from(value).ok().filter(|bytes| *bytes > 0)?);
            }
            "omit_done" => self.omit_done = parse_switch(value)?,
            "crlf" => self.crlf = parse_switch(value)?,
            "usage_null" => self.usage_null = parse_switch(value)?,
            _ => return None,
        }
        Some(())
    }
}

/// Digits only: `u64::from_str` alone would take a `+`.
fn parse_number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn at_most(value: u64, most: u64) -> Option<u64> {
    (value <= most).then_some(value)
}

fn parse_status(value: u64) -> Option<u16> {
    // 304 has no body, and so nothing that could end the ledger's row.
    u16::try_from(value)
        .ok()
        .filter(|status| (300..600).contains(status) && *status != 304)
}

fn parse_switch(value: u64) -> Option<bool> {
    match value {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

const MAX_TOKENS: u64 = 10_000_000;
const MAX_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_found_by_its_name() {
        for model in DemoModel::ALL {
            assert_eq!(Behaviour::parse(model.name()).unwrap().model, model);
        }
        let slow = Behaviour::parse("demo-slow").unwrap();
        assert_eq!(
            (
                slow.tokens,
                slow.first_byte_after.as_millis(),
                slow.gap.as_millis()
            ),
            (100, 500, 50)
        );
    }

    #[test]
    fn settings_replace_what_the_model_says() {
        let set =
            Behaviour::parse("demo-slow@tokens=200,gap_ms=5,first_ms=100,chunk_bytes=7,crlf=1")
                .unwrap();
        assert_eq!(
            (set.tokens, set.gap, set.first_byte_after),
            (200, Duration::from_millis(5), Duration::from_millis(100))
        );
        assert_eq!(
            (set.chunk_bytes, set.crlf, set.omit_done),
            (Some(7), true, false)
        );
        let set = Behaviour::parse("demo-fast@status=429,retry_after=2,omit_done=1,usage_null=0")
            .unwrap();
        assert_eq!(
            (set.status, set.retry_after, set.omit_done),
            (Some(429), Some(2), true)
        );
    }

    #[test]
    fn unknown_models_are_404_and_unknown_settings_400() {
        assert_eq!(Behaviour::parse("gpt-4o").unwrap_err().status, 404);
        assert_eq!(Behaviour::parse("gpt-4o@tokens=1").unwrap_err().status, 404);
        for settings in [
            "",
            "tokens",
            "tokens=",
            "tokens=-1",
            "tokens=+1",
            "tokens=10000001",
            "token=1",
            "crlf=2",
            "status=200",
            "status=600",
            "chunk_bytes=0",
            "gap_ms=3600001",
            "tokens=1,",
            "tokens=1,,crlf=1",
            "Tokens=1",
        ] {
            let refusal = Behaviour::parse(&format!("demo-fast@{settings}")).unwrap_err();
            assert_eq!(refusal.status, 400, "{settings}");
        }
    }
}
