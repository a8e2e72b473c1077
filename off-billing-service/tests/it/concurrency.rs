//! Many changes of few accounts at the same time.

use crate::{
    add_person, assert_books_balance, assert_no_deadlocks, euros, order, publish, published_ids, start_service,
    wait_until_caught_up,
};
use futures::future::join_all;
use off_events::{Order, OrderId, OrderStatus};
use off_testkit::{Http, World};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::json;
use std::collections::{HashMap, HashSet};

const PEOPLE: usize = 5;
const TASKS: usize = 8;

/// A change of the account of a person, by its index, with an amount in cents.
#[derive(Debug, Clone, Copy)]
enum Change {
    Deposit(usize, i64),
    Withdrawal(usize, i64),
    Order(usize, i64),
    /// An order that is cancelled at once, before or after it is charged.
    CancelledOrder(usize, i64),
}

fn changes() -> Vec<Change> {
    let (person, amount) = (0..PEOPLE, 1_i64..2000);
    let change = prop_oneof![
        (person.clone(), amount.clone()).prop_map(|(person, cents)| Change::Deposit(person, cents)),
        (person.clone(), amount.clone()).prop_map(|(person, cents)| Change::Withdrawal(person, cents)),
        (person.clone(), amount.clone()).prop_map(|(person, cents)| Change::Order(person, cents)),
        (person, amount).prop_map(|(person, cents)| Change::CancelledOrder(person, cents)),
    ];
    vec(change, 800).new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

/// What the changes that were made add up to, if they are made one after another.
#[derive(Debug, Default)]
struct Model {
    /// Deposits minus withdrawals, by person.
    paid_in: HashMap<i64, i64>,
    orders: Vec<Order>,
    cancelled: HashSet<OrderId>,
}

impl Model {
    fn add(&mut self, other: Self) {
        for (user, cents) in other.paid_in {
            *self.paid_in.entry(user).or_default() += cents;
        }
        self.orders.extend(other.orders);
        self.cancelled.extend(other.cancelled);
    }

    /// The balance of a person if exactly the orders `paid` were charged.
    fn balance(&self, user: i64, paid: &HashSet<OrderId>) -> i64 {
        let is_spent =
            |order: &&Order| order.user_id.0 == user && paid.contains(&order.id) && !self.cancelled.contains(&order.id);
        let spent: i64 = self.orders.iter().filter(is_spent).map(|order| order.total.cents()).sum();
        self.paid_in.get(&user).copied().unwrap_or_default() - spent
    }
}

/// Makes the changes one after another; returns those that were possible.
async fn make(world: &World, http: &Http, people: &[i64], task: usize, changes: Vec<Change>) -> Model {
    let mut made = Model::default();
    for (index, change) in changes.into_iter().enumerate() {
        let pay = async |kind: &str, user: i64, cents: i64| {
            let path = format!("/api/account/{kind}?user_id={user}");
            let body = json!({"amount": euros(cents)});
            let answer = http.post_with_key(&path, &format!("{task}:{index}"), &body).await;
            assert!([201, 402].contains(&answer.status.as_u16()), "{answer:?}");
            if answer.status == 201 { cents } else { 0 }
        };
        match change {
            Change::Deposit(person, cents) => {
                let user = people[person];
                *made.paid_in.entry(user).or_default() += pay("deposits", user, cents).await;
            }
            Change::Withdrawal(person, cents) => {
                let user = people[person];
                *made.paid_in.entry(user).or_default() -= pay("withdrawals", user, cents).await;
            }
            Change::Order(person, cents) | Change::CancelledOrder(person, cents) => {
                let order = order(people[person], cents);
                publish(world, &order).await;
                if matches!(change, Change::CancelledOrder(..)) {
                    publish(world, &order.with_status(OrderStatus::Cancelled)).await;
                    made.cancelled.insert(order.id);
                }
                made.orders.push(order);
            }
        }
    }
    made
}

#[tokio::test]
async fn concurrent_changes_add_up_as_if_they_were_made_one_after_another() {
    let world = World::new().await;
    let replicas = [start_service(&world).await, start_service(&world).await];
    // Nobody has an account yet, so that the first changes open them at the same time.
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(add_person(&world).await);
    }
    let changes = changes();
    let tasks = changes
        .chunks(changes.len() / TASKS)
        .enumerate()
        .map(|(task, changes)| make(&world, &replicas[task % 2].http, &people, task, changes.to_vec()));
    let mut model = Model::default();
    for made in join_all(tasks).await {
        model.add(made);
    }
    wait_until_caught_up(&world).await;

    let paid: HashSet<OrderId> = published_ids(&world, OrderStatus::Paid).await.into_iter().collect();
    let refused: HashSet<OrderId> = published_ids(&world, OrderStatus::Refused).await.into_iter().collect();
    assert!(paid.is_disjoint(&refused) && !paid.is_empty() && !refused.is_empty());
    for order in &model.orders {
        let is_decided = paid.contains(&order.id) || refused.contains(&order.id);
        assert!(is_decided || model.cancelled.contains(&order.id), "{order:?} has no outcome");
    }
    let db = &world.database.pool;
    let balances: HashMap<i64, i64> = sqlx::query_as("SELECT user_id, balance FROM billing.accounts")
        .fetch_all(db)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let expected: HashMap<i64, i64> = people.iter().map(|&user| (user, model.balance(user, &paid))).collect();
    assert_eq!(balances, expected);
    assert_books_balance(db).await;
    let settled: HashSet<OrderId> = settled_orders(&world).await;
    assert!(model.cancelled.is_subset(&settled) && refused.is_subset(&settled));

    for replica in replicas {
        replica.stop().await;
    }
    assert_no_deadlocks(db).await;
    world.end().await;
}

/// The orders whose money is settled.
async fn settled_orders(world: &World) -> HashSet<OrderId> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT order_id FROM billing.settled_orders")
        .fetch_all(&world.database.pool)
        .await
        .unwrap();
    ids.into_iter().map(OrderId).collect()
}
