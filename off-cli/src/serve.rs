//! `off serve`: one service in a process of its own, as its own program does it.

use clap::ValueEnum;
use off_generator::Generator;
use off_kit::Service;
use off_notifications_service::NotificationsService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use std::{ffi::OsString, fmt, process::ExitCode};

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// The service to run.
    service: Name,
    /// Its settings, which may also come from the environment; `--help` explains each.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SETTING")]
    settings: Vec<OsString>,
}

/// A service, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Name {
    Users,
    Orders,
    Notifications,
    Generator,
}

impl Name {
    pub(crate) const ALL: [Self; 4] = [Self::Users, Self::Orders, Self::Notifications, Self::Generator];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Users => UsersService::NAME,
            Self::Orders => OrdersService::NAME,
            Self::Notifications => NotificationsService::NAME,
            Self::Generator => Generator::NAME,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(crate) async fn run(options: Options) -> ExitCode {
    let name = format!("off serve {}", options.service);
    match options.service {
        Name::Users => off_kit::run_with::<UsersService>(&name, options.settings).await,
        Name::Orders => off_kit::run_with::<OrdersService>(&name, options.settings).await,
        Name::Notifications => off_kit::run_with::<NotificationsService>(&name, options.settings).await,
        Name::Generator => off_kit::run_with::<Generator>(&name, options.settings).await,
    }
}
