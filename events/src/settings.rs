//! Settings of the services: environment variables over a flat TOML file whose keys are the variables' own names.
//! Each service declares its table of [`Setting`]s; whatever is wrong is reported at once and by name.

use std::{
    collections::BTreeMap,
    env,
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

mod names;

use self::names::explain_unknown;
pub use self::names::{RETIRED, Retired};

/// One variable that a service knows.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// `None`: there is no value unless one is given.
    pub default: Option<&'static str>,
    pub required: bool,
    /// Its value is never shown.
    pub secret: bool,
    pub doc: &'static str,
}

impl Setting {
    /// An optional variable.
    #[must_use]
    pub const fn new(name: &'static str, doc: &'static str) -> Self {
        Self {
            name,
            default: None,
            required: false,
            secret: false,
            doc,
        }
    }

    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    #[must_use]
    pub const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    #[must_use]
    pub const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }
}

/// What is wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub name: String,
    pub message: String,
}

/// Everything that is wrong, each with the variable's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    pub problems: Vec<Problem>,
}

impl SettingsError {
    #[must_use]
    pub fn one(name: &str, message: impl Into<String>) -> Self {
        Self {
            problems: vec![Problem {
                name: name.to_owned(),
                message: message.into(),
            }],
        }
    }

    /// All problems of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.problems.extend(other.problems);
        self
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings do not hold")?;
        self.problems
            .iter()
            .try_for_each(|Problem { name, message }| write!(f, "\n  {name}: {message}"))
    }
}

impl std::error::Error for SettingsError {}

/// The values of one service.
#[derive(Clone)]
pub struct Settings {
    table: &'static [Setting],
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Reads the file, if there is one, and the environment over it. Refuses names that the file has and the table
    /// has not, retired names in either, and required ones that are in neither.
    pub fn load(file: Option<&Path>, table: &'static [Setting]) -> Result<Self, SettingsError> {
        let mut pairs = match file {
            Some(path) => read_file(path)?,
            None => Vec::new(),
        };
        for setting in table {
            if let Some(value) = read_environment(setting.name)? {
                pairs.push((setting.name.to_owned(), value));
            }
        }
        for retired in RETIRED {
            if let Some(value) = read_environment(retired.name)? {
                pairs.push((retired.name.to_owned(), value));
            }
        }
        Self::from_pairs(pairs, table)
    }

    /// The same rules on values from anywhere; later ones win.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (String, String)>,
        table: &'static [Setting],
    ) -> Result<Self, SettingsError> {
        let mut values: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in pairs {
            if let Some(setting) = table.iter().find(|setting| setting.name == name) {
                values.insert(setting.name, value);
            } else {
                problems.push(Problem {
                    message: explain_unknown(&name, table),
                    name,
                });
            }
        }
        for setting in table {
            if setting.required && values.get(setting.name).is_none_or(String::is_empty) {
                let message = format!("is required: {}", setting.doc);
                problems.push(Problem {
                    name: setting.name.to_owned(),
                    message,
                });
            }
        }
        if problems.is_empty() {
            Ok(Self { table, values })
        } else {
            Err(SettingsError { problems })
        }
    }

    /// The same without one value, so that a checker can go on to what else is wrong. `None`: there was no such value.
    #[must_use]
    pub fn without(&self, name: &str) -> Option<Self> {
        let mut rest = self.clone();
        rest.values.remove(name).map(|_| rest)
    }

    /// The value or the default; `None` when there is neither or it is empty.
    pub fn optional(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let setting = self.setting(name)?;
        let value = self
            .values
            .get(name)
            .map(String::as_str)
            .or(setting.default);
        Ok(value.filter(|value| !value.is_empty()).map(str::to_owned))
    }

    /// The value or the default, which must be there.
    pub fn text(&self, name: &'static str) -> Result<String, SettingsError> {
        self.optional(name)?
            .ok_or_else(|| SettingsError::one(name, "is required"))
    }

    /// The value read as `T`.
    pub fn parse<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<T, SettingsError> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|error| self.refuse(name, &text, &format!("{error}")))
    }

    /// As `parse`, `None` when there is no value.
    pub fn parse_optional<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, SettingsError> {
        self.optional(name)?.map(|_| self.parse(name)).transpose()
    }

    /// `250ms`, `10s`, `5m`, `24h`.
    pub fn duration(&self, name: &'static str) -> Result<Duration, SettingsError> {
        let text = self.text(name)?;
        parse_duration(&text).ok_or_else(|| {
            self.refuse(
                name,
                &text,
                "expected a duration such as 250ms, 10s, 5m or 24h",
            )
        })
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &'static str) -> Result<bool, SettingsError> {
        match self.text(name)?.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(self.refuse(name, other, "expected true or false")),
        }
    }

    pub fn secret(&self, name: &'static str) -> Result<Option<SecretString>, SettingsError> {
        Ok(self.optional(name)?.map(SecretString::from))
    }

    pub fn path(&self, name: &'static str) -> Result<PathBuf, SettingsError> {
        self.text(name).map(PathBuf::from)
    }

    pub fn optional_path(&self, name: &'static str) -> Result<Option<PathBuf>, SettingsError> {
        Ok(self.optional(name)?.map(PathBuf::from))
    }

    /// A secret given in place (`NAME`, a PEM may carry literal `\n`) or in a file (`NAME_FILE`).
    pub fn secret_or_file(
        &self,
        name: &'static str,
        file: &'static str,
    ) -> Result<Option<SecretString>, SettingsError> {
        if let Some(secret) = self.secret(name)? {
            return Ok(Some(SecretString::from(
                secret.expose_secret().replace("\\n", "\n"),
            )));
        }
        let Some(path) = self.optional_path(file)? else {
            return Ok(None);
        };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(SecretString::from(text))),
            Err(error) => Err(SettingsError::one(
                file,
                format!("{}: {error}", path.display()),
            )),
        }
    }

    fn setting(&self, name: &'static str) -> Result<&'static Setting, SettingsError> {
        let setting = self.table.iter().find(|setting| setting.name == name);
        setting.ok_or_else(|| SettingsError::one(name, "is not in this service's table"))
    }

    fn refuse(&self, name: &str, found: &str, expected: &str) -> SettingsError {
        let secret = self
            .table
            .iter()
            .any(|setting| setting.name == name && setting.secret);
        let found = if secret {
            "a value".to_owned()
        } else {
            format!("`{found}`")
        };
        SettingsError::one(name, format!("found {found}: {expected}"))
    }
}

/// A table of variables in Markdown, for docs/CONFIGURATION.md.
#[must_use]
pub fn document(table: &[Setting]) -> String {
    let mut text = String::from("| variable | default | |\n|---|---|---|\n");
    for setting in table {
        let default = match (setting.default, setting.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "required".to_owned(),
            (None, false) => String::new(),
        };
        let _ = writeln!(text, "| `{}` | {default} | {} |", setting.name, setting.doc);
    }
    text
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, SettingsError> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| SettingsError::one(&name, error.to_string()))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| SettingsError::one(&name, error.to_string()))?;
    let pairs = table.into_iter().map(|(key, value)| match value {
        toml::Value::String(text) => Ok((key, text)),
        toml::Value::Integer(number) => Ok((key, number.to_string())),
        toml::Value::Boolean(flag) => Ok((key, flag.to_string())),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(SettingsError::one(
            &key,
            "expected a string, a whole number or a boolean",
        )),
    });
    pairs.collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn read_environment(name: &str) -> Result<Option<String>, SettingsError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(SettingsError::one(name, "is not UTF-8")),
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Setting] = &[
        Setting::new("HTTP_PORT", "port").default("8080"),
        Setting::new("POSTGRES_DSN", "the database")
            .required()
            .secret(),
        Setting::new("HTTP_READ_TIMEOUT", "headers").default("10s"),
        Setting::new("HTTP_ENABLE_TLS", "switch").default("false"),
    ];

    fn with(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_pairs(pairs, TABLE)
    }

    #[test]
    fn values_win_over_defaults() {
        let settings = with(&[
            ("POSTGRES_DSN", "postgres://x"),
            ("HTTP_READ_TIMEOUT", "250ms"),
        ])
        .unwrap();
        assert_eq!(settings.parse::<u16>("HTTP_PORT").unwrap(), 8080);
        assert_eq!(
            settings.duration("HTTP_READ_TIMEOUT").unwrap(),
            Duration::from_millis(250)
        );
        assert!(!settings.flag("HTTP_ENABLE_TLS").unwrap());
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_by_name() {
        let error = with(&[("HTTP_PORTS", "1"), ("AUTH_CACHE_TTL", "5m")])
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(
            text.contains("HTTP_PORTS: is not known; did you mean HTTP_PORT?"),
            "{text}"
        );
        assert!(
            text.contains("AUTH_CACHE_TTL: does not exist here: nothing replaces it"),
            "{text}"
        );
        assert!(text.contains("POSTGRES_DSN: is required"), "{text}");
    }

    #[test]
    fn a_secret_is_not_shown_when_it_does_not_read() {
        let settings = with(&[("POSTGRES_DSN", "hunter2")]).unwrap();
        let text = settings
            .parse::<u16>("POSTGRES_DSN")
            .unwrap_err()
            .to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn durations_have_a_unit() {
        let settings = with(&[("POSTGRES_DSN", "x"), ("HTTP_READ_TIMEOUT", "10")]).unwrap();
        assert!(
            settings
                .duration("HTTP_READ_TIMEOUT")
                .unwrap_err()
                .to_string()
                .contains("found `10`")
        );
    }
}
