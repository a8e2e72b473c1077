//! The failure switch `payment_refused`.

use crate::{Billing, add_person_with, order, published_ids};
use chrono::TimeDelta;
use off_billing_service::{BillingService, Config};
use off_events::{
    Order, OrderStatus,
    faults::{Fault, FaultKind},
};
use off_kit::{Clock, bus};
use off_testkit::{Running, World};
use std::collections::BTreeSet;

const MONEY: i64 = 1_000_000;

/// Half of all orders are refused.
fn half() -> Fault {
    Fault {
        kind: FaultKind::PaymentRefused,
        share: 0.5,
        amount: None,
        consumer: None,
        seed: 7,
        until: Clock::real(1.0).now() + TimeDelta::minutes(5),
    }
}

async fn start(allow_faults: bool) -> Billing {
    let world = World::new().await;
    bus::faults::set(&world.nats.bus, &half()).await.unwrap();
    let bus = bus::Config { allow_faults, ..world.bus_config() };
    let config = Config { db: world.db_config(), bus };
    let service = Running::start_ready::<BillingService>(config, Clock::real(1.0)).await;
    Billing { world, service }
}

#[tokio::test]
async fn exactly_the_orders_that_a_switch_hits_are_refused() {
    let billing = start(true).await;
    let user = add_person_with(&billing.world, MONEY).await;
    // Until the service has read the switch.
    while published_ids(&billing.world, OrderStatus::Refused).await.is_empty() {
        billing.handle(&[&order(user, 100)]).await;
    }
    let orders: Vec<Order> = (0..40).map(|_| order(user, 100)).collect();
    billing.handle(&orders.iter().collect::<Vec<_>>()).await;
    let refused: BTreeSet<_> = published_ids(&billing.world, OrderStatus::Refused).await.into_iter().collect();
    for order in &orders {
        assert_eq!(refused.contains(&order.id), half().hits(order.id.0.as_bytes()), "{}", order.id);
    }
    let hit = orders.iter().filter(|order| refused.contains(&order.id)).count();
    assert!((5..35).contains(&hit), "{hit} of 40");

    bus::faults::clear(&billing.world.nats.bus, FaultKind::PaymentRefused).await.unwrap();
    let is_hit = |order: &Order| half().hits(order.id.0.as_bytes());
    loop {
        let order = std::iter::repeat_with(|| order(user, 100)).find(is_hit).unwrap();
        billing.handle(&[&order]).await;
        if !published_ids(&billing.world, OrderStatus::Refused).await.contains(&order.id) {
            break;
        }
    }
    billing.end().await;
}

#[tokio::test]
async fn a_switch_has_no_effect_where_it_is_not_allowed() {
    let billing = start(false).await;
    let user = add_person_with(&billing.world, MONEY).await;
    let orders: Vec<Order> = (0..40).map(|_| order(user, 100)).collect();
    billing.handle(&orders.iter().collect::<Vec<_>>()).await;
    assert!(published_ids(&billing.world, OrderStatus::Refused).await.is_empty());
    assert_eq!(published_ids(&billing.world, OrderStatus::Paid).await.len(), 40);
    billing.end().await;
}
