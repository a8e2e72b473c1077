//! Outages of the broker, of Postgres and of the service.

use crate::{Billing, add_person_with, count, order, publish, published_ids, wait_until_blocked};
use off_events::{OrderStatus, streams};
use off_testkit::{Program, World, eventually};
use sqlx::{PgPool, Postgres, Transaction};

const CHARGES: &str = "SELECT count(*) FROM billing.transfers WHERE kind = 'charge'";

/// Keeps the service from charging until the transaction ends.
async fn lock_accounts(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE billing.transfers IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    lock
}

#[tokio::test]
async fn an_outcome_that_the_broker_did_not_acknowledge_is_published_later() {
    let mut billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    let lock = lock_accounts(billing.db()).await;
    publish(&billing.world, &order).await;
    wait_until_blocked(billing.db()).await;
    billing.world.nats.server.kill().await.unwrap();
    lock.rollback().await.unwrap();
    eventually("it is charged", || async { (count(billing.db(), CHARGES).await == 1).then_some(()) }).await;
    billing.world.nats.server.start_again().await.unwrap();
    billing.world.nats.wait_for_messages(streams::ORDERS.name, OrderStatus::Paid.subject(), 1).await;
    billing.wait_until_caught_up().await;
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await, [order.id]);
    assert_eq!(billing.account(user).await, (400, 600));
    billing.end().await;
}

#[tokio::test]
async fn after_a_crash_between_commit_and_publish_the_next_run_publishes_the_outcome() {
    let mut world = World::new().await;
    let db = world.database.pool.clone();
    let settings = [("DATABASE_URL", &*world.database.url), ("NATS_URL", &*world.nats.url), ("HTTP_SERVICE_PORT", "0")];
    let program = Program::start(env!("CARGO_BIN_EXE_off-billing-service"), &settings).await;
    program.health.wait_until_ready().await;
    let user = add_person_with(&world, 1000).await;
    let order = order(user, 600);
    let lock = lock_accounts(&db).await;
    publish(&world, &order).await;
    wait_until_blocked(&db).await;
    world.nats.server.kill().await.unwrap();
    lock.rollback().await.unwrap();
    eventually("it is charged", || async { (count(&db, CHARGES).await == 1).then_some(()) }).await;
    program.kill().await;
    world.nats.server.start_again().await.unwrap();
    let billing = Billing::start_in(world).await;
    // The broker delivers the order again after the ack wait.
    billing.world.nats.wait_for_messages(streams::ORDERS.name, OrderStatus::Paid.subject(), 1).await;
    billing.wait_until_caught_up().await;
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await, [order.id]);
    assert_eq!(billing.account(user).await, (400, 600));
    billing.end().await;
}

#[tokio::test]
async fn while_postgres_is_down_orders_wait() {
    let mut billing = Billing::start_in(World::with_own_postgres().await).await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    billing.world.database.server.as_mut().unwrap().stop().await.unwrap();
    publish(&billing.world, &order).await;
    billing.service.health.wait_until_not_ready().await;
    let refused = billing.http().get(&format!("/api/account?user_id={user}")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "unavailable"));
    billing.world.database.server.as_mut().unwrap().start_again().await.unwrap();
    billing.wait_until_caught_up().await;
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await, [order.id]);
    billing.service.health.wait_until_ready().await;
    billing.end().await;
}
