//! Names of message headers.

/// CloudEvents 1.0, binary mode: the id of the event. Equal to `Nats-Msg-Id` unless the event is announced again.
pub const CE_ID: &str = "ce-id";
/// CloudEvents: the service that published the event.
pub const CE_SOURCE: &str = "ce-source";
/// CloudEvents: the specification version, `1.0`.
pub const CE_SPECVERSION: &str = "ce-specversion";
/// CloudEvents: the time of the event, RFC 3339 in UTC.
pub const CE_TIME: &str = "ce-time";
/// CloudEvents: the event type, see [`crate::Event::event_type`].
pub const CE_TYPE: &str = "ce-type";
/// JetStream deduplicates by this id within the stream's duplicate window.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";
/// JetStream: when a scheduled message is delivered, `@at <RFC 3339>` (ADR-51, nats-server 2.12 or newer).
pub const NATS_SCHEDULE: &str = "Nats-Schedule";
/// JetStream: the subject a scheduled message is delivered on; it must belong to the same stream.
pub const NATS_SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
/// W3C Trace Context, so that one order is one trace.
pub const TRACEPARENT: &str = "traceparent";

/// When recovery announced this event, or one that led to it, again: RFC 3339 in UTC. `Nats-Msg-Id` ends with this
/// time, because the broker would otherwise drop the message as a duplicate, even if it lost the first one.
pub const ANNOUNCED_AGAIN: &str = "Off-Announced-Again";

/// How often the message that led to this one had been delivered by then, if more than once.
pub const DELIVERIES: &str = "Off-Deliveries";

/// Correlates a response on `orders.new` with its request on `orders.random`.
pub const REQUEST_ID: &str = "Off-Request-Id";

/// Why the message became a dead letter, as text.
pub const DEAD_REASON: &str = "Off-Dead-Reason";
/// The subject that the message was first published on.
pub const DEAD_SUBJECT: &str = "Off-Dead-Subject";
/// The message's sequence number in its original stream.
pub const DEAD_SEQUENCE: &str = "Off-Dead-Sequence";
/// The number of deliveries before the message became a dead letter.
pub const DEAD_DELIVERIES: &str = "Off-Dead-Deliveries";
/// What was truncated because the message was too large for a dead letter: `headers`, `body`, or both, separated by a
/// comma. Absent otherwise.
pub const DEAD_CUT: &str = "Off-Dead-Cut";
/// When the message became a dead letter, RFC 3339 in UTC.
pub const DEAD_TIME: &str = "Off-Dead-Time";
