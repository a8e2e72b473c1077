//! Generates the AsyncAPI 3 document of all subjects from the types of this crate.

use crate::{
    LowBalance, ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, RandomBarcode, RandomDevice, RandomRequest, Revoked,
    ShipReply, ShipRequest, StockConsumed, StockLow, UserRegistered,
    event::event_type,
    headers,
    participants::{PARTICIPANTS, Participant},
    streams,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// One subject with its payloads.
struct Channel {
    /// The subject, or a pattern of subjects with the parameters in braces.
    address: &'static str,
    /// The subject as it is declared, with wildcards.
    subject: &'static str,
    description: &'static str,
    payloads: &'static [&'static str],
}

impl Channel {
    /// A channel of one subject.
    const fn of(subject: &'static str, payloads: &'static [&'static str], description: &'static str) -> Self {
        Self { address: subject, subject, description, payloads }
    }

    /// The programs that publish on it.
    fn senders(&self) -> Vec<&'static str> {
        if self.subject == streams::ALL_DEAD_LETTERS {
            let services = streams::CONSUMERS.iter().filter(|consumer| !consumer.is_from_devices);
            return distinct(services.map(|consumer| consumer.service));
        }
        let publishers = PARTICIPANTS.iter().filter(|participant| participant.publishes.contains(&self.subject));
        distinct(publishers.map(|publisher| publisher.name))
    }

    /// The programs that receive its messages.
    fn receivers(&self) -> Vec<&'static str> {
        let is_received = |participant: &&Participant| {
            participant.subscribes.contains(&self.subject) || participant.follows.contains(&self.subject)
        };
        let subscribers = PARTICIPANTS.iter().filter(is_received);
        let consumers = streams::CONSUMERS.iter().filter(|consumer| consumer.subject == self.subject);
        distinct(subscribers.map(|subscriber| subscriber.name).chain(consumers.map(|consumer| consumer.service)))
    }
}

fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

const CHANNELS: [Channel; 18] = [
    Channel::of(
        ORDERS_RANDOM,
        &["RandomRequest"],
        "Requests a random device and a random product to order. An empty body is valid.",
    ),
    Channel::of(
        ORDERS_NEW,
        &["RandomDevice", "RandomBarcode"],
        "The responses: one with a device and one with a barcode, both with the request's Off-Request-Id. They are also \
            sent to the reply subject of the request, if it is an inbox.",
    ),
    Channel::of(Order::PENDING, &["Order"], "The order is stored and waits to be paid."),
    Channel::of(Order::PAID, &["Order"], "The order is paid and waits for the supplier."),
    Channel::of(Order::REFUSED, &["Order"], "The account could not pay for the order. This is final."),
    Channel::of(
        Order::CANCELLED,
        &["Order"],
        "The order was cancelled before it was shipped, and is refunded if it was paid. This is final.",
    ),
    Channel::of(
        ShipRequest::SUBJECT,
        &["ShipRequest"],
        "Asks whether orders may be shipped; those that may are shipped then. Sent to the reply subject of the request: \
            a ShipReply.",
    ),
    Channel {
        address: SHIP_REPLY,
        subject: SHIP_REPLY,
        description: "The reply subject of a request on orders.ship, an inbox: the orders that are shipped.",
        payloads: &["ShipReply"],
    },
    Channel::of(Order::SHIPPED, &["Order"], "The order left the supplier."),
    Channel::of(Order::COMPLETED, &["Order"], "The order arrived; its units are added to the shelf."),
    Channel {
        address: "orders.timer.{status}.{order}",
        subject: OrderDue::SCHEDULES,
        description: "A message schedule: the wait of an order for its next status.",
        payloads: &["Order"],
    },
    Channel::of(
        OrderDue::SUBJECT,
        &["Order"],
        "The wait of an order is over. JetStream publishes it when the order's schedule on \
            orders.timer.{status}.{order} fires; it reaches only consumers of the stream.",
    ),
    Channel::of(UserRegistered::SUBJECT, &["UserRegistered"], "A person registered with their devices."),
    Channel::of(LowBalance::SUBJECT, &["LowBalance"], "A charge took the balance of a person below a threshold."),
    Channel::of(StockConsumed::SUBJECT, &["StockConsumed"], "Units of a product were taken off a shelf."),
    Channel::of(
        StockLow::SUBJECT,
        &["StockLow"],
        "A product is at or below its reorder point. The device orders with POST /api/orders.",
    ),
    Channel::of(
        Revoked::SUBJECT,
        &["Revoked"],
        "A session or a key ended before its access tokens expire. Every program that verifies tokens follows it.",
    ),
    Channel {
        address: "dead.{stream}.{consumer}",
        subject: streams::ALL_DEAD_LETTERS,
        description: "A dead letter: a message that no handler could process, with the reason and its history in \
            Off-Dead-* headers.",
        payloads: &[],
    },
];

/// The channel of responses to a [`ShipRequest`], whose address is the inbox of the request.
const SHIP_REPLY: &str = "{ship_inbox}";

/// The AsyncAPI document.
pub fn document() -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for channel in &CHANNELS {
        let key = channel.address.replace(['{', '}'], "");
        let names: Vec<String> = if channel.payloads.is_empty() {
            vec![key.clone()]
        } else {
            channel.payloads.iter().map(|payload| format!("{key}.{payload}")).collect()
        };
        for (index, name) in names.iter().enumerate() {
            messages.insert(name.clone(), message(channel, channel.payloads.get(index).copied()));
        }
        channels.insert(key.clone(), channel_object(channel, &names));
        for service in channel.senders() {
            operations.insert(format!("{service}.sends.{key}"), operation("send", service, &key));
        }
        for service in channel.receivers() {
            operations.insert(format!("{service}.receives.{key}"), operation("receive", service, &key));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "off on NATS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "All messages between the services and devices of off. Events are stored in JetStream and \
                delivered at least once; handlers are idempotent.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas()},
    })
}

fn channel_object(channel: &Channel, messages: &[String]) -> Value {
    let mut object = json!({
        "address": (channel.address != SHIP_REPLY).then_some(channel.address),
        "description": channel.description,
        "messages": messages.iter().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
            .collect::<Map<_, _>>(),
    });
    if let Some(stream) = streams::stream_of(channel.subject) {
        object["x-stream"] = json!(stream.name);
    }
    let parameters = match channel.subject {
        OrderDue::SCHEDULES => json!({
            "status": {"description": "The status that the order reaches when the wait is over."},
            "order": {"description": "The id of the order."},
        }),
        streams::ALL_DEAD_LETTERS => json!({
            "stream": {"description": "The original stream of the message."},
            "consumer": {"description": "The durable consumer that could not process it."},
        }),
        _ => return object,
    };
    object["parameters"] = parameters;
    object
}

const REQUEST_HEADERS: &[(&str, &str)] = &[(headers::REQUEST_ID, "Correlates a response with its request")];

const EVENT_HEADERS: &[(&str, &str)] = &[
    (headers::NATS_MSG_ID, "The id for deduplication: ce-id; with the time appended if the event is announced again"),
    (headers::CE_ID, "CloudEvents: the id of the event; always the same for the same event"),
    (headers::CE_SOURCE, "CloudEvents: the service that published the event"),
    (headers::CE_SPECVERSION, "CloudEvents: the specification version, 1.0"),
    (headers::CE_TIME, "CloudEvents: the time of the event, RFC 3339 in UTC"),
    (headers::CE_TYPE, "CloudEvents: the event type"),
    (headers::TRACEPARENT, "W3C Trace Context"),
    (headers::DELIVERIES, "How often the message that led to this one had been delivered, if more than once"),
    (headers::ANNOUNCED_AGAIN, "When recovery announced this event, or one that led to it, again, RFC 3339 in UTC"),
];

const SCHEDULE_HEADERS: &[(&str, &str)] = &[
    (headers::NATS_SCHEDULE, "When JetStream publishes the message: `@at` and a time, RFC 3339 in UTC"),
    (headers::NATS_SCHEDULE_TARGET, "The subject on which JetStream publishes it"),
];

const DEAD_LETTER_HEADERS: &[(&str, &str)] = &[
    (headers::DEAD_REASON, "Why the message could not be processed"),
    (headers::DEAD_SUBJECT, "The subject it was first published on"),
    (headers::DEAD_SEQUENCE, "Its sequence number in its original stream"),
    (headers::DEAD_DELIVERIES, "The number of deliveries before it became a dead letter"),
    (headers::DEAD_TIME, "When it became a dead letter, RFC 3339 in UTC"),
    (headers::DEAD_CUT, "What was truncated because the message was too large: `headers`, `body`, or both"),
];

fn message(channel: &Channel, payload: Option<&str>) -> Value {
    let headers = match channel.subject {
        ORDERS_RANDOM | ORDERS_NEW => vec![REQUEST_HEADERS],
        ShipRequest::SUBJECT | SHIP_REPLY => vec![],
        OrderDue::SCHEDULES => vec![EVENT_HEADERS, SCHEDULE_HEADERS],
        streams::ALL_DEAD_LETTERS => vec![DEAD_LETTER_HEADERS],
        _ => vec![EVENT_HEADERS],
    };
    let properties: Map<_, _> = headers
        .concat()
        .iter()
        .map(|(name, description)| ((*name).to_owned(), json!({"type": "string", "description": description})))
        .collect();
    let mut object = json!({"headers": {"type": "object", "properties": properties}});
    // The other channels have no event of their own.
    if headers == [EVENT_HEADERS] {
        object["name"] = json!(event_type(channel.subject));
    }
    if let Some(payload) = payload {
        object["payload"] = json!({"$ref": format!("#/components/schemas/{payload}")});
    }
    object
}

fn operation(action: &str, service: &str, channel: &str) -> Value {
    let mut object = json!({
        "action": action,
        "channel": {"$ref": format!("#/channels/{channel}")},
        "tags": [{"name": service}],
    });
    let reply = match channel {
        ORDERS_RANDOM => ORDERS_NEW,
        ShipRequest::SUBJECT => SHIP_REPLY.trim_matches(['{', '}']),
        _ => return object,
    };
    if action == "send" {
        object["reply"] = json!({"channel": {"$ref": format!("#/channels/{reply}")}});
    }
    object
}

/// The schemas of the payloads and of all types in them. OpenAPI 3.1 schemas are JSON Schemas, which AsyncAPI accepts.
fn schemas() -> Map<String, Value> {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    collect::<Order>(&mut schemas);
    collect::<RandomRequest>(&mut schemas);
    collect::<RandomDevice>(&mut schemas);
    collect::<RandomBarcode>(&mut schemas);
    collect::<Revoked>(&mut schemas);
    collect::<ShipRequest>(&mut schemas);
    collect::<ShipReply>(&mut schemas);
    collect::<StockConsumed>(&mut schemas);
    collect::<StockLow>(&mut schemas);
    collect::<UserRegistered>(&mut schemas);
    collect::<LowBalance>(&mut schemas);
    schemas.into_iter().map(|(name, schema)| (name, json!(schema))).collect()
}

fn collect<T: ToSchema + PartialSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_described() {
        let described: Vec<&str> = CHANNELS.iter().map(|channel| channel.subject).collect();
        let published = PARTICIPANTS.iter().flat_map(|participant| participant.publishes);
        let subscribed = PARTICIPANTS.iter().flat_map(|participant| participant.subscribes);
        let consumed = streams::CONSUMERS.iter().map(|consumer| &consumer.subject);
        for subject in published.chain(subscribed).chain(consumed) {
            assert!(described.contains(subject), "{subject} is not described");
        }
    }

    #[test]
    fn every_stored_message_has_a_sender() {
        for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.subject != OrderDue::SUBJECT) {
            let is_published = PARTICIPANTS.iter().any(|participant| participant.publishes.contains(&consumer.subject));
            assert!(is_published, "nobody publishes {}, the subject of {}", consumer.subject, consumer.name);
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => object.iter().for_each(|(key, value)| match (key.as_str(), value) {
                    ("$ref", Value::String(target)) => {
                        assert!(document.pointer(&target[1..]).is_some(), "{target} does not resolve");
                    }
                    _ => walk(value, document),
                }),
                Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
                _ => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
