//! Invalid settings.

use crate::config;
use off_events::streams;
use off_kit::{Clock, Kit, Service, http};
use off_notifications_service::NotificationsService;
use off_testkit::TestNats;
use std::time::Duration;

#[tokio::test]
async fn a_wait_longer_than_the_retention_of_its_stream_is_rejected_at_startup() {
    let nats = TestNats::new().await;
    let month = Duration::from_hours(30 * 24);
    assert!(streams::LONGEST_WAIT < month);
    let kit = Kit::new::<NotificationsService>(http::Config::on_loopback(0, 0), Clock::real(1.0));
    let rejection = NotificationsService::start(config(&nats, month, Duration::ZERO), kit).await.unwrap_err();
    assert!(format!("{rejection:#}").contains("SUPPLIER_DELAY_MAX"), "{rejection:#}");
    nats.end().await;
}
