//! Every failure switch is set with `off fault`, and its alert reacts. Afterwards no order is lost.

use crate::{Home, sources::workspace, stderr, stdout};
use off_events::faults::FaultKind;
use off_testkit::{Http, eventually_within};
use std::{collections::BTreeMap, fs, time::Duration};
use tokio::time::Instant;

/// An order is overdue twenty seconds after its deadline, and announced again a moment later.
const PATIENCE: Duration = Duration::from_secs(90);

/// All samples of all services by their name with labels, like `off_orders_overdue{service="orders"}`.
type Samples = BTreeMap<String, f64>;

/// What happened between two scrapes.
struct Window {
    before: Samples,
    after: Samples,
    seconds: f64,
}

impl Window {
    /// The sum of the increases of all samples of `metric` that have `label`, like `sum(increase(metric{label}[…]))`.
    fn increase(&self, metric: &str, label: &str) -> f64 {
        let is_of = |name: &str| name == metric || name.starts_with(&format!("{metric}{{"));
        let all = self.after.iter().filter(|(name, _)| is_of(name) && name.contains(label));
        all.map(|(name, value)| value - self.before.get(name).copied().unwrap_or_default()).sum()
    }

    /// Like `sum(rate(metric{label}[…]))`.
    fn rate(&self, metric: &str, label: &str) -> f64 {
        self.increase(metric, label) / self.seconds
    }

    /// The share of the observations of a histogram that were above `limit`, for one consumer.
    fn share_above(&self, histogram: &str, limit: &str, consumer: &str) -> f64 {
        let of_consumer = |window: &Self, bound: &str| -> f64 {
            let bucket = format!("{histogram}_bucket{{");
            let all = window.after.iter().filter(|(name, _)| {
                name.starts_with(&bucket) && name.contains(consumer) && name.contains(&format!("le=\"{bound}\""))
            });
            all.map(|(name, value)| value - window.before.get(name).copied().unwrap_or_default()).sum()
        };
        let (all, below) = (of_consumer(self, "+Inf"), of_consumer(self, limit));
        if all > 0.0 { 1.0 - below / all } else { 0.0 }
    }
}

/// An alert, its expression in `deploy/observability/alerts.yml`, and whether that is true in a window.
type Alert = (&'static str, &'static str, fn(&Window) -> bool);

/// The alerts of all switches. Rates are over the window instead of five or ten minutes.
const ALERTS: [Alert; 8] = [
    ("OrdersAnnouncedAgain", "sum by (status) (increase(off_orders_announced_again_total[15m])) > 0", |window| {
        window.increase("off_orders_announced_again_total", "") > 0.0
    }),
    (
        "OrdersRefused",
        "sum(rate(off_billing_orders_total{outcome=\"refused\"}[5m])) / sum(rate(off_billing_orders_total[5m])) > 0.5",
        |window| {
            let refused = window.rate("off_billing_orders_total", "outcome=\"refused\"");
            refused / window.rate("off_billing_orders_total", "") > 0.5
        },
    ),
    (
        "BatchesSlow",
        "histogram_quantile(0.99, sum by (consumer, le) (rate(off_message_batch_seconds_bucket[5m]))) > 1",
        |window| window.share_above("off_message_batch_seconds", "1", "consumer=\"billing-pending\"") > 0.01,
    ),
    ("MessagesRedelivered", "sum by (consumer) (rate(off_messages_redelivered_total[5m])) > 0.5", |window| {
        window.rate("off_messages_redelivered_total", "consumer=\"billing-pending\"") > 0.5
    }),
    ("DeadLetters", "sum by (consumer) (increase(off_messages_dead_total[15m])) > 0", |window| {
        window.increase("off_messages_dead_total", "") > 0.0
    }),
    ("ReportsRepeated", "sum(rate(off_consumption_reports_total{outcome=\"repeated\"}[5m])) > 0.5", |window| {
        window.rate("off_consumption_reports_total", "outcome=\"repeated\"") > 0.5
    }),
    ("ReportsOutOfTime", "sum(rate(off_consumption_reports_out_of_time_total[5m])) > 0.5", |window| {
        window.rate("off_consumption_reports_out_of_time_total", "") > 0.5
    }),
    (
        "DevicesSilent",
        "sum(rate(off_consumption_reports_total[10m])) == 0 and sum(rate(off_generator_events_total[10m])) > 0",
        |window| {
            let is_silent = window.rate("off_consumption_reports_total", "") == 0.0;
            is_silent && window.rate("off_generator_events_total", "") > 0.0
        },
    ),
];

fn condition(kind: FaultKind) -> fn(&Window) -> bool {
    ALERTS.iter().find(|(name, ..)| *name == kind.alert()).unwrap().2
}

#[test]
fn every_switch_names_an_alert_that_uses_its_metric() {
    let alerts = fs::read_to_string(workspace().join("deploy/observability/alerts.yml")).unwrap();
    let rules: BTreeMap<&str, String> = alerts
        .split("- alert: ")
        .skip(1)
        .map(|rule| {
            let (name, rest) = rule.split_once('\n').unwrap();
            let (_, rest) = rest.split_once("expr:").unwrap();
            let expression = rest.split("labels:").next().unwrap().split("for:").next().unwrap();
            (name, expression.trim_start_matches(" >-").split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    for (name, expression, _) in ALERTS {
        assert_eq!(rules[name], expression);
    }
    for kind in FaultKind::ALL {
        assert!(rules[kind.alert()].contains(kind.metric()), "{kind}");
    }
}

async fn scrape(services: &[Http]) -> Samples {
    let mut samples = Samples::new();
    for service in services {
        let text = service.get("/metrics").await.body.as_str().unwrap().to_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        samples.extend(lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        }));
    }
    samples
}

/// The health ports of all services that run in `home`.
fn services(home: &Home) -> Vec<Http> {
    let running = home.running();
    let services = running["services"].as_array().unwrap().iter();
    services.map(|service| Http::new(service["health_url"].as_str().unwrap().to_owned())).collect()
}

/// Switches failures on, one after another: the alert of each reacts, and no order is lost.
async fn assert_that_alerts_react(kinds: &[FaultKind]) {
    let home = Home::new();
    let busy = [("GENERATOR_RATE", "0.1"), ("GENERATOR_CONSUMPTION_WEIGHT", "2"), ("RATE_SIGN_IN", "off")];
    let up = home.up_with(&["--speed", "600", "--households", "50"], &busy).await;
    let services = services(&home);
    eventually_within(PATIENCE, "products are consumed", || async {
        let samples = scrape(&services).await;
        let consumed = samples.iter().any(|(name, value)| name.starts_with("off_consumption_reports") && *value > 20.0);
        consumed.then_some(())
    })
    .await;
    for kind in kinds {
        let is_true = condition(*kind);
        let before = window(&services).await;
        assert!(!is_true(&before), "{} reacts without {kind}", kind.alert());
        switch_on(&home, *kind).await;
        assert!(becomes(true, is_true, &services).await, "{} does not react to {kind}", kind.alert());
        let cleared = home.run(&["fault", "clear", kind.as_str()]).await;
        assert!(cleared.status.success(), "{}", stderr(&cleared));
        assert!(becomes(false, is_true, &services).await, "{} does not end after {kind}", kind.alert());
    }
    let audit = home.run(&["audit", "--patience", "2m"]).await;
    assert!(audit.status.success(), "{}{}", stdout(&audit), stderr(&audit));
    let (success, rest) = up.interrupt().await;
    assert!(success, "{rest}");
}

/// Switches a failure on for everything that it can hit; of consumers only for one.
async fn switch_on(home: &Home, kind: FaultKind) {
    let consumer: &[&str] = if kind.is_of_consumer() { &["--consumer", "billing-pending"] } else { &[] };
    // So long that the order is overdue.
    let amount: &[&str] = if kind == FaultKind::SupplierSlow { &["--amount", "1000"] } else { &[] };
    let set = home.run(&[&["fault", "set", kind.as_str(), "--seed", "7"], consumer, amount].concat()).await;
    assert!(set.status.success(), "{}{}", stdout(&set), stderr(&set));
    let listed = stdout(&home.run(&["fault", "list"]).await);
    let line = listed.lines().find(|line| line.trim_start().starts_with(kind.as_str())).unwrap();
    assert!(line.contains("on for 100 %"), "{listed}");
}

/// Whether the condition becomes true in time, or false and stays so for three windows.
async fn becomes(expected: bool, condition: fn(&Window) -> bool, services: &[Http]) -> bool {
    let (started, mut windows) = (Instant::now(), if expected { 1 } else { 3 });
    while windows > 0 {
        if started.elapsed() > PATIENCE {
            return false;
        }
        windows = match (condition(&window(services).await) == expected, expected) {
            (true, _) => windows - 1,
            (false, true) => 1,
            (false, false) => 3,
        };
    }
    true
}

#[tokio::test]
async fn alerts_react_to_failures_of_supplier_and_payment() {
    assert_that_alerts_react(&[FaultKind::PaymentRefused, FaultKind::SupplierSlow]).await;
}

#[tokio::test]
async fn alerts_react_to_lost_deliveries() {
    assert_that_alerts_react(&[FaultKind::DeliveryLost]).await;
}

#[tokio::test]
async fn alerts_react_to_failures_of_messages_and_consumers() {
    use FaultKind::{ConsumerFailing, ConsumerSlow, Duplicates, Poison};
    assert_that_alerts_react(&[ConsumerSlow, ConsumerFailing, Duplicates, Poison]).await;
}

#[tokio::test]
async fn alerts_react_to_failures_of_devices() {
    use FaultKind::{ReportLate, ReportNever, ReportTwice, ReportWrongClock};
    assert_that_alerts_react(&[ReportTwice, ReportLate, ReportWrongClock, ReportNever]).await;
}

/// What happens in the next two seconds.
async fn window(services: &[Http]) -> Window {
    let (before, started) = (scrape(services).await, Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    Window { before, after: scrape(services).await, seconds: started.elapsed().as_secs_f64() }
}
