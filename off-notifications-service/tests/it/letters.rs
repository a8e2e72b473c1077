//! Letters: written once, listed, read.

use crate::{Notifications, new_order};
use off_events::{
    LowBalance, Money, Order, OrderId, OrderStatus, UserId, UserRegistered,
    streams::{
        LETTERS_CANCELLED, LETTERS_COMPLETED, LETTERS_LOW_BALANCE, LETTERS_PAID, LETTERS_REFUSED, LETTERS_REGISTERED,
    },
};
use off_testkit::{Leftover, World};
use serde_json::{Value, json};
use std::time::Duration;

/// An order of `user` in `status`.
fn order(user: i64, status: OrderStatus) -> Order {
    let mut body = new_order();
    body["user_id"] = json!(user);
    body["status"] = json!(status);
    if status == OrderStatus::Refused {
        body["refusal"] = json!({"reason": "insufficient_funds", "missing": {"amount": 150, "currency": "EUR"}});
    }
    serde_json::from_value(body).unwrap()
}

/// Publishes events, and waits until the letters about them are written.
async fn handle(world: &World, orders: &[Order]) {
    for order in orders {
        world.nats.publish(order.status.subject(), &serde_json::to_value(order).unwrap()).await;
    }
    wait_until_written(world).await;
}

async fn wait_until_written(world: &World) {
    for consumer in
        [LETTERS_REGISTERED, LETTERS_LOW_BALANCE, LETTERS_PAID, LETTERS_REFUSED, LETTERS_CANCELLED, LETTERS_COMPLETED]
    {
        world.nats.wait_until_caught_up(&consumer).await;
    }
}

async fn add_person(world: &World) -> i64 {
    let device = world.add_device().await;
    world.owner_of(device).await
}

/// The letters of a person.
async fn list(notifications: &Notifications, user: i64, query: &str) -> Value {
    let answer = notifications.service.http.get(&format!("/api/letters?user_id={user}{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn kinds(page: &Value) -> Vec<&str> {
    page["letters"].as_array().unwrap().iter().map(|letter| letter["kind"].as_str().unwrap()).collect()
}

/// A stop of the supplier: its orders wait for longer than a test takes.
async fn start() -> Notifications {
    Notifications::start(Duration::from_hours(1)).await
}

#[tokio::test]
async fn each_outcome_of_an_order_is_a_letter_with_its_facts() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    let orders = [OrderStatus::Paid, OrderStatus::Refused, OrderStatus::Cancelled].map(|status| order(user, status));
    handle(&notifications.world, &orders).await;
    for (letter_kind, order, words) in [
        ("paid", &orders[0], &["Red lentils", "2.99 EUR", "paid"][..]),
        ("refused", &orders[1], &["Red lentils", "2.99 EUR", "1.50 EUR too little"]),
        ("cancelled", &orders[2], &["Red lentils", "2.99 EUR", "cancelled"]),
    ] {
        let page = list(&notifications, user, &format!("&kind={letter_kind}")).await;
        assert_eq!(kinds(&page), [letter_kind]);
        let letter = &page["letters"][0];
        assert_eq!(letter["order_id"], json!(order.id));
        let text = format!("{}\n{}", letter["subject"].as_str().unwrap(), letter["text"].as_str().unwrap());
        for word in words.iter().copied().chain(["Hello Test,", order.id.to_string().as_str()]) {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
    }
    notifications.end().await;
}

#[tokio::test]
async fn a_repeated_event_writes_no_second_letter() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    let refused = order(user, OrderStatus::Refused);
    handle(&notifications.world, &[refused.clone(), refused.clone(), refused.clone()]).await;
    let first = list(&notifications, user, "").await;
    handle(&notifications.world, &[refused]).await;
    assert_eq!(kinds(&first), ["refused"]);
    assert_eq!(list(&notifications, user, "").await, first);
    notifications.end().await;
}

#[tokio::test]
async fn a_delivered_order_has_the_letter_about_its_payment_even_if_that_event_was_lost() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    handle(&notifications.world, &[order(user, OrderStatus::Completed)]).await;
    assert_eq!(kinds(&list(&notifications, user, "").await), ["delivered", "paid"]);
    notifications.end().await;
}

#[tokio::test]
async fn a_letter_to_nobody_becomes_a_dead_letter_and_the_others_are_written() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    let orders = [order(user, OrderStatus::Refused), order(999_999_999, OrderStatus::Refused)];
    handle(&notifications.world, &orders).await;
    assert_eq!(kinds(&list(&notifications, user, "").await), ["refused"]);
    let dead = notifications.nats().wait_for_dead_letters(1).await;
    assert_eq!(dead.len(), 1);
    let letters: i64 = sqlx::query_scalar("SELECT count(*) FROM letters.letters")
        .fetch_one(&notifications.world.database.pool)
        .await
        .unwrap();
    assert_eq!(letters, 1);
    notifications.end_leaving(&[Leftover::DeadLetters]).await;
}

#[tokio::test]
async fn people_are_welcomed_and_told_that_their_balance_is_low() {
    let notifications = start().await;
    let nats = notifications.nats();
    let user = add_person(&notifications.world).await;
    let time = "2026-01-01T00:00:00Z".parse().unwrap();
    let registered = UserRegistered { id: UserId(user), ssd_ids: Vec::new(), timestamp: time };
    nats.publish(UserRegistered::SUBJECT, &serde_json::to_value(&registered).unwrap()).await;
    nats.wait_until_caught_up(&LETTERS_REGISTERED).await;
    let order_id = OrderId(uuid::Uuid::now_v7());
    let low = LowBalance { user_id: UserId(user), order_id, threshold: Money::from_euros(20), timestamp: time };
    nats.publish(LowBalance::SUBJECT, &serde_json::to_value(&low).unwrap()).await;
    wait_until_written(&notifications.world).await;
    let page = list(&notifications, user, "").await;
    assert_eq!(kinds(&page), ["low_balance", "welcome"]);
    assert!(page["letters"][0]["text"].as_str().unwrap().contains("less than 20.00 EUR"), "{page}");
    assert!(page["letters"][1].get("order_id").is_none(), "{page}");
    notifications.end().await;
}

#[tokio::test]
async fn letters_are_listed_in_pages_newest_first() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    let orders: Vec<Order> = (0..7)
        .map(|number| order(user, if number % 2 == 0 { OrderStatus::Refused } else { OrderStatus::Cancelled }))
        .collect();
    handle(&notifications.world, &orders).await;
    let whole = list(&notifications, user, "&limit=100").await;
    let ids = |page: &Value| -> Vec<i64> {
        page["letters"].as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect()
    };
    let all = ids(&whole);
    assert!(all.len() == 7 && all.is_sorted_by(|a, b| a > b) && whole.get("next_cursor").is_none(), "{whole}");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(&notifications, user, &format!("&limit=3{cursor}")).await;
        paged.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_i64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(ids(&list(&notifications, user, "&kind=cancelled").await).len(), 3);
    let of_order = format!("&order_id={}", orders[1].id);
    let about = list(&notifications, user, &of_order).await;
    let about = about["letters"].as_array().unwrap();
    assert!(!about.is_empty() && about.iter().all(|letter| letter["order_id"] == json!(orders[1].id)), "{about:?}");
    let other = add_person(&notifications.world).await;
    assert_eq!(list(&notifications, other, &of_order).await["letters"], json!([]));
    let http = &notifications.service.http;
    for query in ["limit=0", "limit=101", "kind=sad", "cursor=x", "order_id=x"] {
        assert_eq!(http.get(&format!("/api/letters?user_id={user}&{query}")).await.status, 400, "{query}");
    }
    notifications.end().await;
}

#[tokio::test]
async fn a_letter_is_unread_until_it_or_a_newer_one_is_marked() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    let other = add_person(&notifications.world).await;
    let orders: Vec<Order> = (0..3).map(|_| order(user, OrderStatus::Refused)).collect();
    handle(&notifications.world, &orders).await;
    handle(&notifications.world, &[order(other, OrderStatus::Refused)]).await;
    let page = list(&notifications, user, "").await;
    assert_eq!(page["unread"], 3);
    let id = |index: usize| page["letters"][index]["id"].as_i64().unwrap();
    let http = &notifications.service.http;
    let read = async |id: i64, user: i64| {
        http.post(&format!("/api/letters/{id}/read?user_id={user}"), &json!({})).await.status
    };
    // The letter in the middle, twice, and then an older one, which changes nothing.
    for index in [1, 1, 2] {
        assert_eq!(read(id(index), user).await, 204);
        let after = list(&notifications, user, "").await;
        let states: Vec<&Value> = (0..3).map(|index| &after["letters"][index]["is_read"]).collect();
        assert_eq!((states, &after["unread"]), (vec![&json!(false), &json!(true), &json!(true)], &json!(1)));
    }
    assert_eq!(read(id(0), other).await, 404, "the letter of somebody else");
    assert_eq!(read(i64::MAX, user).await, 404);
    assert_eq!(list(&notifications, other, "").await["unread"], 1);
    notifications.end().await;
}

#[tokio::test]
async fn a_letter_is_served_as_html_with_names_escaped() {
    let notifications = start().await;
    let user = add_person(&notifications.world).await;
    sqlx::query("UPDATE users.users SET first_name = '<i>Bo</i>' WHERE id = $1")
        .bind(user)
        .execute(&notifications.world.database.pool)
        .await
        .unwrap();
    handle(&notifications.world, &[order(user, OrderStatus::Refused)]).await;
    let id = &list(&notifications, user, "").await["letters"][0]["id"];
    let letter = notifications.service.http.get(&format!("/api/letters/{id}?user_id={user}")).await.body;
    let html = letter["html"].as_str().unwrap();
    assert!(html.contains("Hello &#60;i&#62;Bo&#60;/i&#62;,") && html.contains("<p>"), "{html}");
    assert_eq!(notifications.service.http.get(&format!("/api/letters/0?user_id={user}")).await.status, 404);
    notifications.end().await;
}
