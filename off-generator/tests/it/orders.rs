//! Households order.

use crate::TestSystem;
use futures::StreamExt;
use off_events::ORDERS_NEW;
use off_generator::Config;
use std::collections::HashSet;

#[tokio::test]
async fn generated_households_order_various_products_and_real_ones_nothing() {
    let system = TestSystem::new().await;
    let real = system.world.add_device().await;
    let generator = system.start(system.config_that_orders(10.0)).await;
    let placed = system.wait_for_orders(8).await;
    generator.stop().await;
    assert!(placed.iter().all(|order| order["ssd_id"] != real), "{placed:?}");
    let products: HashSet<&str> = placed.iter().filter_map(|order| order["barcode"].as_str()).collect();
    assert!(products.len() > 1, "{products:?}");
    system.end().await;
}

#[tokio::test]
async fn with_a_period_orders_are_placed_one_by_one() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { run_period: Some(1), ..system.config_that_orders(0.0) }).await;
    let placed = system.wait_for_orders(2).await;
    assert_eq!(placed.len(), 2, "{placed:?}");
    generator.stop().await;
    system.end().await;
}

#[tokio::test]
async fn orders_are_placed_once_the_catalog_has_products() {
    let system = TestSystem::new().await;
    let set_obsolete = async |obsolete: bool| {
        sqlx::query("UPDATE catalog.products SET obsolete = $1")
            .bind(obsolete)
            .execute(&system.world.database.pool)
            .await
            .expect("the products are updated");
    };
    set_obsolete(true).await;
    let generator = system.start(system.config_that_orders(10.0)).await;
    let mut answers = system.world.nats.bus.client.subscribe(ORDERS_NEW).await.expect("a subscription");
    let answer = answers.next().await.expect("an answer");
    assert_eq!(answer.payload.as_ref(), br#"{"barcode":null}"#);
    assert!(system.list_orders().await.is_empty());
    set_obsolete(false).await;
    system.wait_for_orders(2).await;
    generator.stop().await;
    system.end().await;
}
