//! The imports of the catalog.

use crate::{
    App,
    store::{self, Import, ImportReport, Reject},
};
use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use off_kit::http::{ApiPath, ApiQuery, PageSize, Problem, cut_page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Imports, or rejected records, per page.
const PAGE_SIZE: PageSize = PageSize { default: 20, max: 100 };

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The `next_cursor` of the previous page.
    cursor: Option<i64>,
    /// Entries per page, 1 to 100; default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// An import.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportInList {
    id: i64,
    /// The name of what was read.
    name: String,
    started_at: DateTime<Utc>,
    /// When its last batch was stored.
    changed_at: DateTime<Utc>,
    /// Absent if it was interrupted, or still runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<DateTime<Utc>>,
    /// Records that were read.
    read: u64,
    /// Records that were filtered out.
    filtered_out: u64,
    /// Products that the catalog did not have.
    new: u64,
    updated: u64,
    unchanged: u64,
    /// Records that cannot become a product, by reason.
    rejected: Vec<RejectTally>,
}

/// Records that were rejected for one reason.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RejectTally {
    #[schema(example = "no-name")]
    reason: String,
    count: u64,
    /// The line of the first one.
    first_line: u64,
}

/// A page of imports, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportPage {
    imports: Vec<ImportInList>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
}

/// A page of rejected records, by line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RejectPage {
    rejects: Vec<Reject>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
}

impl From<Import> for ImportInList {
    fn from(import: Import) -> Self {
        let Import { id, name, started_at, changed_at, finished_at, report } = import;
        let ImportReport { read, passed_over, loaded, updated, unchanged, rejected } = report.0;
        let tally = |(reason, tally): (String, store::Tally)| RejectTally {
            reason,
            count: tally.count,
            first_line: tally.first,
        };
        Self {
            id,
            name,
            started_at,
            changed_at,
            finished_at,
            read,
            filtered_out: passed_over,
            new: loaded,
            updated,
            unchanged,
            rejected: rejected.into_iter().map(tally).collect(),
        }
    }
}

/// List the imports of the catalog, newest first, in pages.
#[utoipa::path(get, path = "/api/operator/imports", tag = "imports", params(PageQuery),
    security(("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of imports", body = ImportPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_imports(
    State(app): State<App>,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<ImportPage>, Problem> {
    let limit = PAGE_SIZE.limit(page.limit)?;
    let imports = store::list_imports(&app.db, page.cursor, i64::from(limit) + 1).await;
    let mut imports = imports.map_err(Problem::of_database)?;
    let next_cursor = cut_page(&mut imports, limit, |import| import.id);
    Ok(Json(ImportPage { imports: imports.into_iter().map(Into::into).collect(), next_cursor }))
}

/// List the records that an import rejected, in pages; empty unless the importer ran with `--keep-rejects`.
#[utoipa::path(get, path = "/api/operator/imports/{id}/rejects", tag = "imports",
    params(("id" = i64, Path, description = "the import"), PageQuery),
    security(("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of rejected records", body = RejectPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such import", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_rejects(
    State(app): State<App>,
    ApiPath(id): ApiPath<i64>,
    ApiQuery(page): ApiQuery<PageQuery>,
) -> Result<Json<RejectPage>, Problem> {
    let limit = PAGE_SIZE.limit(page.limit)?;
    let rejects = store::list_rejects(&app.db, id, page.cursor.unwrap_or(-1), i64::from(limit) + 1).await;
    let rejects = rejects.map_err(Problem::of_database)?;
    let mut rejects = rejects.ok_or_else(|| Problem::not_found("there is no such import"))?;
    let next_cursor = cut_page(&mut rejects, limit, |reject| reject.line);
    Ok(Json(RejectPage { rejects, next_cursor }))
}
