//! Invalid settings.

use crate::config;
use off_events::streams;
use off_kit::{Clock, Kit, Service, http};
use off_notifications_service::{Config, MailConfig, NotificationsService};
use off_testkit::World;
use std::time::Duration;

#[tokio::test]
async fn a_wait_longer_than_the_retention_of_its_stream_is_rejected_at_startup() {
    let world = World::new().await;
    let month = Duration::from_hours(30 * 24);
    assert!(streams::LONGEST_WAIT < month);
    let kit = Kit::new::<NotificationsService>(http::Config::on_loopback(0, 0), Clock::real(1.0));
    let rejection = NotificationsService::start(config(&world, month, Duration::ZERO), kit).await.unwrap_err();
    assert!(format!("{rejection:#}").contains("SUPPLIER_DELAY_MAX"), "{rejection:#}");
    world.end().await;
}

#[tokio::test]
async fn an_unusable_mail_server_is_rejected_at_startup() {
    let world = World::new().await;
    for (mail, named) in [
        (MailConfig { smtp_url: Some("https://mail.test".to_owned()), ..MailConfig::none() }, "SMTP_URL"),
        (MailConfig { smtp_url: Some("smtp://user:secret@".to_owned()), ..MailConfig::none() }, "SMTP_URL"),
        // A password without TLS, and a user without a password.
        (
            MailConfig { smtp_url: Some("smtp://user:secret@mail.test".to_owned()), ..MailConfig::none() },
            "tls=required",
        ),
        (
            MailConfig { smtp_url: Some("smtps://user@mail.test".to_owned()), ..MailConfig::none() },
            "SMTP_PASSWORD_FILE",
        ),
        (
            MailConfig {
                smtp_url: Some("smtp://mail.test".to_owned()),
                smtp_from: "nobody".to_owned(),
                ..MailConfig::none()
            },
            "SMTP_FROM",
        ),
    ] {
        let config = Config { mail, ..config(&world, Duration::ZERO, Duration::ZERO) };
        let kit = Kit::new::<NotificationsService>(http::Config::on_loopback(0, 0), Clock::real(1.0));
        let rejection = format!("{:#}", NotificationsService::start(config, kit).await.unwrap_err());
        assert!(rejection.contains(named) && !rejection.contains("secret"), "{rejection}");
    }
    world.end().await;
}
