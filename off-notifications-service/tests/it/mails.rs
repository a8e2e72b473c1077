//! E-mails: sent once, tried again, given up.

use crate::{
    config,
    smtp_server::{Reaction, SmtpServer},
};
use off_events::{
    LowBalance, Money, OrderId, UserId, UserRegistered,
    streams::{LETTERS_LOW_BALANCE, LETTERS_REGISTERED},
};
use off_kit::Clock;
use off_notifications_service::{Config, MailConfig, NotificationsService};
use off_testkit::{Program, Running, World, eventually};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// The service with a mail server.
struct Mailing {
    world: World,
    smtp: SmtpServer,
    services: Vec<Running>,
}

impl Mailing {
    async fn start() -> Self {
        Self::start_replicas(1).await
    }

    /// The service with changed settings of the mail server.
    async fn start_with(change: impl FnOnce(&mut MailConfig)) -> Self {
        let mut mailing = Self::start_replicas(0).await;
        let mut mail = mail_config(&mailing.smtp);
        change(&mut mail);
        let config = Config { mail, ..config(&mailing.world, Duration::ZERO, Duration::ZERO) };
        mailing.services.push(Running::start_ready::<NotificationsService>(config, Clock::real(1.0)).await);
        mailing
    }

    async fn start_replicas(count: usize) -> Self {
        let mut mailing = Self { world: World::new().await, smtp: SmtpServer::start().await, services: Vec::new() };
        for _ in 0..count {
            mailing.services.push(mailing.start_service().await);
        }
        mailing
    }

    async fn start_service(&self) -> Running {
        let config = Config { mail: mail_config(&self.smtp), ..config(&self.world, Duration::ZERO, Duration::ZERO) };
        Running::start_ready::<NotificationsService>(config, Clock::real(1.0)).await
    }

    /// Registers a person who is not simulated.
    async fn add_person(&self, email: &str) -> i64 {
        sqlx::query_scalar(
            "INSERT INTO users.users (first_name, last_name, email, registered_at)
             VALUES ('Ada', 'Lovelace', $1, now()) RETURNING id",
        )
        .bind(email)
        .fetch_one(&self.world.database.pool)
        .await
        .unwrap()
    }

    /// Has a welcome letter written to a person.
    async fn welcome(&self, user: i64) {
        let timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let registered = UserRegistered { id: UserId(user), ssd_ids: Vec::new(), timestamp };
        self.world.nats.publish(UserRegistered::SUBJECT, &serde_json::to_value(&registered).unwrap()).await;
        self.world.nats.wait_until_caught_up(&LETTERS_REGISTERED).await;
    }

    /// Has a letter about a low balance written to a person.
    async fn tell_low_balance(&self, user: i64) {
        let low = LowBalance {
            user_id: UserId(user),
            order_id: OrderId(Uuid::now_v7()),
            threshold: Money::from_cents(2000).unwrap(),
            timestamp: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        self.world.nats.publish(LowBalance::SUBJECT, &serde_json::to_value(&low).unwrap()).await;
        self.world.nats.wait_until_caught_up(&LETTERS_LOW_BALANCE).await;
    }

    /// Registers a person, and has a welcome letter written; returns the person.
    async fn add_and_welcome(&self, email: &str) -> i64 {
        let user = self.add_person(email).await;
        self.welcome(user).await;
        user
    }

    /// The state of the e-mail to a person, its attempts and its detail.
    async fn mail(&self, user: i64) -> Option<(String, i32, Option<String>)> {
        sqlx::query_as("SELECT state::text, attempts, detail FROM letters.mails WHERE user_id = $1")
            .bind(user)
            .fetch_optional(&self.world.database.pool)
            .await
            .unwrap()
    }

    async fn wait_for(&self, user: i64, state: &str, attempts: i32) {
        eventually(&format!("the e-mail is {state} after {attempts} attempts"), || async {
            let (found, made, _) = self.mail(user).await?;
            (found == state && made == attempts).then_some(())
        })
        .await;
    }

    /// Makes the next attempt due.
    async fn pass_time(&self, user: i64) {
        sqlx::query("UPDATE letters.mails SET next_at = now() WHERE user_id = $1")
            .bind(user)
            .execute(&self.world.database.pool)
            .await
            .unwrap();
    }

    /// In how many seconds the next attempt is due.
    async fn seconds_to_next(&self, user: i64) -> f64 {
        sqlx::query_scalar("SELECT extract(epoch FROM next_at - now())::float8 FROM letters.mails WHERE user_id = $1")
            .bind(user)
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap()
    }

    async fn end(self) {
        self.world.end_after(self.services, &[]).await;
    }
}

fn mail_config(smtp: &SmtpServer) -> MailConfig {
    MailConfig {
        smtp_url: Some(smtp.url.clone()),
        smtp_from: "off <off@off.example.com>".to_owned(),
        smtp_timeout: Duration::from_secs(1),
        ..MailConfig::none()
    }
}

#[tokio::test]
async fn a_letter_is_sent_as_one_email() {
    let mailing = Mailing::start().await;
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(user, "sent", 1).await;
    mailing.welcome(user).await;
    let received = mailing.smtp.received();
    assert_eq!(received.len(), 1);
    let mail = &received[0];
    assert_eq!(mail.to, "ada@mail.dev");
    assert_eq!(mail.field("From"), "off <off@off.example.com>");
    assert_eq!(mail.field("To"), "\"Ada Lovelace\" <ada@mail.dev>");
    assert_eq!(mail.field("Subject"), "Welcome to off");
    assert_eq!(mail.field("Auto-Submitted"), "auto-generated");
    assert!(mail.text.contains("Content-Type: text/plain") && mail.text.contains("Content-Type: text/html"));
    assert!(mail.text.contains("Hello Ada,"), "{}", mail.text);
    mailing.end().await;
}

#[tokio::test]
async fn simulated_people_and_reserved_domains_get_no_email() {
    let mailing = Mailing::start().await;
    let device = mailing.world.add_device().await;
    let simulated = mailing.world.owner_of(device).await;
    mailing.welcome(simulated).await;
    assert_eq!(mailing.mail(simulated).await, None);
    let reserved = mailing.add_and_welcome("ada@example.org").await;
    mailing.wait_for(reserved, "suppressed", 1).await;
    assert_eq!(mailing.mail(reserved).await.unwrap().2.unwrap(), "the domain is reserved");
    let real = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(real, "sent", 1).await;
    assert_eq!(mailing.smtp.attempts("ada@example.org"), 0);
    mailing.end().await;
}

#[tokio::test]
async fn a_person_gets_so_many_emails_in_an_hour() {
    let mailing = Mailing::start_with(|mail| mail.smtp_per_person = 3).await;
    let (ada, bob) = (mailing.add_person("ada@mail.dev").await, mailing.add_person("bob@mail.dev").await);
    for _ in 0..5 {
        mailing.tell_low_balance(ada).await;
    }
    mailing.tell_low_balance(bob).await;
    let sent = async |user: i64| -> i64 {
        let query = "SELECT count(*) FROM letters.mails WHERE user_id = $1 AND state = 'sent'";
        sqlx::query_scalar(query).bind(user).fetch_one(&mailing.world.database.pool).await.unwrap()
    };
    eventually("three are sent to Ada", async || (sent(ada).await == 3).then_some(())).await;
    eventually("one is sent to Bob", async || (sent(bob).await == 1).then_some(())).await;
    let suppressed: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT state::text, detail FROM letters.mails WHERE state <> 'sent'")
            .fetch_all(&mailing.world.database.pool)
            .await
            .unwrap();
    let reason = Some("the person got too many e-mails within an hour".to_owned());
    assert_eq!(suppressed, [("suppressed".to_owned(), reason.clone()), ("suppressed".to_owned(), reason)]);

    let hours_ago = "UPDATE letters.mails SET queued_at = queued_at - interval '2 hours'";
    sqlx::query(hours_ago).execute(&mailing.world.database.pool).await.unwrap();
    mailing.tell_low_balance(ada).await;
    eventually("the next is sent to Ada", async || (sent(ada).await == 4).then_some(())).await;
    mailing.end().await;
}

#[tokio::test]
async fn a_kind_that_is_switched_off_is_written_but_not_mailed() {
    let mailing = Mailing::start().await;
    let user = mailing.add_person("ada@mail.dev").await;
    let path = format!("/api/letters/preferences?user_id={user}");
    let http = &mailing.services[0].http;
    // The caller of a test may do everything, and this route has no scope for operators.
    sqlx::query("UPDATE users.users SET is_simulated = true WHERE id = $1")
        .bind(user)
        .execute(&mailing.world.database.pool)
        .await
        .unwrap();
    assert_eq!(http.get(&path).await.body, json!({"not_mailed": []}));
    let put = http.put(&path, &json!({"not_mailed": ["welcome", "paid", "welcome"]})).await;
    assert_eq!((put.status.as_u16(), put.body), (200, json!({"not_mailed": ["welcome", "paid"]})));
    for body in [json!({"not_mailed": ["sad"]}), json!({"not_mailed": "paid"}), json!({})] {
        assert_eq!(http.put(&path, &body).await.status, 422, "{body}");
    }
    sqlx::query("UPDATE users.users SET is_simulated = false WHERE id = $1")
        .bind(user)
        .execute(&mailing.world.database.pool)
        .await
        .unwrap();
    mailing.welcome(user).await;
    assert_eq!(mailing.mail(user).await, None);
    let letters: i64 = sqlx::query_scalar("SELECT count(*) FROM letters.letters WHERE user_id = $1")
        .bind(user)
        .fetch_one(&mailing.world.database.pool)
        .await
        .unwrap();
    assert_eq!(letters, 1);
    mailing.end().await;
}

#[tokio::test]
async fn a_transient_refusal_is_tried_again_later_with_the_same_message() {
    let mailing = Mailing::start().await;
    mailing.smtp.react(
        "ada@mail.dev",
        &[Reaction::Answer("450 greylisted, try later"), Reaction::DropInData, Reaction::DropAfterData],
    );
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    for (attempts, minutes) in [(1, 1.0), (2, 5.0), (3, 15.0)] {
        mailing.wait_for(user, "queued", attempts).await;
        let wait = mailing.seconds_to_next(user).await / 60.0;
        assert!((minutes * 0.75..minutes * 1.25).contains(&wait), "attempt {attempts} is followed by {wait} min");
        mailing.pass_time(user).await;
    }
    mailing.wait_for(user, "sent", 4).await;
    // The server has got the one before whose answer was lost.
    let received = mailing.smtp.received();
    let heads: Vec<(String, String)> =
        received.iter().map(|mail| (mail.field("Message-ID"), mail.field("Date"))).collect();
    assert_eq!(heads.len(), 2);
    assert_eq!(heads[0], heads[1]);
    mailing.end().await;
}

#[tokio::test]
async fn a_permanent_refusal_is_final() {
    let mailing = Mailing::start().await;
    mailing.smtp.always("ada@mail.dev", Reaction::Answer("550 no such user"));
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(user, "bounced", 1).await;
    let (_, _, detail) = mailing.mail(user).await.unwrap();
    assert!(detail.unwrap().contains("no such user"));
    mailing.end().await;
}

#[tokio::test]
async fn an_address_that_the_mail_server_cannot_handle_bounces_and_holds_up_nothing() {
    let mailing = Mailing::start().await;
    mailing.smtp.accept_only_ascii();
    let user = mailing.add_and_welcome("andr\u{e9}@mail.dev").await;
    mailing.wait_for(user, "bounced", 1).await;
    let ascii = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(ascii, "sent", 1).await;
    mailing.end().await;
}

#[tokio::test]
async fn an_email_that_is_never_accepted_expires() {
    let mailing = Mailing::start().await;
    mailing.smtp.always("ada@mail.dev", Reaction::Answer("450 never"));
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(user, "queued", 1).await;
    sqlx::query("UPDATE letters.mails SET queued_at = now() - interval '48 h', next_at = now()")
        .execute(&mailing.world.database.pool)
        .await
        .unwrap();
    mailing.wait_for(user, "expired", 2).await;
    mailing.end().await;
}

#[tokio::test]
async fn a_domain_that_hangs_does_not_hold_up_the_others() {
    // Longer than the test waits: without a limit for the domain, its e-mails would take all connections.
    let mailing = Mailing::start_with(|mail| mail.smtp_timeout = Duration::from_mins(1)).await;
    for number in 0..6 {
        let address = format!("ada{number}@slow.dev");
        mailing.smtp.always(&address, Reaction::Hang);
        mailing.add_and_welcome(&address).await;
    }
    let fast = mailing.add_and_welcome("ada@fast.dev").await;
    mailing.wait_for(fast, "sent", 1).await;
    // At most two at a time.
    let busy: i64 = sqlx::query_scalar("SELECT count(*) FROM letters.mails WHERE state = 'sending'")
        .fetch_one(&mailing.world.database.pool)
        .await
        .unwrap();
    assert_eq!(busy, 2, "e-mails to the slow domain that are under way");
    mailing.end().await;
}

#[tokio::test]
async fn replicas_send_each_email_once() {
    let mailing = Mailing::start_replicas(3).await;
    let mut people = Vec::new();
    for number in 0..30 {
        people.push(mailing.add_and_welcome(&format!("ada{number}@mail{}.dev", number % 7)).await);
    }
    for user in people {
        mailing.wait_for(user, "sent", 1).await;
    }
    let mut to: Vec<String> = mailing.smtp.received().into_iter().map(|mail| mail.to).collect();
    to.sort_unstable();
    to.dedup();
    assert_eq!((to.len(), mailing.smtp.received().len()), (30, 30));
    mailing.end().await;
}

#[tokio::test]
async fn an_email_whose_sender_was_killed_is_sent_after_its_lease() {
    let mut mailing = Mailing::start_replicas(0).await;
    mailing.smtp.react("ada@mail.dev", &[Reaction::Hang]);
    let settings = [
        ("DATABASE_URL", &*mailing.world.database.url),
        ("NATS_URL", &*mailing.world.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("SMTP_URL", &*mailing.smtp.url),
    ];
    let program = Program::start(env!("CARGO_BIN_EXE_off-notifications-service"), &settings).await;
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    mailing.wait_for(user, "sending", 1).await;
    eventually("the sender waits for an answer", || async {
        (mailing.smtp.attempts("ada@mail.dev") == 1).then_some(())
    })
    .await;
    program.kill().await;
    mailing.services.push(mailing.start_service().await);
    assert!(mailing.seconds_to_next(user).await > 300.0, "a lease is longer than an attempt");
    mailing.pass_time(user).await;
    mailing.wait_for(user, "sent", 2).await;
    mailing.end().await;
}

#[tokio::test]
async fn without_a_mail_server_letters_are_only_stored() {
    let mut mailing = Mailing::start_replicas(0).await;
    let settings = config(&mailing.world, Duration::ZERO, Duration::ZERO);
    mailing.services.push(Running::start_ready::<NotificationsService>(settings, Clock::real(1.0)).await);
    let user = mailing.add_and_welcome("ada@mail.dev").await;
    assert_eq!(mailing.mail(user).await, None);
    mailing.end().await;
}
