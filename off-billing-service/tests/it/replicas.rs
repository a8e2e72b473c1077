//! Several replicas of the service.

use crate::{
    add_person_with, assert_books_balance, count, order, publish, published_ids, start_service, wait_until_caught_up,
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
