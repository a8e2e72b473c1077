//! `off watch`: prints the messages that are published on NATS, as text or as JSON.

use crate::{
    colors::{self, Color},
    home::Home,
    report::printable_line,
};
use anyhow::Context;
use async_nats::Message;
use chrono::{DateTime, Local, Utc};
use futures::{StreamExt, stream::select_all};
use off_events::{
    LowBalance, Money, ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, RandomRequest, ShipRequest, StockConsumed, StockLow,
    UserRegistered, streams::STREAMS,
};
use off_kit::{Clock, text::counted};
use owo_colors::{OwoColorize, Stream::Stdout, Style, XtermColors};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    io::{ErrorKind, Write},
    process::ExitCode,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The subject to watch, like 'orders.>' or stock.low; default: all subjects of off.
    subject: Option<String>,
    /// Prints one JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    let session = home.session().await?;
    let subjects = options.subject.map_or_else(all_subjects, |subject| BTreeSet::from([subject]));
    let mut subscriptions = Vec::new();
    for subject in subjects {
        let subscription = session.bus.client.subscribe(subject.clone()).await;
        subscriptions.push(subscription.with_context(|| format!("cannot watch '{subject}'"))?);
    }
    session.bus.client.flush().await?;
    let mut messages = select_all(subscriptions);
    let clock = Clock::real(1.0);
    loop {
        let message = messages.next().await.context("the connection to NATS has ended")?;
        let line = if options.json { as_json(&message) } else { as_text(&message, clock.now()) };
        // The reader may close the pipe, like `head`.
        match writeln!(std::io::stdout(), "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    session.end().await?;
    Ok(ExitCode::SUCCESS)
}

/// All subjects of off, like `orders.>`, without those that NATS and its clients use internally.
fn all_subjects() -> BTreeSet<String> {
    let subjects = STREAMS.iter().flat_map(|stream| stream.subjects);
    subjects.filter_map(|subject| subject.split('.').next()).map(|first| format!("{first}.>")).collect()
}

fn as_json(message: &Message) -> String {
    let headers: Map<String, Value> = message
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
        .filter_map(|(name, values)| Some((name.to_string(), json!(values.first()?.as_str()))))
        .collect();
    let body = serde_json::from_slice(&message.payload)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&message.payload).into_owned()));
    json!({"subject": message.subject.as_str(), "headers": headers, "body": body}).to_string()
}

/// `12:00:05.123  orders.shipped    ssd 42  3 × 2000000000015  order 0190…`.
fn as_text(message: &Message, now: DateTime<Utc>) -> String {
    let time = now.with_timezone(&Local).format("%H:%M:%S%.3f").to_string();
    let subject = format!("{:<18}", printable_line(without_order_id(&message.subject)));
    let style = style_of(&message.subject);
    format!(
        "{}  {} {}",
        time.if_supports_color(Stdout, |text| text.dimmed()),
        subject.if_supports_color(Stdout, |text| text.style(style)),
        describe(&message.subject, &message.payload)
    )
}

/// The subject of a wait without its last token, the order id; any other subject unchanged.
fn without_order_id(subject: &str) -> &str {
    match subject.strip_prefix(OrderDue::SCHEDULE_PREFIX).and_then(|wait| wait.find('.')) {
        Some(end) => &subject[..OrderDue::SCHEDULE_PREFIX.len() + end],
        None => subject,
    }
}

fn style_of(subject: &str) -> Style {
    match colors::of_subject(subject) {
        Some(Color(number)) => Style::new().color(XtermColors::from(number)),
        None => Style::new().dimmed(),
    }
}

/// A short description of a message on one line; the body itself if the subject is unknown.
pub(crate) fn describe(subject: &str, payload: &[u8]) -> String {
    printable_line(&description(subject, payload))
}

fn description(subject: &str, payload: &[u8]) -> String {
    if subject == ORDERS_RANDOM {
        return match serde_json::from_slice(payload) {
            Ok(RandomRequest { ssd_id: Some(ssd), .. }) => format!("ssd {ssd}  requests a random product"),
            _ => "requests a random device and product".to_owned(),
        };
    }
    let Ok(body) = serde_json::from_slice::<Value>(payload) else {
        return String::from_utf8_lossy(payload).chars().take(200).collect();
    };
    let field = |name: &str| match &body[name] {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    };
    match subject {
        Order::PENDING | Order::PAID | Order::SHIPPED | Order::COMPLETED | Order::CANCELLED | Order::REFUSED => {
            let missing = Money::deserialize(&body["refusal"]["missing"]);
            let missing = missing.map(|missing| format!("{missing} missing  ")).unwrap_or_default();
            let (ssd, quantity, barcode, id) = (field("ssd_id"), field("quantity"), field("barcode"), field("id"));
            format!("ssd {ssd}  {quantity} × {barcode}  {missing}order {id}")
        }
        ShipRequest::SUBJECT => {
            let orders = body["orders"].as_array().map_or(0, Vec::len);
            format!("{} ready to ship", counted(orders, "order"))
        }
        ORDERS_NEW if body.get("ssd_id").is_some() => format!("ssd {}", field("ssd_id")),
        ORDERS_NEW => format!("product {}", field("barcode")),
        StockConsumed::SUBJECT => {
            format!("ssd {}  {} × {} consumed", field("ssd_id"), field("quantity"), field("barcode"))
        }
        StockLow::SUBJECT => format!("ssd {}  {} left of {}", field("ssd_id"), field("quantity"), field("barcode")),
        LowBalance::SUBJECT => {
            let threshold = Money::deserialize(&body["threshold"]);
            let threshold = threshold.map_or_else(|_| "–".to_owned(), |threshold| threshold.to_string());
            format!("user {}  balance below {threshold}  order {}", field("user_id"), field("order_id"))
        }
        UserRegistered::SUBJECT => format!("user {}  ssds {}", field("id"), field("ssd_ids")),
        subject if subject.starts_with(OrderDue::SCHEDULE_PREFIX) => {
            format!("order {} will be {}", field("id"), field("status"))
        }
        _ => body.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_events::{Event, OrderId, UserId};
    use uuid::Uuid;

    #[test]
    fn a_low_balance_is_one_line() {
        let low = LowBalance {
            user_id: UserId(7),
            order_id: OrderId(Uuid::nil()),
            threshold: Money::from_euros(20),
            timestamp: DateTime::UNIX_EPOCH,
        };
        let line = describe(low.subject(), &serde_json::to_vec(&low).unwrap());
        assert_eq!(line, "user 7  balance below 20.00 EUR  order 00000000-0000-0000-0000-000000000000");
        assert_eq!(describe(LowBalance::SUBJECT, b"{}"), "user –  balance below –  order –");
    }
}
