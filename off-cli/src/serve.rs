//! `off serve`: runs one service in its own process, like the service's own program.

use clap::ValueEnum;
use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::Service;
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use std::{ffi::OsString, fmt, process::ExitCode};

/// The service to run.
#[derive(Debug, clap::Subcommand)]
pub enum Options {
    /// The auth service.
    #[command(about = AuthService::ABOUT, disable_help_flag = true)]
    Auth(Settings),
    /// The users service.
    #[command(about = UsersService::ABOUT, disable_help_flag = true)]
    Users(Settings),
    /// The orders service.
    #[command(about = OrdersService::ABOUT, disable_help_flag = true)]
    Orders(Settings),
    /// The billing service.
    #[command(about = BillingService::ABOUT, disable_help_flag = true)]
    Billing(Settings),
    /// The notifications service.
    #[command(about = NotificationsService::ABOUT, disable_help_flag = true)]
    Notifications(Settings),
    /// The operator service.
    #[command(about = OperatorService::ABOUT, disable_help_flag = true)]
    Operator(Settings),
    /// The gateway.
    #[command(about = Gateway::ABOUT, disable_help_flag = true)]
    Gateway(Settings),
    /// The generator.
    #[command(about = Generator::ABOUT, disable_help_flag = true)]
    Generator(Settings),
}

/// The options of the service, which parses them itself.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Its settings, which can also come from the environment; `--help` explains each.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTING")]
    settings: Vec<OsString>,
}

/// The name of a service on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum ServiceName {
    /// The auth service.
    Auth,
    /// The users service.
    Users,
    /// The orders service.
    Orders,
    /// The billing service.
    Billing,
    /// The notifications service.
    Notifications,
    /// The operator service.
    Operator,
    /// The gateway.
    Gateway,
    /// The generator.
    Generator,
}

impl ServiceName {
    /// All services, in start order.
    pub const ALL: [Self; 8] = [
        Self::Auth,
        Self::Users,
        Self::Orders,
        Self::Billing,
        Self::Notifications,
        Self::Operator,
        Self::Gateway,
        Self::Generator,
    ];

    /// The name as it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => AuthService::NAME,
            Self::Users => UsersService::NAME,
            Self::Orders => OrdersService::NAME,
            Self::Billing => BillingService::NAME,
            Self::Notifications => NotificationsService::NAME,
            Self::Operator => OperatorService::NAME,
            Self::Gateway => Gateway::NAME,
            Self::Generator => Generator::NAME,
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Runs the service until it ends; returns the exit code.
pub async fn run(options: Options) -> ExitCode {
    match options {
        Options::Auth(settings) => serve::<AuthService>(settings).await,
        Options::Users(settings) => serve::<UsersService>(settings).await,
        Options::Orders(settings) => serve::<OrdersService>(settings).await,
        Options::Billing(settings) => serve::<BillingService>(settings).await,
        Options::Notifications(settings) => serve::<NotificationsService>(settings).await,
        Options::Operator(settings) => serve::<OperatorService>(settings).await,
        Options::Gateway(settings) => serve::<Gateway>(settings).await,
        Options::Generator(settings) => serve::<Generator>(settings).await,
    }
}

async fn serve<S: Service>(settings: Settings) -> ExitCode {
    off_kit::run_with::<S>(&format!("off serve {}", S::NAME), settings.settings).await
}
