//! The AsyncAPI 3 document of all subjects, made from the same types as the code.

use crate::{
    ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, RandomBarcode, RandomQuestion, RandomSsd, StockConsumed, StockLow,
    UserRegistered, event::event_type, headers, streams,
};
use serde_json::{Map, Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// One subject: what it means, what travels on it, who says it and who hears it.
struct Channel {
    subject: &'static str,
    meaning: &'static str,
    payloads: &'static [&'static str],
    said_by: &'static [&'static str],
    heard_by: &'static [&'static str],
}

const CHANNELS: [Channel; 10] = [
    Channel {
        subject: ORDERS_RANDOM,
        meaning: "A question: a device and a product to order, please. An empty body asks for any.",
        payloads: &["RandomQuestion"],
        said_by: &["generator"],
        heard_by: &["users-service", "orders-service"],
    },
    Channel {
        subject: ORDERS_NEW,
        meaning: "The two halves of the answer, each with the question's Off-Request-Id.",
        payloads: &["RandomSsd", "RandomBarcode"],
        said_by: &["users-service", "orders-service"],
        heard_by: &["generator"],
    },
    Channel {
        subject: Order::PENDING,
        meaning: "The order is stored and waits for its supplier.",
        payloads: &["Order"],
        said_by: &["orders-service"],
        heard_by: &["notifications-service"],
    },
    Channel {
        subject: Order::SHIPPED,
        meaning: "The order left the supplier.",
        payloads: &["Order"],
        said_by: &["notifications-service"],
        heard_by: &["notifications-service", "orders-service"],
    },
    Channel {
        subject: Order::COMPLETED,
        meaning: "The order arrived; the shelf grows.",
        payloads: &["Order"],
        said_by: &["notifications-service"],
        heard_by: &["orders-service", "users-service"],
    },
    Channel {
        subject: OrderDue::SUBJECT,
        meaning: "The wait of an order is over: JetStream puts it here, for consumers of the stream only, when its schedule \
            on orders.timer.<state>.<order> fires.",
        payloads: &["Order"],
        said_by: &["notifications-service"],
        heard_by: &["notifications-service"],
    },
    Channel {
        subject: UserRegistered::SUBJECT,
        meaning: "A person and their devices exist.",
        payloads: &["UserRegistered"],
        said_by: &["users-service"],
        heard_by: &[],
    },
    Channel {
        subject: StockConsumed::SUBJECT,
        meaning: "Units of a product were taken off a shelf.",
        payloads: &["StockConsumed"],
        said_by: &["device", "generator"],
        heard_by: &["users-service"],
    },
    Channel {
        subject: StockLow::SUBJECT,
        meaning: "A product is at or under its reorder point: the device answers with POST /api/orders.",
        payloads: &["StockLow"],
        said_by: &["users-service"],
        heard_by: &["device", "generator"],
    },
    Channel {
        subject: "dead.{stream}.{consumer}",
        meaning: "A message that could not be handled, whole, with the reason and its history in Off-Dead-* headers.",
        payloads: &[],
        said_by: &["users-service", "orders-service", "notifications-service", "generator"],
        heard_by: &[],
    },
];

/// The whole document.
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
        for service in channel.said_by {
            operations.insert(format!("{service}.says.{key}"), operation("send", service, &key));
        }
        for service in channel.heard_by {
            operations.insert(format!("{service}.hears.{key}"), operation("receive", service, &key));
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "off on NATS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that travels between the services and devices of off. Events are kept in JetStream \
                and delivered at least once; their effects happen once.",
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
        "description": channel.meaning,
        "messages": messages.iter().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})))
            .collect::<Map<_, _>>(),
    });
    if let Some(stream) = streams::stream_of(channel.subject) {
        object["x-stream"] = json!(stream.name);
    }
    if channel.subject.contains('{') {
        object["x-stream"] = json!(streams::DEAD_LETTERS.name);
        object["parameters"] = json!({
            "stream": {"description": "The stream the message came from."},
            "consumer": {"description": "The durable consumer that could not handle it."},
        });
    }
    object
}

fn message(channel: &Channel, payload: Option<&str>) -> Value {
    let kept = streams::stream_of(channel.subject).is_some();
    let headers: &[(&str, &str)] = match channel.subject {
        ORDERS_RANDOM | ORDERS_NEW => &[(headers::REQUEST_ID, "Which question an answer belongs to")],
        _ if kept => &[
            (
                headers::NATS_MSG_ID,
                "What the broker drops duplicates by: ce-id, and the time where the fact is announced again",
            ),
            (headers::CE_ID, "CloudEvents: the same fact always has the same id"),
            (headers::CE_SOURCE, "CloudEvents: who says it"),
            (headers::CE_SPECVERSION, "CloudEvents: 1.0"),
            (headers::CE_TIME, "CloudEvents: when it happened, RFC 3339 in UTC"),
            (headers::CE_TYPE, "CloudEvents: what it is"),
            (headers::TRACEPARENT, "W3C Trace Context"),
            (headers::ANNOUNCED_AGAIN, "When recovery announced it again, or what it follows from, RFC 3339 in UTC"),
        ],
        _ => &[
            (headers::DEAD_REASON, "Why it could not be handled"),
            (headers::DEAD_SUBJECT, "The subject it was published on"),
            (headers::DEAD_SEQUENCE, "Its sequence number in its stream"),
            (headers::DEAD_DELIVERIES, "How often it had been delivered"),
            (headers::DEAD_TIME, "When it was given up, RFC 3339 in UTC"),
            (headers::DEAD_CUT, "what of the message was cut, so that it fits: `headers`, `body`, or both"),
        ],
    };
    let properties: Map<_, _> = headers
        .iter()
        .map(|(name, meaning)| ((*name).to_owned(), json!({"type": "string", "description": meaning})))
        .collect();
    let mut object = json!({"headers": {"type": "object", "properties": properties}});
    if kept {
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

/// The payloads and all they are made of. OpenAPI 3.1 schemas are JSON Schemas, which AsyncAPI takes as they are.
fn schemas() -> Map<String, Value> {
    let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
    collect::<Order>(&mut schemas);
    collect::<RandomQuestion>(&mut schemas);
    collect::<RandomSsd>(&mut schemas);
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
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => object.iter().for_each(|(key, value)| match (key.as_str(), value) {
                    ("$ref", Value::String(target)) => {
                        assert!(document.pointer(&target[1..]).is_some(), "{target} leads nowhere");
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
