//! What a token costs. Services cannot do without tokens, so a service of this benchmark, in a process of its own, has
//! two routes that do the same: one is public, one needs a token. The difference of their processor time is the cost of
//! a token, and is compared with the processor time of an order in the same rounds.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::Full;
use hyper::{Request, header};
use off_bench::{
    Outcome, Stage, load,
    proc::{processor_time_for, processor_time_of, processor_time_of_family},
    program::{start_off, start_self, stop},
    report::{at_most, median, progress, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
};
use off_kit::{
    Bus, Clock, Kit, Service,
    auth::{Claims, KeySet, Scope, Subject, Verifier},
    bus, http,
};
use off_testkit::tokens;
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Many short rounds, because the difference is small.
const ROUNDS: usize = 15;
const LENGTH: Duration = Duration::from_millis(1500);
const CONNECTIONS: u64 = 64;

/// Different tokens that are used in turn.
const TOKENS: usize = 10_000;

/// Tokens that are signed and seen for the first time, in each of [`ROUNDS`].
const NEW_TOKENS: usize = 1000;

/// How often each of them is verified again, because that takes less time than the kernel can measure.
const REPETITIONS: usize = 100;

/// The argument that makes this program the service.
const SERVE: &str = "serve";

const PUBLIC: &str = "/api/public";
const GUARDED: &str = "/api/guarded";

/// A service with two routes that do the same.
struct Probe;

#[utoipa::path(get, path = "/api/public", security(()))]
async fn public() -> &'static str {
    "done"
}

#[utoipa::path(get, path = "/api/guarded", security(("token" = ["simulate"])))]
async fn guarded() -> &'static str {
    "done"
}

fn probe_routes() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(public)).routes(routes!(guarded))
}

impl Service for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str = "Measures the cost of tokens.";
    const PORT: u16 = 0;
    const HEALTH_PORT: u16 = 0;
    type Config = bus::Config;

    fn openapi() -> OpenApi {
        http::document::<()>(Self::description(), probe_routes())
    }

    async fn start(config: bus::Config, kit: Kit) -> anyhow::Result<()> {
        let bus = Bus::for_service(&kit, &config).await?;
        let verifier = Verifier::start(&kit, &bus)?;
        http::serve(&kit, &verifier, Self::description(), probe_routes()).await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == SERVE) {
        return Ok(off_kit::run_with::<Probe>("probe", arguments).await);
    }
    measure().await?;
    Ok(ExitCode::SUCCESS)
}

async fn measure() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let (probe_ports, orders_ports) = (Ports::free()?, Ports::free()?);
    let probe = start_self(&[SERVE], &stage.settings(&probe_ports))?;
    let orders = start_off(&["serve", "orders"], &stage.settings(&orders_ports))?;
    wait_until_ready(probe_ports.health).await?;
    wait_until_ready(orders_ports.health).await?;
    let bench = Bench {
        probe: probe.pid()?,
        orders: orders.pid()?,
        probe_address: probe_ports.address,
        orders_address: orders_ports.address,
        token: Arc::new([bearer(&tokens::test_client())]),
        tokens: (0..TOKENS).map(|_| bearer(&tokens::sign(&claims()))).collect(),
        stage,
    };
    progress("warming up");
    bench.measure(0, &mut Rounds::default()).await?;
    let kit = Kit::new::<Probe>(http::Config::on_loopback(0, 0), Clock::real(1.0));
    let (verifier, mut rounds) = (bench.verifier(&kit)?, Rounds::default());
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        bench.measure(round, &mut rounds).await?;
        let (verifier, new) = (verifier.clone(), (0..NEW_TOKENS).map(|_| claims()).collect::<Vec<_>>());
        rounds.steps.push(tokio::task::spawn_blocking(move || Steps::measure(&verifier, &new)).await??);
    }
    let signatures = count_signatures(probe_ports.health).await?;
    progress("");
    rounds.print();
    println!("the service verified {signatures:.0} signatures, for {} different tokens", TOKENS + 1);
    kit.tasks.stop();
    stop(probe).await?;
    stop(orders).await?;
    bench.stage.end().await
}

/// The claims of a token that is different each time.
fn claims() -> Claims {
    tokens::claims(&Subject::Client("bench".to_owned()), &[Scope::Simulate])
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Signatures that the service verified so far: tokens that were not in its cache.
async fn count_signatures(health: SocketAddr) -> anyhow::Result<f64> {
    let metrics = load::fetch(health, "/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics);
    let line = metrics.lines().find(|line| line.starts_with("off_tokens_verified_total{"));
    Ok(line.and_then(|line| line.rsplit(' ').next()).context("no metric of verified tokens")?.parse()?)
}

/// The processes, and the tokens of the requests.
struct Bench {
    stage: Stage,
    probe: u32,
    probe_address: SocketAddr,
    orders: u32,
    orders_address: SocketAddr,
    token: Arc<[String]>,
    tokens: Arc<[String]>,
}

impl Bench {
    /// Measures one more round.
    async fn measure(&self, round: usize, rounds: &mut Rounds) -> anyhow::Result<()> {
        // The order changes from round to round, because other programs use the machine, too.
        for position in 0..3 {
            match (position + round) % 3 {
                0 => rounds.without.push(self.ask(PUBLIC, Arc::new([])).await?),
                1 => rounds.with.push(self.ask(GUARDED, self.token.clone()).await?),
                _ => rounds.with_many.push(self.ask(GUARDED, self.tokens.clone()).await?),
            }
        }
        self.stage.delete_orders().await?;
        let (order, servers) = self.order().await?;
        rounds.order.push(order);
        rounds.servers.push(servers);
        Ok(())
    }

    /// The service's processor time of a request with the next one of these tokens, or without one, in microseconds.
    async fn ask(&self, path: &'static str, tokens: Arc<[String]>) -> anyhow::Result<f64> {
        let before = processor_time_of(self.probe)?;
        let request = move |number| request(path, &tokens, number);
        let outcome = load::load(self.probe_address, CONNECTIONS, LENGTH, request).await?;
        outcome.expect_only(&[200])?;
        Ok(micros(processor_time_of(self.probe)? - before, &outcome))
    }

    /// The processor time of an order, in microseconds: of the orders service, and of Postgres and NATS.
    async fn order(&self) -> anyhow::Result<(f64, f64)> {
        let (postgres, nats) = (self.stage.postgres.id()?, self.stage.nats.id()?);
        let servers = || anyhow::Ok(processor_time_of_family(postgres)? + processor_time_of_family(nats)?);
        let before = (processor_time_of(self.orders)?, servers()?);
        let order = |number| load::post("/api/orders", order_body(number)?);
        let outcome = load::load(self.orders_address, CONNECTIONS, LENGTH, order).await?;
        outcome.expect_only(&[201])?;
        let used = (processor_time_of(self.orders)? - before.0, servers()? - before.1);
        Ok((micros(used.0, &outcome), micros(used.1, &outcome)))
    }

    /// A verifier in this process.
    fn verifier(&self, kit: &Kit) -> anyhow::Result<Verifier> {
        let keys = KeySet::default();
        keys.replace(&[tokens::public_key()])?;
        Ok(Verifier::with_keys(kit, &self.stage.bus, keys))
    }
}

fn request(path: &str, tokens: &[String], number: u64) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::get(path).header(header::HOST, "localhost");
    if !tokens.is_empty() {
        request = request.header(header::AUTHORIZATION, &tokens[usize::try_from(number)? % tokens.len()]);
    }
    Ok(request.body(Full::default())?)
}

fn micros(seconds: f64, outcome: &Outcome) -> f64 {
    seconds * 1e6 / outcome.count() as f64
}

/// The processor time of single steps in this process, in microseconds.
#[derive(Debug)]
struct Steps {
    sign: f64,
    /// A token that is seen for the first time.
    miss: f64,
    /// A token in the cache.
    hit: f64,
}

impl Steps {
    /// Measures with new tokens, which the verifier has not seen.
    fn measure(verifier: &Verifier, new: &[Claims]) -> anyhow::Result<Self> {
        let mut tokens = Vec::with_capacity(new.len());
        let each = |work: &mut dyn FnMut() -> anyhow::Result<()>| {
            anyhow::Ok(processor_time_for(work)? * 1e6 / new.len() as f64)
        };
        let sign = each(&mut || {
            tokens.extend(new.iter().map(tokens::sign));
            Ok(())
        })?;
        let mut verify = || {
            for token in &tokens {
                let verified = verifier.verify(token).now_or_never().context("a known key needs no fetch")?;
                verified.map_err(|error| anyhow!("a token is refused: {error}"))?;
            }
            Ok(())
        };
        let miss = each(&mut verify)?;
        let hits = each(&mut || (0..REPETITIONS).try_for_each(|_| verify()))?;
        Ok(Self { sign, miss, hit: hits / REPETITIONS as f64 })
    }
}

/// Processor times of all rounds, in microseconds.
#[derive(Debug, Default)]
struct Rounds {
    without: Vec<f64>,
    with: Vec<f64>,
    with_many: Vec<f64>,
    order: Vec<f64>,
    servers: Vec<f64>,
    steps: Vec<Steps>,
}

impl Rounds {
    fn print(&self) {
        let mut table = table(&["µs of processor time", "lowest", "median", "highest"]);
        let step = |figure: fn(&Steps) -> f64| self.steps.iter().map(figure).collect::<Vec<_>>();
        for (name, figures) in [
            ("a request without a token", &self.without),
            ("a request with the same token as all others", &self.with),
            ("a request with one of 10,000 tokens", &self.with_many),
            ("an order, in the orders service", &self.order),
            ("an order, in Postgres and NATS", &self.servers),
            ("signing a token", &step(|steps| steps.sign)),
            ("verifying a token for the first time", &step(|steps| steps.miss)),
            ("verifying a token again", &step(|steps| steps.hit)),
        ] {
            table.add_row([
                name.to_owned(),
                format!("{:.1}", figures.iter().copied().fold(f64::INFINITY, f64::min)),
                format!("{:.1}", median(figures.iter().copied())),
                format!("{:.1}", figures.iter().copied().fold(0.0, f64::max)),
            ]);
        }
        println!("{table}\n({ROUNDS} rounds)\n");
        at_most("an order with a token against one without", self.against(&self.with, |_| 0.0), 1.05, "×");
        at_most("… with one of 10,000 tokens", self.against(&self.with_many, |_| 0.0), 1.05, "×");
        let servers = self.against(&self.with, |round| self.servers[round]);
        println!("{:<58} {servers:>7.2} ×", "… with the work of Postgres and NATS for the order");
    }

    /// The processor time of an order, and `more` in each round, relative to the same without the cost of a token.
    fn against(&self, with: &[f64], more: impl Fn(usize) -> f64) -> f64 {
        median((0..self.order.len()).map(|round| {
            let order = self.order[round] + more(round);
            order / (order - (with[round] - self.without[round]))
        }))
    }
}
