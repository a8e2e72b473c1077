//! Orders are paid or refused.

use crate::{Billing, add_person, add_person_with, count, order, published, published_ids};
use async_nats::{HeaderValue, jetstream::Message};
use off_events::{Event, Money, Order, OrderStatus, Refusal, UserId, UserRegistered, headers, streams};
use off_kit::{Clock, bus::OutboundMessage};
use off_testkit::{Leftover, eventually};
use serde_json::json;

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|headers| headers.get(name)).map(HeaderValue::as_str).unwrap_or_default()
}

fn refused(order: &Order, missing: i64) -> Order {
    let refusal = Some(Refusal::InsufficientFunds { missing: Money::from_cents(missing).unwrap() });
    Order { refusal, ..order.with_status(OrderStatus::Refused) }
}

/// Announces a pending order again, as recovery does.
async fn announce_again(billing: &Billing, order: &Order) {
    let message = OutboundMessage::of("orders", order, order.timestamp, None).unwrap();
    billing.world.nats.bus.publish(message.with_new_dedup_id(Clock::real(1.0).now())).await.unwrap();
}

#[tokio::test]
async fn a_registration_opens_an_account_once() {
    let billing = Billing::start().await;
    let user = add_person(&billing.world).await;
    let registered = UserRegistered { id: UserId(user), ssd_ids: Vec::new(), timestamp: Clock::real(1.0).now() };
    for _ in 0..2 {
        billing.world.nats.publish(registered.subject(), &json!(registered)).await;
    }
    eventually("there is an account", || async {
        (count(billing.db(), "SELECT count(*) FROM billing.accounts").await == 1).then_some(())
    })
    .await;
    assert_eq!(billing.account(user).await, (0, 0));
    billing.end().await;
}

#[tokio::test]
async fn an_order_that_the_account_can_pay_is_paid() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    assert_eq!(published(&billing.world, OrderStatus::Paid).await, [order.with_status(OrderStatus::Paid)]);
    assert!(published(&billing.world, OrderStatus::Refused).await.is_empty());
    assert_eq!(billing.account(user).await, (400, 600));
    let messages = billing.world.nats.messages(streams::ORDERS.name, Order::PAID).await;
    assert_eq!(header(&messages[0], headers::CE_ID), format!("{}:paid", order.id));
    assert_eq!(header(&messages[0], headers::CE_SOURCE), "/billing");
    billing.end().await;
}

#[tokio::test]
async fn the_first_order_opens_the_account_if_the_registration_has_not_arrived() {
    let billing = Billing::start().await;
    let user = add_person(&billing.world).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    assert_eq!(published(&billing.world, OrderStatus::Refused).await, [refused(&order, 600)]);
    assert_eq!(count(billing.db(), "SELECT balance FROM billing.accounts").await, 0);
    billing.end().await;
}

#[tokio::test]
async fn a_refused_dear_order_does_not_keep_a_later_cheap_one_from_being_paid() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let [first, dear, cheap, last] = [600, 900, 400, 1].map(|cents| order(user, cents));
    billing.handle(&[&first, &dear, &cheap, &last]).await;
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await, [first.id, cheap.id]);
    let refusals = published(&billing.world, OrderStatus::Refused).await;
    assert_eq!(refusals, [refused(&dear, 500), refused(&last, 1)]);
    assert_eq!(billing.account(user).await, (0, 1000));
    billing.end().await;
}

#[tokio::test]
async fn a_repeated_order_has_the_same_outcome_and_moves_no_money() {
    let billing = Billing::start().await;
    let (rich, poor) = (add_person_with(&billing.world, 1000).await, add_person_with(&billing.world, 10).await);
    let (paid, dear) = (order(rich, 300), order(poor, 300));
    billing.handle(&[&paid, &dear, &paid, &dear, &paid]).await;
    billing.handle(&[&dear, &paid]).await;
    assert_eq!(published(&billing.world, OrderStatus::Paid).await.len(), 1, "the broker deduplicates them");
    assert_eq!(published(&billing.world, OrderStatus::Refused).await.len(), 1, "the broker deduplicates them");
    // Even if there is enough money now.
    sqlx::raw_sql("UPDATE billing.accounts SET balance = balance + 5000").execute(billing.db()).await.unwrap();
    for order in [&paid, &dear] {
        announce_again(&billing, order).await;
    }
    for (order, outcome) in [(&paid, paid.with_status(OrderStatus::Paid)), (&dear, refused(&dear, 290))] {
        let subject = outcome.status.subject();
        let messages = billing.world.nats.wait_for_messages(streams::ORDERS.name, subject, 2).await;
        assert_eq!(published(&billing.world, outcome.status).await, [outcome.clone(), outcome]);
        let [first, again] = &messages[..] else { panic!("two messages: {messages:?}") };
        assert_eq!(header(first, headers::CE_TIME), header(again, headers::CE_TIME));
        assert_eq!(header(first, headers::CE_ID), header(again, headers::CE_ID));
        assert_ne!(header(first, headers::NATS_MSG_ID), header(again, headers::NATS_MSG_ID), "{order:?}");
        assert!(!header(again, headers::ANNOUNCED_AGAIN).is_empty());
    }
    sqlx::raw_sql("UPDATE billing.accounts SET balance = balance - 5000").execute(billing.db()).await.unwrap();
    assert_eq!((billing.account(rich).await, billing.account(poor).await), ((700, 300), (10, 0)));
    billing.end().await;
}

#[tokio::test]
async fn invalid_messages_become_dead_letters_and_block_nothing() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    billing.world.nats.publish_bytes(Order::PENDING, "not json").await;
    let (stranger, good) = (order(999, 100), order(user, 100));
    billing.handle(&[&stranger, &good]).await;
    billing.world.nats.publish(Order::PENDING, &json!(good.with_status(OrderStatus::Completed))).await;
    let letters = billing.world.nats.wait_for_dead_letters(3).await;
    let count = |reason: &str| letters.iter().filter(|letter| letter.reason.contains(reason)).count();
    assert_eq!(count("accounts_user_id_fkey"), 1, "{letters:#?}");
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await, [good.id]);
    billing.end_leaving(&[Leftover::DeadLetters]).await;
}
