//! Black-box tests of the service over NATS.

#![expect(clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

use futures::StreamExt;
use nix::sys::signal::Signal;
use off_events::{Order, streams};
use off_kit::{Clock, Service, bus, bus::OutboundMessage};
use off_notifications_service::{Config, NotificationsService};
use off_testkit::{Program, Running, TestNats, eventually, eventually_within};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Starts the service with `delay` as the wait of both the supplier and the delivery firm.
async fn start(nats: &TestNats, delay: Duration) -> Running {
    let config = Config {
        bus: bus::Config::at(&nats.url),
        supplier_delay_min: delay,
        supplier_delay_max: delay,
        delivery_delay_min: delay,
        delivery_delay_max: delay,
        seed: 0,
    };
    Running::start_ready::<NotificationsService>(config, Clock::real(1.0)).await
}

fn pending() -> Value {
    json!({"id": Uuid::now_v7(), "ssd_id": 1, "barcode": "2000000000015", "timestamp": "2026-01-01T00:00:00Z",
        "quantity": 1, "status": "pending"})
}

async fn publish(nats: &TestNats, subject: &'static str, body: &Value) {
    let sent = nats.bus.jetstream.publish(subject, body.to_string().into()).await.unwrap();
    sent.await.unwrap();
}

/// Waits until there are `count` messages on `subject`; returns their bodies.
async fn wait_for_messages(nats: &TestNats, subject: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} messages on {subject}"), || async {
        let messages = nats.bus.read("ORDERS", subject, 1).await.ok()?;
        let bodies: Vec<Value> =
            messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect();
        (bodies.len() >= count).then_some(bodies)
    })
    .await
}

#[tokio::test]
async fn an_order_is_shipped_and_then_completed() {
    let nats = TestNats::new().await;
    let service = start(&nats, Duration::from_millis(300)).await;
    let order = pending();
    publish(&nats, "orders.pending", &order).await;
    let arrived = wait_for_messages(&nats, "orders.completed", 1).await.remove(0);
    let shipped = wait_for_messages(&nats, "orders.shipped", 1).await.remove(0);
    for (body, status) in [(&shipped, "shipped"), (&arrived, "completed")] {
        let mut expected = order.clone();
        expected["status"] = json!(status);
        assert_eq!(*body, expected);
    }
    let messages = nats.bus.read("ORDERS", "orders.shipped", 1).await.unwrap();
    let headers = messages[0].headers.as_ref().unwrap();
    assert_eq!(headers.get("ce-id").unwrap().as_str(), format!("{}:shipped", order["id"].as_str().unwrap()));
    assert_eq!(headers.get("ce-source").unwrap().as_str(), "/notifications");
    service.stop().await;
}

#[tokio::test]
async fn a_core_nats_subscriber_receives_every_status_change() {
    let nats = TestNats::new().await;
    let mut messages = nats.bus.client.subscribe("orders.*").await.unwrap();
    nats.bus.client.flush().await.unwrap();
    let _service = start(&nats, Duration::from_millis(300)).await;
    publish(&nats, "orders.pending", &pending()).await;
    for subject in ["orders.pending", "orders.shipped", "orders.completed"] {
        let message = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.expect(subject).unwrap();
        assert_eq!(message.subject.as_str(), subject);
    }
}

#[tokio::test]
async fn an_order_without_a_wait_is_completed_at_once() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::ZERO).await;
    publish(&nats, "orders.pending", &pending()).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
}

#[tokio::test]
async fn an_order_that_is_announced_twice_is_shipped_once() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(500)).await;
    let order = pending();
    publish(&nats, "orders.pending", &order).await;
    publish(&nats, "orders.pending", &order).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
    assert_eq!(wait_for_messages(&nats, "orders.shipped", 1).await.len(), 1);
}

#[tokio::test]
async fn a_reannounced_order_is_not_dropped_as_a_duplicate() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(300)).await;
    let order = pending();
    publish(&nats, "orders.pending", &order).await;
    wait_for_messages(&nats, "orders.completed", 1).await;
    nats.bus.jetstream.get_stream("ORDERS").await.unwrap().purge().await.unwrap();
    // The first is overdue and is announced at once; the second is scheduled.
    for reached_at in [Clock::real(1.0).now() - Duration::from_secs(9), Clock::real(1.0).now()] {
        let event: Order = serde_json::from_value(order.clone()).unwrap();
        let again = OutboundMessage::of("orders", &event, reached_at, None).unwrap();
        nats.bus.publish(again.with_new_dedup_id(Some(Clock::real(1.0).now()))).await.unwrap();
        wait_for_messages(&nats, "orders.completed", 1).await;
        nats.bus.jetstream.get_stream("ORDERS").await.unwrap().purge().await.unwrap();
    }
}

#[tokio::test]
async fn a_wait_is_bounded_even_if_the_clock_of_the_sender_is_wrong() {
    let nats = TestNats::new().await;
    let _service = start(&nats, Duration::from_millis(300)).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-time", (Clock::real(1.0).now() + chrono::TimeDelta::days(400)).to_rfc3339().as_str());
    let sent = nats.bus.jetstream.publish_with_headers("orders.pending", headers, pending().to_string().into()).await;
    sent.unwrap().await.unwrap();
    wait_for_messages(&nats, "orders.completed", 1).await;
}

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
        publish(&nats, "orders.pending", &pending()).await;
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
    publish(&nats, "orders.pending", &pending()).await;
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
        publish(&nats, "orders.pending", &pending()).await;
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

#[tokio::test]
async fn a_wait_longer_than_the_retention_of_its_stream_is_rejected_at_startup() {
    let nats = TestNats::new().await;
    let month = Duration::from_hours(30 * 24);
    let config = Config {
        bus: bus::Config::at(&nats.url),
        supplier_delay_min: month,
        supplier_delay_max: month,
        delivery_delay_min: Duration::ZERO,
        delivery_delay_max: Duration::ZERO,
        seed: 0,
    };
    let address = off_kit::http::Config::on_loopback(0, 0);
    let kit = off_kit::Kit::new::<NotificationsService>(address, Clock::real(1.0));
    let refused = NotificationsService::start(config, kit).await.unwrap_err();
    assert!(format!("{refused:#}").contains("SUPPLIER_DELAY_MAX"), "{refused:#}");
    assert!(streams::LONGEST_WAIT < month);
}

#[tokio::test]
async fn the_program_starts_and_exits_successfully_on_sigterm() {
    let nats = TestNats::new().await;
    let settings = [("NATS_URL", &*nats.url), ("HTTP_SERVICE_PORT", "0"), ("SUPPLIER_DELAY_MIN", "0s")];
    let program = Program::start(env!("CARGO_BIN_EXE_off-notifications-service"), &settings).await;
    eventually("the service is ready", || async {
        program.health.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    assert!(program.terminate().await);
}

#[test]
fn the_document_is_what_was_agreed() {
    insta::assert_json_snapshot!(NotificationsService::openapi());
}
