//! More orders than can be taken: what is offered doubles and doubles, and what is accepted should stay where it is, soon
//! answered. Then ten thousand connections that say nothing, which nobody should notice.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use futures::{StreamExt, TryStreamExt, stream};
use off_bench::{
    Outcome, Program, Stage, load,
    report::{at_most, progress, ratio, table},
    stage::{PRODUCTS, Ports, SSDS, wait_until_ready, wish},
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

const LENGTH: Duration = Duration::from_secs(8);

/// In the closed loop that finds out how much can be taken.
const CONNECTIONS: u64 = 64;

/// The most that are under way in the open loop; a client that has more keeps them to itself.
const UNDER_WAY: usize = 6000;

/// What is offered, in parts of what can be taken.
const OFFERED: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// Where among them is all that can be taken.
const ALL_OF_IT: usize = 1;

const IDLE: usize = 10_000;

/// How long an accepted order may take in the worst overload, in milliseconds.
const BOUND: f64 = 1000.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let ports = Ports::free()?;
    // A process of its own, with files of its own: ten thousand connections take as many here.
    let service = Program::start(&["serve", "orders"], &stage.settings(&ports))?;
    let address = ports.address;
    wait_until_ready(ports.health).await?;

    progress("warming up");
    take(address).await?;
    let capacity = take(address).await?;
    stage.wait_until_carried().await?;
    let mut table = table(&[
        "offered/s",
        "sent/s",
        "accepted/s",
        "told to come back/s",
        "no answer",
        "accepted p50 / p99 ms",
        "refused p99 ms",
    ]);
    let mut accepted = Vec::new();
    for part in OFFERED {
        let rate = part * capacity.rate();
        progress(&format!("{rate:.0} orders a second"));
        let offered = load::offer(address, rate, LENGTH, UNDER_WAY, |number| load::post("/api/orders", wish(number)?));
        let offered = offered.await?;
        offered.outcome.expect_only(&[201, 503])?;
        let (taken, refused) = (offered.outcome.of(201), offered.outcome.of(503));
        table.add_row([
            format!("{rate:.0} ({part} ×)"),
            format!("{:.0}", offered.outcome.rate()),
            format!("{:.0}", taken.rate()),
            format!("{:.0}", refused.rate()),
            offered.unanswered.to_string(),
            format!("{:.1} / {:.1}", taken.ms(0.5), taken.ms(0.99)),
            format!("{:.1}", refused.ms(0.99)),
        ]);
        accepted.push(taken);
        stage.wait_until_carried().await?;
    }
    progress("ten thousand connections that say nothing");
    let before = take(address).await?;
    let idle = stream::iter(0..IDLE).map(|_| TcpStream::connect(address)).buffer_unordered(100);
    let idle: Vec<TcpStream> = idle.try_collect().await?;
    let beside = take(address).await?;
    drop(idle);
    progress("");
    println!("{table}\n");
    println!("{:.0} orders a second in a closed loop of {CONNECTIONS} connections\n", capacity.rate());
    let worst = accepted.iter().map(|taken| taken.ms(0.99)).fold(0.0, f64::max);
    at_most("p99 of what was accepted, at the worst", worst, BOUND, "ms");
    let (taken, base) = (&accepted[ALL_OF_IT + 1..], &accepted[ALL_OF_IT]);
    for (taken, part) in taken.iter().zip(&OFFERED[ALL_OF_IT + 1..]) {
        ratio(&format!("accepted of {part} × what can be taken, against of 1 ×"), taken.rate() / base.rate(), 0.9);
    }
    ratio("throughput beside 10,000 idle connections", beside.rate() / before.rate(), 0.9);
    at_most("p99 beside them, against without", beside.ms(0.99) / before.ms(0.99), 1.25, "×");
    service.stop().await?;
    stage.end().await
}

async fn take(address: SocketAddr) -> anyhow::Result<Outcome> {
    let outcome = load(address, CONNECTIONS, LENGTH, |number| load::post("/api/orders", wish(number)?)).await?;
    outcome.expect_only(&[201])?;
    Ok(outcome)
}
