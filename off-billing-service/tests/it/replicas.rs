//! Several replicas of the service.

use crate::{
    Billing, add_person, add_person_with, assert_books_balance, assert_no_deadlocks, count, order, publish,
    published_ids, start_service, wait_until_blocked, wait_until_caught_up,
};
use futures::future::join_all;
use off_events::{Order, OrderId, OrderStatus};
use off_testkit::World;
use std::collections::HashSet;

#[tokio::test]
async fn replicas_decide_about_each_order_once() {
    let world = World::new().await;
    let replicas = vec![start_service(&world).await, start_service(&world).await, start_service(&world).await];
    let mut orders: Vec<Order> = Vec::new();
    for _ in 0..10 {
        // Enough for half of its orders.
        let user = add_person_with(&world, 15 * 100).await;
        orders.extend((0..30).map(|_| order(user, 100)));
    }
    // Each order three times, so that replicas handle the same ones at the same time.
    join_all(orders.iter().cycle().take(3 * orders.len()).map(|order| publish(&world, order))).await;
    wait_until_caught_up(&world).await;
    let paid = published_ids(&world, OrderStatus::Paid).await;
    let refused = published_ids(&world, OrderStatus::Refused).await;
    assert_eq!((paid.len(), refused.len()), (150, 150));
    let decided: HashSet<OrderId> = paid.into_iter().chain(refused).collect();
    assert_eq!(decided.len(), orders.len(), "no order is both paid and refused");
    assert_eq!(count(&world.database.pool, "SELECT sum(balance)::bigint FROM billing.accounts").await, 0);
    assert_books_balance(&world.database.pool).await;
    world.end_after(replicas, &[]).await;
}

#[tokio::test]
async fn replicas_record_each_earning_once_and_reject_none() {
    let world = World::new().await;
    let replicas = vec![start_service(&world).await, start_service(&world).await, start_service(&world).await];
    let user = add_person_with(&world, 200 * 100).await;
    let orders: Vec<Order> = (0..200).map(|_| order(user, 100)).collect();
    join_all(orders.iter().map(|order| publish(&world, order))).await;
    wait_until_caught_up(&world).await;
    let completed: Vec<Order> = orders.iter().map(|order| order.with_status(OrderStatus::Completed)).collect();
    join_all(completed.iter().flat_map(|order| [order; 4]).map(|order| publish(&world, order))).await;
    wait_until_caught_up(&world).await;
    let earned = count(&world.database.pool, "SELECT count(*) FROM billing.transfers WHERE kind = 'earning'").await;
    assert_eq!(earned, 200);
    assert_books_balance(&world.database.pool).await;
    world.end_after(replicas, &[]).await;
}

#[tokio::test]
async fn an_earning_that_another_replica_records_at_the_same_time_is_not_rejected() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    let mut other = billing.db().begin().await.unwrap();
    sqlx::query("INSERT INTO billing.transfers VALUES ($1, 'earning', DEFAULT, -1, -2, 600, now())")
        .bind(order.id.0)
        .execute(&mut *other)
        .await
        .unwrap();
    publish(&billing.world, &order.with_status(OrderStatus::Completed)).await;
    wait_until_blocked(billing.db()).await;
    other.commit().await.unwrap();
    billing.wait_until_caught_up().await;
    billing.end().await;
}

#[tokio::test]
async fn replicas_that_open_the_same_account_do_not_deadlock() {
    let world = World::new().await;
    let (new, known) = (add_person(&world).await, add_person_with(&world, 1000).await);
    let db = world.database.pool.clone();
    // The other replica opens an account, and then locks both.
    let mut other = db.begin().await.unwrap();
    sqlx::query("INSERT INTO billing.accounts VALUES ($1, 0)").bind(new).execute(&mut *other).await.unwrap();
    let orders = [order(new, 600), order(known, 600)];
    for order in &orders {
        publish(&world, order).await;
    }
    let service = start_service(&world).await;
    wait_until_blocked(&db).await;
    sqlx::raw_sql("SELECT FROM billing.accounts ORDER BY user_id FOR NO KEY UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    other.commit().await.unwrap();
    wait_until_caught_up(&world).await;
    assert_eq!(published_ids(&world, OrderStatus::Paid).await, [orders[1].id]);
    assert_eq!(published_ids(&world, OrderStatus::Refused).await, [orders[0].id]);
    service.stop().await;
    assert_no_deadlocks(&db).await;
    world.end().await;
}
