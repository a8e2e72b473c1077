//! The broker's disk is lost while thousands of orders are on their way.

use crate::services::Services;
use futures::StreamExt;
use off_events::{OrderStatus, streams};
use off_testkit::{World, eventually_within};
use std::time::Duration;

const ORDERS: usize = 10_000;

/// Timeout of each phase: lost messages are detected within seconds, and then announced again.
const PHASE_TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waiting_orders_survive_the_loss_of_the_brokers_disk() {
    let mut services = Services::start(World::new().await, Duration::from_hours(1)).await;
    services.place(ORDERS).await;
    eventually_within(PHASE_TIMEOUT, "every order waits at its supplier", || async {
        let stream = services.world.nats.bus.jetstream.get_stream_no_info(streams::ORDERS.name).await.ok()?;
        let waits = stream.info_with_subjects(OrderStatus::Shipped.schedule_subjects()).await.ok()?.count().await;
        let paid = services.count("SELECT count(*) FROM orders.product_orders WHERE status = 'paid'").await;
        (waits == ORDERS && paid == 10_000).then_some(())
    })
    .await;

    services.world.nats.lose_everything().await;
    // Recovery announces the orders again, and now their supplier ships them at once.
    services.change_supplier_delay(Duration::ZERO).await;
    eventually_within(PHASE_TIMEOUT, "every order has arrived", || async {
        let open_orders = "SELECT count(*) FROM orders.product_orders WHERE status <> 'completed'";
        (services.count(open_orders).await == 0).then_some(())
    })
    .await;
    services.assert_shelf_holds(ORDERS, PHASE_TIMEOUT).await;
    assert_eq!(services.count("SELECT count(*) FROM users.deliveries").await, 10_000);
    assert_eq!(services.count("SELECT count(*) FROM billing.transfers WHERE kind = 'charge'").await, 10_000);
    eventually_within(PHASE_TIMEOUT, "the money of every order is earned", || async {
        let held = "SELECT count(*) FROM billing.transfers WHERE kind = 'charge' AND subject NOT IN
                        (SELECT subject FROM billing.transfers WHERE kind = 'earning')";
        (services.count(held).await == 0).then_some(())
    })
    .await;
    services.end().await;
}
