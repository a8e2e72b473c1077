//! Generates the AsyncAPI 3 document of all subjects from the types of this crate.

use crate::{
    ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, RandomBarcode, RandomDevice, RandomQuestion, StockConsumed, StockLow,
    UserRegistered, event::event_type, headers, streams,
};
use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// One subject with its payloads, senders and receivers.
struct Channel {
    subject: &'static str,
    description: &'static str,
    payloads: &'static [&'static str],
    senders: &'static [&'static str],
    receivers: &'static [&'static str],
}

const CHANNELS: [Channel; 10] = [
    Channel {
        subject: ORDERS_RANDOM,
        description: "Requests a random device and a random product to order. An empty body is valid.",
        payloads: &["RandomQuestion"],
        senders: &["generator"],
        receivers: &["users-service", "orders-service"],
    },
    Channel {
        subject: ORDERS_NEW,
        description: "The responses: one with a device and one with a barcode, both with the request's Off-Request-Id.",
        payloads: &["RandomDevice", "RandomBarcode"],
        senders: &["users-service", "orders-service"],
        receivers: &["generator"],
    },
    Channel {
        subject: Order::PENDING,
        description: "The order is stored and waits for the supplier.",
        payloads: &["Order"],
        senders: &["orders-service"],
        receivers: &["notifications-service"],
    },
    Channel {
        subject: Order::SHIPPED,
        description: "The order left the supplier.",
        payloads: &["Order"],
        senders: &["notifications-service"],
        receivers: &["notifications-service", "orders-service"],
    },
    Channel {
        subject: Order::COMPLETED,
        description: "The order arrived; its units are added to the shelf.",
        payloads: &["Order"],
        senders: &["notifications-service"],
        receivers: &["orders-service", "users-service"],
    },
    Channel {
        subject: OrderDue::SUBJECT,
        description: "The wait of an order is over. JetStream publishes it when the order's schedule on \
            orders.timer.<status>.<order> fires; it reaches only consumers of the stream.",
        payloads: &["Order"],
        senders: &["notifications-service"],
        receivers: &["notifications-service"],
    },
    Channel {
        subject: UserRegistered::SUBJECT,
        description: "A person registered with their devices.",
        payloads: &["UserRegistered"],
        senders: &["users-service"],
        receivers: &[],
    },
    Channel {
        subject: StockConsumed::SUBJECT,
        description: "Units of a product were taken off a shelf.",
        payloads: &["StockConsumed"],
        senders: &["device", "generator"],
        receivers: &["users-service"],
    },
    Channel {
        subject: StockLow::SUBJECT,
        description: "A product is at or below its reorder point. The device orders with POST /api/orders.",
        payloads: &["StockLow"],
        senders: &["users-service"],
        receivers: &["device", "generator"],
    },
    Channel {
        subject: "dead.{stream}.{consumer}",
        description: "A dead letter: a message that no handler could process, with the reason and its history in \
            Off-Dead-* headers.",
        payloads: &[],
        senders: &["users-service", "orders-service", "notifications-service", "generator"],
        receivers: &[],
    },
];

/// The AsyncAPI document.
pub fn document() -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for channel in &CHANNELS {
        let key = channel.subject.replace(['{', '}'], "");
        let names: Vec<String> = if channel.payloads.is_empty() {
            vec![key.clone()]
        } else {
            channel.payloads.iter().map(|payload| format!("{key}.{payload}")).collect()
        };
        for (index, name) in names.iter().enumerate() {
            messages.insert(name.clone(), message(channel, channel.payloads.get(index).copied()));
        }
        channels.insert(key.clone(), channel_object(channel, &names));
        for service in channel.senders {
            operations.insert(format!("{service}.sends.{key}"), operation("send", service, &key));
        }
        for service in channel.receivers {
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
        "address": channel.subject,
        "description": channel.description,
        "messages": messages.iter().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
            .collect::<Map<_, _>>(),
    });
    if let Some(stream) = streams::stream_of(channel.subject) {
        object["x-stream"] = json!(stream.name);
    }
    if channel.subject.contains('{') {
        object["x-stream"] = json!(streams::DEAD_LETTERS.name);
        object["parameters"] = json!({
            "stream": {"description": "The original stream of the message."},
            "consumer": {"description": "The durable consumer that could not process it."},
        });
    }
    object
}

fn message(channel: &Channel, payload: Option<&str>) -> Value {
    let in_stream = streams::stream_of(channel.subject).is_some();
    let headers: &[(&str, &str)] = match channel.subject {
        ORDERS_RANDOM | ORDERS_NEW => &[(headers::REQUEST_ID, "Correlates a response with its request")],
        _ if in_stream => &[
            (
                headers::NATS_MSG_ID,
                "The id for deduplication: ce-id; with the time appended if the event is announced again",
            ),
            (headers::CE_ID, "CloudEvents: the id of the event; always the same for the same event"),
            (headers::CE_SOURCE, "CloudEvents: the service that published the event"),
            (headers::CE_SPECVERSION, "CloudEvents: the specification version, 1.0"),
            (headers::CE_TIME, "CloudEvents: the time of the event, RFC 3339 in UTC"),
            (headers::CE_TYPE, "CloudEvents: the event type"),
            (headers::TRACEPARENT, "W3C Trace Context"),
            (
                headers::ANNOUNCED_AGAIN,
                "When recovery announced this event, or one that led to it, again, RFC 3339 in UTC",
            ),
        ],
        _ => &[
            (headers::DEAD_REASON, "Why the message could not be processed"),
            (headers::DEAD_SUBJECT, "The subject it was first published on"),
            (headers::DEAD_SEQUENCE, "Its sequence number in its original stream"),
            (headers::DEAD_DELIVERIES, "The number of deliveries before it became a dead letter"),
            (headers::DEAD_TIME, "When it became a dead letter, RFC 3339 in UTC"),
            (headers::DEAD_CUT, "What was truncated because the message was too large: `headers`, `body`, or both"),
        ],
    };
    let properties: Map<_, _> = headers
        .iter()
        .map(|(name, description)| ((*name).to_owned(), json!({"type": "string", "description": description})))
        .collect();
    let mut object = json!({"headers": {"type": "object", "properties": properties}});
    if in_stream {
        object["name"] = json!(event_type(channel.subject));
    }
    if let Some(payload) = payload {
        object["payload"] = json!({"$ref": format!("#/components/schemas/{payload}")});
    }
    object
}

fn operation(action: &str, service: &str, channel: &str) -> Value {
    json!({
        "action": action,
        "channel": {"$ref": format!("#/channels/{channel}")},
        "tags": [{"name": service}],
    })
}

/// The schemas of the payloads and of all types in them. OpenAPI 3.1 schemas are JSON Schemas, which AsyncAPI accepts.
fn schemas() -> Map<String, Value> {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    collect::<Order>(&mut schemas);
    collect::<RandomQuestion>(&mut schemas);
    collect::<RandomDevice>(&mut schemas);
    collect::<RandomBarcode>(&mut schemas);
    collect::<StockConsumed>(&mut schemas);
    collect::<StockLow>(&mut schemas);
    collect::<UserRegistered>(&mut schemas);
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
    fn every_subject_of_every_stream_is_described() {
        let described: Vec<&str> = CHANNELS.iter().map(|channel| channel.subject).collect();
        for consumer in streams::CONSUMERS {
            assert!(described.contains(&consumer.subject), "{} is not described", consumer.subject);
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
