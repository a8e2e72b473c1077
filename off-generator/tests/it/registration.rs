//! Households register.

use crate::TestSystem;
use off_generator::Config;

#[tokio::test]
async fn the_same_seed_registers_the_same_households_once() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 5, ..system.config() }).await;
    system.wait_until_registered(5).await;
    generator.stop().await;
    let first = system.list_emails().await;
    assert!(first.iter().all(|email| email.contains(".7.")), "{first:?}");

    let generator = system.start(Config { households: 7, ..system.config() }).await;
    system.wait_until_registered(7).await;
    generator.stop().await;

    let other = TestSystem::new().await;
    let generator = other.start(Config { households: 7, ..other.config() }).await;
    other.wait_until_registered(7).await;
    generator.stop().await;
    assert_eq!(other.list_emails().await, system.list_emails().await);
    assert_eq!(other.list_generated_devices().await, system.list_generated_devices().await);
    other.end().await;
    system.end().await;
}

#[tokio::test]
async fn a_household_with_a_taken_address_is_skipped() {
    let system = TestSystem::new().await;
    let generator = system.start(Config { households: 1, ..system.config() }).await;
    system.wait_until_registered(1).await;
    generator.stop().await;
    // Without devices, the generator does not find its household, but the e-mail address is still registered.
    sqlx::query("DELETE FROM users.devices")
        .execute(&system.world.database.pool)
        .await
        .expect("the devices are deleted");

    let config = Config { households: 3, rate: 20.0, registration_weight: 0, ..system.config() };
    let generator = system.start(config).await;
    system.wait_until_registered(3).await;
    system.wait_for_orders(5).await;
    generator.stop().await;
    system.end().await;
}

#[tokio::test]
async fn households_register_once_the_users_service_is_available() {
    let system = TestSystem::new().await;
    let (generator, users) = system.start_before_users(Config { households: 3, ..system.config() }).await;
    system.wait_until_registered(3).await;
    generator.stop().await;
    users.stop().await;
    system.end().await;
}
