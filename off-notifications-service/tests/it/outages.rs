//! Outages of the service and of the broker.

use crate::{Notifications, pay_order, world_with_person};
use nix::sys::signal::Signal;
use off_events::{Order, OrderDue, streams};
use off_testkit::{Program, eventually, eventually_within};
use std::time::Duration;

#[tokio::test]
async fn waits_survive_the_death_of_the_service_and_the_broker() {
    let mut world = world_with_person().await;
    let settings = [
        ("DATABASE_URL", &*world.database.url),
        ("NATS_URL", &*world.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("SUPPLIER_DELAY_MIN", "2s"),
        ("SUPPLIER_DELAY_MAX", "2s"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-notifications-service"), &settings).await;
    let nats = &world.nats;
    for _ in 0..100 {
        pay_order(nats).await;
    }
    eventually("all orders wait for the supplier", || async {
        let waits = nats.messages(streams::ORDERS.name, "orders.timer.shipped.*").await;
        (waits.len() == 100).then_some(())
    })
    .await;
    program.kill().await;
    world.nats.kill_and_restart().await;
    // JetStream fires the schedules while the service is down.
    world.nats.wait_for_messages(streams::ORDERS.name, OrderDue::SUBJECT, 100).await;
    let notifications = Notifications::start_in(world, Duration::ZERO).await;
    notifications.wait_for_completed(100).await;
    assert!(notifications.nats().dead_letters().await.is_empty());
    // The killed broker lost acknowledgements, and delivers such a message again only after the ack wait of 30 s.
    notifications.world.abandon();
}

#[tokio::test]
async fn after_a_freeze_of_the_broker_all_orders_are_completed_without_delay() {
    let notifications = Notifications::start(Duration::from_secs(1)).await;
    for _ in 0..100 {
        notifications.pay_order().await;
    }
    notifications.nats().server.signal(Signal::SIGSTOP).unwrap();
    notifications.service.health.wait_until_not_ready().await;
    notifications.nats().server.signal(Signal::SIGCONT).unwrap();
    // Half the ack wait: messages that the broker sent to an expired pull request would be redelivered too late.
    eventually_within(Duration::from_secs(15), "100 messages on orders.completed", || async {
        let completed = notifications.nats().bus.read(streams::ORDERS.name, Order::COMPLETED, 1).await.ok()?;
        (completed.len() == 100).then_some(())
    })
    .await;
    notifications.end().await;
}
