//! Connections to a Postgres host that vanished without closing them.

use off_kit::db;
use off_testkit::{Database, eventually_within};
use std::time::Duration;

/// More than fits into the buffers between client and server, in bytes.
const LARGE: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_pool_replaces_a_connection_whose_peer_vanished() {
    let database = Database::in_own().await;
    let pool = db::lazy_pool(&db::Config::at(&database.url, 1), "vanishing").unwrap();
    let length = async |size| {
        let length = sqlx::query_scalar::<_, i32>("SELECT length($1)").bind("x".repeat(size)).fetch_one(&pool);
        db::with_timeout(length).await
    };
    assert_eq!(length(3).await.unwrap(), 3);
    let frozen = database.freeze_sessions("vanishing").await;
    assert_eq!(frozen.count(), 1);
    let error = length(LARGE).await.unwrap_err();
    assert!(db::is_transient(&error), "{error}");
    eventually_within(Duration::from_secs(20), "the pool has another connection", || async {
        length(3).await.is_ok_and(|length| length == 3).then_some(())
    })
    .await;
    drop(frozen);
}
