//! Orders are completed in spite of faults.

use crate::{place_order, publish, start, wait_for_messages};
use nix::sys::signal::Signal;
use off_kit::bus;
use off_testkit::{Program, TestNats, eventually, eventually_within};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn waits_survive_the_death_of_the_service_and_the_broker() {
    let mut nats = TestNats::new().await;
    let settings = [
        ("NATS_URL", &*nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("SUPPLIER_DELAY_MIN", "2s"),
        ("SUPPLIER_DELAY_MAX", "2s"),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-notifications-service"), &settings).await;
    for _ in 0..100 {
        place_order(&nats).await;
    }
    eventually("all orders wait for the supplier", || async {
        let waits = nats.bus.read("ORDERS", "orders.timer.shipped.*", 1).await.ok()?;
        (waits.len() == 100).then_some(())
    })
    .await;
    program.kill().await;
    nats.kill_and_restart().await;
    // JetStream fires the schedules while the service is down.
    wait_for_messages(&nats, "orders.due", 100).await;
    let _service = start(&nats, Duration::ZERO).await;
    wait_for_messages(&nats, "orders.completed", 100).await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::ZERO).await;
    publish(&nats, "orders.pending", &json!("lentils")).await;
    publish(&nats, "orders.shipped", &json!({"status": "shipped"})).await;
    place_order(&nats).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
    eventually("two dead letters", || async {
        (bus::dead_letters::list(&nats.bus).await.ok()?.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_freeze_of_the_broker_all_orders_are_completed_without_delay() {
    let nats = TestNats::new().await;
    let service = start(&nats, Duration::from_secs(1)).await;
    for _ in 0..100 {
        place_order(&nats).await;
    }
    nats.server.signal(Signal::SIGSTOP).unwrap();
    eventually("the service is not ready", || async {
        (service.health.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    nats.server.signal(Signal::SIGCONT).unwrap();
    // Half the ack wait: messages that the broker sent to an expired pull request would be redelivered too late.
    eventually_within(Duration::from_secs(15), "100 messages on orders.completed", || async {
        let completed = nats.bus.read("ORDERS", "orders.completed", 1).await.ok()?;
        (completed.len() == 100).then_some(())
    })
    .await;
}
