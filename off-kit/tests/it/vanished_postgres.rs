//! Connections to a Postgres host that vanished without closing them.

use super::Faulty;
use off_kit::{Clock, Kit, db, http};
use off_testkit::{Database, eventually_within};
use std::time::Duration;

/// More than fits into the buffers between client and server, in bytes.
const LARGE: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_pool_replaces_a_connection_whose_peer_vanished() {
    let database = Database::with_own_server().await;
    let clock = Clock::real(1.0).with_short_timeouts(10);
    let kit = Kit::new::<Faulty>(http::Config::on_loopback(0, 0), clock);
    let pool = db::pool_for(&kit, &db::Config::at(&database.url, 1), off_migrations::newest()).unwrap();
    let length = async |size| {
        let length = sqlx::query_scalar::<_, i32>("SELECT length($1)").bind("x".repeat(size)).fetch_one(&pool);
        db::with_timeout(clock, length).await
    };
    assert_eq!(length(3).await.unwrap(), 3);
    let frozen = database.freeze_sessions("off-faulty").await;
    assert!(frozen.count() > 0);
    let error = length(LARGE).await.unwrap_err();
    assert!(db::is_transient(&error), "{error}");
    eventually_within(Duration::from_secs(20), "the pool has another connection", || async {
        length(3).await.is_ok_and(|length| length == 3).then_some(())
    })
    .await;
    drop(frozen);
    kit.tasks.stop();
    kit.tasks.stopped().await.unwrap();
}
