//! `off settings`: every setting of every program, as Markdown; `docs/settings.md` is its output.

use clap::{Arg, Args, Command};
use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::{Service, print_line, service::Settings};
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use std::{collections::HashSet, process::ExitCode};

/// Settings that a user may give as an environment variable.
type Variables = Vec<Arg>;

pub(crate) fn run() -> ExitCode {
    print_line!("{}", document());
    ExitCode::SUCCESS
}

fn document() -> String {
    let shared: Variables =
        [variables::<Settings>(), variables::<off_kit::db::Config>(), variables::<off_kit::bus::Config>()]
            .into_iter()
            .flatten()
            .collect();
    let known: HashSet<String> = shared.iter().map(variable).collect();
    let own = |all: Variables| -> Variables { all.into_iter().filter(|arg| !known.contains(&variable(arg))).collect() };
    let sections = [
        section("Every service", "The gateway and the generator use NATS alone, the others Postgres, too.", &shared),
        section("Gateway", "", &own(variables::<<Gateway as Service>::Config>())),
        section("Auth service", "", &own(variables::<<AuthService as Service>::Config>())),
        section("Users service", "", &own(variables::<<UsersService as Service>::Config>())),
        section("Orders service", "", &own(variables::<<OrdersService as Service>::Config>())),
        section("Billing service", "", &own(variables::<<BillingService as Service>::Config>())),
        section("Notifications service", "", &own(variables::<<NotificationsService as Service>::Config>())),
        section("Operator service", "", &own(variables::<<OperatorService as Service>::Config>())),
        section("Generator", "", &own(variables::<<Generator as Service>::Config>())),
        section("Importer, `off-etl`", "", &variables::<off_etl::Config>()),
        section(
            "`off up`",
            "It passes its environment to the services that it starts.",
            &variables::<crate::up::Options>(),
        ),
    ];
    let sections: Vec<String> = sections.into_iter().flatten().collect();
    format!(
        "# Settings\n\nPrinted by `off settings`. Each setting is an environment variable and, where listed, an option. \
         [configuration.md](configuration.md) explains the most important ones.\n\n{}",
        sections.join("\n\n")
    )
}

fn variables<C: Args>() -> Variables {
    let command = C::augment_args(Command::new("off"));
    command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect()
}

fn variable(arg: &Arg) -> String {
    arg.get_env().unwrap_or_default().to_string_lossy().into_owned()
}

/// A heading with a table; nothing where there are no settings.
fn section(title: &str, remark: &str, variables: &[Arg]) -> Option<String> {
    if variables.is_empty() {
        return None;
    }
    let rows: Vec<String> = variables.iter().map(row).collect();
    let remark = if remark.is_empty() { String::new() } else { format!("{remark}\n\n") };
    Some(format!(
        "## {title}\n\n{remark}| variable | option | default | meaning |\n|---|---|---|---|\n{}",
        rows.join("\n")
    ))
}

fn row(arg: &Arg) -> String {
    let option = arg.get_long().map_or_else(|| "argument".to_owned(), |name| format!("`--{name}`"));
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = match arg.get_id().as_str() {
        "http_service_port" => format!("{}–{}", Gateway::PORT, OperatorService::PORT),
        "health_port" => format!("{}–{}", Gateway::HEALTH_PORT, OperatorService::HEALTH_PORT),
        "log_format" if defaults.is_empty() => "automatic".to_owned(),
        _ if defaults.is_empty() => "none".to_owned(),
        _ => defaults.join(", "),
    };
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let meaning = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    format!("| `{}` | {option} | {default} | {meaning} |", variable(arg))
}
