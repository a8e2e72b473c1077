//! Requests over core NATS, and their replies.

use crate::Faulty;
use anyhow::ensure;
use futures::future::join_all;
use off_kit::{Clock, Kit, Service, bus, http};
use off_testkit::{TestNats, eventually, eventually_within};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use url::Url;

const SUBJECT: &str = "test.double";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    number: u32,
}

/// Doubles a number, except 0.
async fn double((): (), request: Number) -> anyhow::Result<Number> {
    ensure!(request.number > 0, "nothing to double");
    Ok(Number { number: 2 * request.number })
}

async fn ask(nats: &TestNats, number: u32) -> anyhow::Result<Number> {
    nats.bus.request(SUBJECT, &Number { number }).await
}

/// Replies to requests from now on.
async fn start_replying(nats: &TestNats) -> Kit {
    let kit = Kit::new::<Faulty>(http::Config::on_loopback(0, 0), Clock::real(1.0));
    bus::reply(&kit, &nats.bus, SUBJECT, (), double);
    eventually("it replies", || async { ask(nats, 1).await.ok() }).await;
    kit
}

#[tokio::test]
async fn each_request_gets_its_own_reply() {
    let nats = TestNats::new().await;
    let failure = ask(&nats, 1).await.expect_err("nobody replies");
    assert!(format!("{failure:#}").contains("test.double was not answered"), "{failure:#}");
    let _kit = start_replying(&nats).await;
    let replies = join_all((1..200).map(|number| ask(&nats, number))).await;
    for (number, reply) in (1..).zip(replies) {
        assert_eq!(reply.expect("a reply"), Number { number: 2 * number });
    }
    nats.end().await;
}

#[tokio::test]
async fn a_request_that_fails_gets_no_reply_and_blocks_nothing() {
    let nats = TestNats::new().await;
    let _kit = start_replying(&nats).await;
    for body in [r#"{"number": 0}"#, "", "[5]", r#"{"number": "one"}"#] {
        let reply = timeout(Duration::from_millis(200), nats.bus.client.request(SUBJECT, body.into())).await;
        assert!(reply.is_err(), "{body}: {reply:?}");
    }
    assert_eq!(ask(&nats, 4).await.expect("a reply"), Number { number: 8 });
    nats.end().await;
}

#[tokio::test]
async fn a_reply_goes_only_to_an_inbox() {
    let nats = TestNats::new().await;
    let _kit = start_replying(&nats).await;
    let body = r#"{"number": 3}"#;
    nats.bus.client.publish_with_reply(SUBJECT, "orders.completed", body.into()).await.expect("it is sent");
    nats.bus.client.publish(SUBJECT, body.into()).await.expect("it is sent");
    // Requests of one connection are handled after those before.
    assert_eq!(ask(&nats, 4).await.expect("a reply"), Number { number: 8 });
    assert!(nats.messages("ORDERS", "orders.completed").await.is_empty());
    nats.end().await;
}

/// A replica whose machine vanished: it subscribed, and its connection stays open and silent.
async fn start_vanished_replica(nats: &TestNats) -> anyhow::Result<BufReader<TcpStream>> {
    let url: Url = nats.url.parse()?;
    let address = url.socket_addrs(|| None)?;
    let mut connection = BufReader::new(TcpStream::connect(&*address).await?);
    let options = json!({"verbose": false, "user": url.username(), "pass": url.password()});
    let lines = format!("CONNECT {options}\r\nSUB {SUBJECT} {} 1\r\nPING\r\n", Faulty::NAME);
    connection.write_all(lines.as_bytes()).await?;
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        ensure!(connection.read_line(&mut line).await? > 0, "NATS closed the connection");
    }
    Ok(connection)
}

#[tokio::test]
async fn a_replica_that_vanished_soon_gets_no_requests() {
    let nats = TestNats::new().await;
    let _kit = start_replying(&nats).await;
    let _vanished = start_vanished_replica(&nats).await.expect("it subscribes");
    let all_are_answered = || async {
        let replies = join_all((1..=20).map(|number| ask(&nats, number))).await;
        replies.iter().all(Result::is_ok).then_some(())
    };
    assert!(all_are_answered().await.is_none(), "it gets some of the requests");
    eventually_within(Duration::from_secs(30), "all requests are answered", all_are_answered).await;
    nats.end().await;
}
