//! `off openapi` and `off asyncapi`: print the API documents, which are generated from the code.

use crate::serve::ServiceName;
use off_auth_service::AuthService;
use off_billing_service::BillingService;
use off_gateway::Gateway;
use off_generator::Generator;
use off_kit::{Service, print_line};
use off_notifications_service::NotificationsService;
use off_operator_service::OperatorService;
use off_orders_service::OrdersService;
use off_users_service::UsersService;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The service to document.
    service: ServiceName,
}

pub(crate) fn print_openapi(options: &Options) -> anyhow::Result<ExitCode> {
    let document = match options.service {
        ServiceName::Auth => AuthService::openapi(),
        ServiceName::Users => UsersService::openapi(),
        ServiceName::Orders => OrdersService::openapi(),
        ServiceName::Billing => BillingService::openapi(),
        ServiceName::Notifications => NotificationsService::openapi(),
        ServiceName::Operator => OperatorService::openapi(),
        ServiceName::Gateway => Gateway::openapi(),
        ServiceName::Generator => Generator::openapi(),
    };
    print_line!("{}", document.to_pretty_json()?);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn print_asyncapi() -> anyhow::Result<ExitCode> {
    print_line!("{}", serde_json::to_string_pretty(&off_events::asyncapi::document())?);
    Ok(ExitCode::SUCCESS)
}
