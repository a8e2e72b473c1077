//! What becomes of the money of orders that end: earnings and refunds.

use crate::{Billing, add_person, add_person_with, count, order, published, published_ids};
use off_events::OrderStatus::{Cancelled, Completed, Paid, Refused};
use off_testkit::Leftover;

const EARNED: &str = "SELECT coalesce(sum(amount), 0)::bigint FROM billing.transfers WHERE kind = 'earning'";
const REFUNDED: &str = "SELECT coalesce(sum(amount), 0)::bigint FROM billing.transfers WHERE kind = 'refund'";
const SETTLED: &str = "SELECT count(*) FROM billing.settled_orders";

#[tokio::test]
async fn the_money_of_a_completed_order_is_earned_once() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    assert_eq!((count(billing.db(), EARNED).await, count(billing.db(), SETTLED).await), (0, 0));
    let completed = order.with_status(Completed);
    billing.handle(&[&completed, &completed]).await;
    billing.handle(&[&completed]).await;
    assert_eq!((count(billing.db(), EARNED).await, count(billing.db(), SETTLED).await), (600, 1));
    assert_eq!(billing.account(user).await, (400, 0));
    billing.end().await;
}

#[tokio::test]
async fn a_completed_order_that_was_not_paid_becomes_a_dead_letter() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let (paid, unpaid, other) = (order(user, 600), order(user, 1), order(user, 400));
    billing.handle(&[&paid, &other]).await;
    billing
        .handle(&[&paid.with_status(Completed), &unpaid.with_status(Completed), &other.with_status(Completed)])
        .await;
    let letters = billing.world.nats.wait_for_dead_letters(1).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].reason, format!("order {} is completed, but was not paid", unpaid.id));
    assert_eq!(count(billing.db(), EARNED).await, 1000);
    billing.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn a_paid_order_that_is_cancelled_is_refunded_once() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 1000).await;
    let (order, next) = (order(user, 600), order(user, 700));
    billing.handle(&[&order]).await;
    let cancelled = order.with_status(Cancelled);
    billing.handle(&[&cancelled, &cancelled]).await;
    billing.handle(&[&cancelled]).await;
    assert_eq!(billing.account(user).await, (1000, 0));
    // The money can be spent again, and the cancelled order stays paid and refunded.
    billing.handle(&[&next, &order]).await;
    assert_eq!(published_ids(&billing.world, Paid).await, [order.id, next.id]);
    assert_eq!(billing.account(user).await, (300, 700));
    assert_eq!((count(billing.db(), REFUNDED).await, count(billing.db(), SETTLED).await), (600, 1));
    billing.end().await;
}

#[tokio::test]
async fn an_order_that_is_cancelled_before_it_is_charged_is_never_charged() {
    let billing = Billing::start().await;
    let (user, stranger) = (add_person_with(&billing.world, 1000).await, add_person(&billing.world).await);
    let (early, poor) = (order(user, 600), order(stranger, 600));
    billing.handle(&[&early.with_status(Cancelled), &poor.with_status(Cancelled), &early.with_status(Cancelled)]).await;
    billing.handle(&[&early, &poor]).await;
    billing.handle(&[&early.with_status(Cancelled)]).await;
    for status in [Paid, Refused] {
        assert_eq!(published(&billing.world, status).await, []);
    }
    assert_eq!(billing.account(user).await, (1000, 0));
    assert_eq!((count(billing.db(), REFUNDED).await, count(billing.db(), SETTLED).await), (0, 2));
    billing.end().await;
}

#[tokio::test]
async fn the_cancellation_of_a_refused_order_moves_no_money() {
    let billing = Billing::start().await;
    let user = add_person_with(&billing.world, 100).await;
    let order = order(user, 600);
    billing.handle(&[&order]).await;
    billing.handle(&[&order.with_status(Cancelled)]).await;
    assert_eq!(published_ids(&billing.world, Refused).await, [order.id]);
    assert_eq!(billing.account(user).await, (100, 0));
    assert_eq!(count(billing.db(), "SELECT missing FROM billing.refusals").await, 500);
    billing.end().await;
}
