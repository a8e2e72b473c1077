//! `off doctor` reports stalls in a system that responds, with advice, and a mail server that does not accept e-mails.

use crate::{Home, stderr, stdout};
use off_events::{Order, streams};
use off_testkit::{Leftover, TEA, World};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};

async fn run_doctor(home: &Home, world: &World) -> (bool, String) {
    let mut doctor = home.command(&["doctor"]);
    doctor.env("DATABASE_URL", &world.database.url).env("NATS_URL", &world.nats.url);
    let output = doctor.output().await.unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

async fn sql(world: &World, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&world.database.pool).await.unwrap();
}

#[tokio::test]
async fn stalls_are_reported_with_advice() {
    let (home, world) = (Home::new(), World::new().await);
    world.add_device().await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(
        healthy && text.contains("✓ unpublished     no unpublished messages") && text.contains("all is well"),
        "{text}"
    );

    // A recent message is not stalled.
    sql(
        &world,
        "INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at)
         VALUES ('orders', 'orders.pending', 'young', '{}', now())",
    )
    .await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(healthy && text.contains("✓ unpublished     1 message not acknowledged by the broker"), "{text}");
    sql(&world, "UPDATE outbox.messages SET occurred_at = now() - interval '1 minute'").await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(!healthy && text.contains("✗ unpublished") && text.contains("is its disk full?"), "{text}");
    sql(&world, "DELETE FROM outbox.messages").await;

    sqlx::query(
        "INSERT INTO orders.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, deadline)
         VALUES ('01890a5d-ac97-774b-bcce-b302099a8058', 1, 1, $1, 1, 299, '2023-06-30 03:34:18.519Z',
                 now() - interval '1 h')",
    )
    .bind(TEA)
    .execute(&world.database.pool)
    .await
    .unwrap();
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(!healthy && text.contains("✗ orders          1 overdue, the first for 36"), "{text}");
    // Delivered, but its money is not earned, and its letter is not written.
    sql(
        &world,
        "UPDATE orders.product_orders SET status = 'completed';
         INSERT INTO users.deliveries SELECT id, ssd_id, barcode, quantity, now() FROM orders.product_orders",
    )
    .await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(!healthy && text.contains("✗ orders          1 overdue"), "{text}");
    sql(
        &world,
        "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         SELECT id, 'earning', -1, -2, 299, now() FROM orders.product_orders",
    )
    .await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(!healthy && text.contains("✗ orders          1 overdue"), "{text}");
    sql(
        &world,
        "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
         SELECT id, 'delivered', user_id, barcode, quantity, 299, now() FROM orders.product_orders",
    )
    .await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(healthy && text.contains("✓ orders          none is overdue"), "{text}");

    world.nats.publish_bytes(streams::SUPPLIER.dead_subject(), "poison").await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(healthy && text.contains("! dead letters    1 message ") && text.contains("`off dead list`"), "{text}");

    world.nats.publish(Order::PAID, &json!({})).await;
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(!healthy && text.contains("supplier has a backlog of 1 message and no pull request"), "{text}");

    let jetstream = &world.nats.bus.jetstream;
    jetstream.delete_consumer_from_stream(streams::SUPPLIER.name, streams::ORDERS.name).await.unwrap();
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(
        !healthy && text.contains("✗ consumers") && text.contains("supplier") && text.contains("`off migrate`"),
        "{text}"
    );
    jetstream.delete_stream(streams::USERS.name).await.unwrap();
    let (healthy, text) = run_doctor(&home, &world).await;
    assert!(
        !healthy && text.contains("✗ streams") && text.contains("USERS") && text.contains("`off migrate`"),
        "{text}"
    );
    world.end_leaving(&[Leftover::DeadLetters]).await;
}

/// A mail server that greets its first client with `greeting`. Returns its URL, and the commands that it gets.
async fn start_mail_server(greeting: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let (sender, commands) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.split();
        let mut lines = BufReader::new(reader).lines();
        writer.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
        // An error means that the client has gone.
        while let Ok(Some(line)) = lines.next_line().await {
            let command = line.split(' ').next().unwrap().to_owned();
            writer.write_all(b"250 mail.test\r\n").await.unwrap();
            sender.send(command).unwrap();
        }
    });
    (url, commands)
}

async fn run_doctor_with_mail(home: &Home, url: &str) -> (bool, String) {
    let output = home.command(&["doctor"]).env("SMTP_URL", url).output().await.unwrap();
    (output.status.success(), stdout(&output) + &stderr(&output))
}

#[tokio::test]
async fn the_mail_server_is_greeted_and_gets_no_email() {
    let home = Home::new();
    let (url, mut commands) = start_mail_server("220 mail.test").await;
    let (healthy, text) = run_doctor_with_mail(&home, &url).await;
    assert!(healthy && text.contains(&format!("✓ mail server     {url} answers")), "{text}");
    assert_eq!(commands.recv().await.as_deref(), Some("EHLO"));
    while let Some(command) = commands.recv().await {
        assert!(["NOOP", "QUIT"].contains(&command.as_str()), "{command}");
    }

    let (url, _commands) = start_mail_server("554 no service here").await;
    let (healthy, text) = run_doctor_with_mail(&home, &url).await;
    assert!(!healthy && text.contains("✗ mail server") && text.contains("554"), "{text}");
}

#[tokio::test]
async fn a_mail_server_that_cannot_be_reached_is_named_without_its_password() {
    let home = Home::new();
    let (healthy, text) = run_doctor_with_mail(&home, "smtp://off:secret@127.0.0.1:1").await;
    assert!(!healthy && text.contains("✗ mail server     smtp://off:…@127.0.0.1:1: "), "{text}");
    assert!(text.contains("refused") && !text.contains("secret"), "{text}");
    let (healthy, text) = run_doctor_with_mail(&home, "mail.test").await;
    assert!(!healthy && text.contains("SMTP_URL: expected smtps://user@host"), "{text}");
    // An empty one is none.
    let (healthy, text) = run_doctor_with_mail(&home, "").await;
    assert!(healthy && !text.contains("mail server"), "{text}");
}
