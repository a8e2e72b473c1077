//! Names of the headers that go with every message.

/// CloudEvents 1.0, binary mode: the id of the fact; equal to `Nats-Msg-Id` unless the fact is announced again.
pub const CE_ID: &str = "ce-id";
/// CloudEvents: who says it.
pub const CE_SOURCE: &str = "ce-source";
/// CloudEvents: `1.0`.
pub const CE_SPECVERSION: &str = "ce-specversion";
/// CloudEvents: when the fact happened, RFC 3339 in UTC.
pub const CE_TIME: &str = "ce-time";
/// CloudEvents: what it is, see [`crate::Event::event_type`].
pub const CE_TYPE: &str = "ce-type";
/// JetStream keeps one message per id within the stream's duplicate window.
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";
/// JetStream: deliver this message at a time to come, `@at <RFC 3339>` (ADR-51, nats-server 2.12 or newer).
pub const NATS_SCHEDULE: &str = "Nats-Schedule";
/// JetStream: the subject a scheduled message is delivered on; it must belong to the same stream.
pub const NATS_SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
/// W3C Trace Context, so that one order is one trace.
pub const TRACEPARENT: &str = "traceparent";

/// When recovery announced the fact again, or one that led to it: RFC 3339 in UTC. `Nats-Msg-Id` ends with it, because the broker
/// would drop what it has already seen, be it lost or not.
pub const ANNOUNCED_AGAIN: &str = "Off-Announced-Again";

/// Which question an answer on `orders.new` belongs to.
pub const REQUEST_ID: &str = "Off-Request-Id";

/// Where it is noted that a dead letter was dropped, by whoever looks after them, and why.
pub const DEAD_DROPPED: &str = "dead.dropped";

/// Why a message lies in the dead letters, in words.
pub const DEAD_REASON: &str = "Off-Dead-Reason";
/// The subject it was first published on.
pub const DEAD_SUBJECT: &str = "Off-Dead-Subject";
/// Its sequence number in the stream it came from.
pub const DEAD_SEQUENCE: &str = "Off-Dead-Sequence";
/// How often it had been delivered when it was given up.
pub const DEAD_DELIVERIES: &str = "Off-Dead-Deliveries";
/// There where the message was too large to be kept whole: `headers`, `body`, or both, separated by a comma.
pub const DEAD_CUT: &str = "Off-Dead-Cut";
/// When it was given up, RFC 3339 in UTC.
pub const DEAD_TIME: &str = "Off-Dead-Time";
