//! Accounts and their transfers.

use super::{
    Owner, require_person,
    responses::{Account, TransferPage},
};
use crate::{App, store};
use axum::{Json, extract::State};
use off_kit::{
    auth::{RowAccess, no_such_person},
    http::{ApiQuery, PageSize, Problem},
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

/// Transfers per page.
const PAGE_SIZE: PageSize = PageSize { default: 50, max: 500 };

/// Get an account.
#[utoipa::path(get, path = "/api/account", tag = "account", params(Owner),
    security(("token" = ["person"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    responses(
        (status = 200, description = "the account", body = Account),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_account(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<Owner>,
) -> Result<Json<Account>, Problem> {
    let (user_id, simulated) = access.person(query.user_id)?;
    let account = store::find_account(&app.db, user_id, simulated).await.map_err(Problem::of_database)?;
    let store::Account { balance, held } = account.ok_or_else(|| no_such_person(user_id.0))?;
    Ok(Json(Account { user_id, balance, held }))
}

/// Which transfers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListTransfers {
    /// The person. People may leave it out: it is themselves.
    user_id: Option<i64>,
    /// Only transfers of this order. They are few, so there is one page, whatever the other parameters say.
    #[param(value_type = Option<String>)]
    order_id: Option<Uuid>,
    /// The `next_cursor` of the previous page.
    cursor: Option<i64>,
    /// Transfers per page, 1 to 500; default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// List the transfers of an account, newest first, in pages.
#[utoipa::path(get, path = "/api/account/transfers", tag = "account", params(ListTransfers),
    security(("token" = ["person"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of transfers", body = TransferPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such account", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_transfers(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<ListTransfers>,
) -> Result<Json<TransferPage>, Problem> {
    let limit = PAGE_SIZE.limit(query.limit)?;
    let (user, simulated) = access.person(query.user_id)?;
    require_person(&app, user, simulated).await?;
    let transfers = match query.order_id {
        Some(order) => store::list_transfers_of_order(&app.db, user, order).await,
        // One more than requested, to find out whether there is another page.
        None => store::list_transfers(&app.db, user, query.cursor, i64::from(limit) + 1).await,
    };
    Ok(Json(TransferPage::new(transfers.map_err(Problem::of_database)?, limit)))
}
