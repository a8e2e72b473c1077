//! Many connections, and clients that are slow.

use crate::{Gate, SOON};
use off_kit::Clock;
use off_testkit::eventually_within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_client_that_never_finishes_the_head_is_disconnected() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let mut slow = TcpStream::connect(gate.address()).await.unwrap();
    slow.write_all(b"GET /api/orders HTTP/1.1\r\nhost:").await.unwrap();
    timeout(SOON, slow.read_to_end(&mut Vec::new())).await.expect("the connection ends").unwrap();
    gate.end().await;
}

#[tokio::test]
async fn idle_connections_are_counted_and_do_not_delay_the_stop() {
    let gate = Gate::start().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(gate.address()).await.unwrap());
    }
    eventually_within(SOON, "the connections are counted", || async {
        let metrics = gate.gateway.health.get("/metrics").await.body.as_str().unwrap().to_owned();
        let open = metrics.lines().find_map(|line| line.strip_prefix("off_http_connections{service=\"gateway\"} "))?;
        (open.parse::<f64>().unwrap() >= 50.0).then_some(())
    })
    .await;
    timeout(SOON, gate.gateway.stop()).await.expect("the gateway stops");
    gate.nats.end().await;
}
