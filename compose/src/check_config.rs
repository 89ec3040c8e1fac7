//! `odock check-config`: says everything that is wrong with a service's settings at once, and documents them.
//! docs/CONFIGURATION.md is its `--document`.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};
use odock_events::settings::{Problem, RETIRED, Setting, Settings, SettingsError, document};

use crate::terminal::say;

/// Check the settings of a service without starting it, or list them.
#[derive(Args)]
pub(crate) struct CheckConfigOptions {
    /// Which service.
    #[arg(value_enum, required_unless_present = "document")]
    service: Option<Service>,
    /// A flat TOML file whose keys are the variables' own names.
    #[arg(long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every variable with its default and meaning, as Markdown.
    #[arg(long)]
    document: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Service {
    Gateway,
    Projector,
    Admin,
}

pub(crate) fn run(options: &CheckConfigOptions) -> anyhow::Result<()> {
    if options.document {
        say(document_all().trim_end());
        return Ok(());
    }
    let config = options.config.as_deref();
    let (name, checked) = match options.service {
        None | Some(Service::Gateway) => (
            "gateway",
            Settings::load(config, odock_gateway::SETTINGS)
                .and_then(|settings| check(settings, odock_gateway::Config::from_settings)),
        ),
        Some(Service::Projector) => (
            "projector",
            Settings::load(config, odock_projector::SETTINGS)
                .and_then(|settings| check(settings, odock_projector::Config::from_settings)),
        ),
        Some(Service::Admin) => (
            "admin",
            Settings::load(config, odock_admin::SETTINGS)
                .and_then(|settings| check(settings, odock_admin::Config::from_settings)),
        ),
    };
    checked?;
    say(format_args!("the settings of the {name} hold"));
    Ok(())
}

/// Reads again without each value that does not hold, until nothing more comes up.
fn check<C>(
    mut settings: Settings,
    read: impl Fn(&Settings) -> Result<C, SettingsError>,
) -> Result<(), SettingsError> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut named = BTreeSet::new();
    while let Err(error) = read(&settings) {
        let before = problems.len();
        for problem in error.problems {
            if named.insert(problem.name.clone()) {
                settings = settings.without(&problem.name).unwrap_or(settings);
                problems.push(problem);
            }
        }
        if problems.len() == before {
            break;
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SettingsError { problems })
    }
}

fn document_all() -> String {
    let section = |title: &str, about: &str, table: &[Setting]| {
        format!("## {title}\n{about}\n\n{}\n", document(table))
    };
    let retired = RETIRED
        .iter()
        .map(|retired| format!("| `{}` | {} |", retired.name, retired.instead));
    let retired = retired.collect::<Vec<_>>().join("\n");
    [
        "# Configuration\n\n".to_owned(),
        INTRODUCTION.to_owned(),
        section(
            "Gateway",
            "`odock gateway`: the data plane.",
            odock_gateway::SETTINGS,
        ),
        section(
            "Projector",
            "`odock projector`: turns the streams into tables.",
            odock_projector::SETTINGS,
        ),
        section(
            "Admin",
            "`odock admin`: the management API.",
            odock_admin::SETTINGS,
        ),
        format!("## Names that are refused\n\n| variable | instead |\n|---|---|\n{retired}\n"),
    ]
    .concat()
}

const INTRODUCTION: &str = "\
Each service reads environment variables over a flat TOML file (`--config`, `ODOCK_CONFIG`) whose keys are the variables'
own names. A key in the file that is not known is refused. Durations: `250ms`, `10s`, `5m`, `24h`. Every service also
takes `LOG_LEVEL` (`info`; or a list of directives, and `RUST_LOG` wins) and writes JSON lines to standard error.
`odock check-config <service>` says everything that is wrong at once; this page is `odock check-config --document`.
`odock up` has flags instead: `odock up --help`.

";

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Setting] = &[
        Setting::new("ONE", "a number").default("1"),
        Setting::new("TWO", "a number").default("2"),
        Setting::new("THREE", "a number").default("3"),
    ];

    fn read(settings: &Settings) -> Result<[u8; 3], SettingsError> {
        Ok([
            settings.parse("ONE")?,
            settings.parse("TWO")?,
            settings.parse("THREE")?,
        ])
    }

    #[test]
    fn every_value_that_does_not_hold_is_named_at_once() {
        let pairs =
            [("ONE", "x"), ("TWO", "7"), ("THREE", "300")].map(|(n, v)| (n.into(), v.into()));
        let settings = Settings::from_pairs(pairs, TABLE).unwrap();
        let error = check(settings, read).unwrap_err();
        let names: Vec<&str> = error.problems.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["ONE", "THREE"]);
    }

    #[test]
    fn the_page_of_variables_is_what_the_code_says() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
        let page = std::fs::read_to_string(page).unwrap();
        let hint = "make docs writes it";
        assert_eq!(page.trim_end(), document_all().trim_end(), "{hint}");
    }
}
