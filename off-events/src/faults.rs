//! Failure switches: failures that an operator switches on, to see how the system reacts.
//!
//! A switch is an entry of the key-value bucket [`BUCKET`], with the name of its kind as the key. Services that allow
//! failure switches read the bucket all the time. Each has a share, a seed and an end, so that the same switch hits the same
//! orders, messages and reports again, and none is forgotten.

use crate::{InvalidValue, streams::CONSUMERS};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};
use utoipa::ToSchema;

/// The key-value bucket of all switches.
pub const BUCKET: &str = "faults";

/// The stream of [`BUCKET`].
pub const BUCKET_STREAM: &str = "KV_faults";

/// The subjects of all entries of [`BUCKET`].
pub const BUCKET_SUBJECTS: &str = "$KV.faults.>";

/// The longest time for which a switch is on.
pub const LONGEST: Duration = Duration::from_hours(24);

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The supplier takes longer.
    SupplierSlow,
    /// The delivery never arrives.
    DeliveryLost,
    /// The payment is refused.
    PaymentRefused,
    /// A consumer takes longer for each batch.
    ConsumerSlow,
    /// A consumer fails when a message is delivered for the first time.
    ConsumerFailing,
    /// A message is delivered again although it was handled.
    Duplicates,
    /// Messages that nobody can handle are published.
    Poison,
    /// A device sends a report twice.
    ReportTwice,
    /// A device sends a report late.
    ReportLate,
    /// The clock of a device is wrong.
    ReportWrongClock,
    /// A device does not send a report.
    ReportNever,
}

/// What the amount of a switch means, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// What it counts.
    pub unit: &'static str,
    /// If none is given.
    pub default: u32,
    /// At most. At least 1.
    pub max: u32,
}

/// What is known of a kind.
#[derive(Debug, Clone, Copy)]
struct Facts {
    name: &'static str,
    about: &'static str,
    amount: Option<Amount>,
    /// Whether it is about one consumer, or all.
    is_of_consumer: bool,
    metric: &'static str,
    alert: &'static str,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::SupplierSlow,
        Self::DeliveryLost,
        Self::PaymentRefused,
        Self::ConsumerSlow,
        Self::ConsumerFailing,
        Self::Duplicates,
        Self::Poison,
        Self::ReportTwice,
        Self::ReportLate,
        Self::ReportWrongClock,
        Self::ReportNever,
    ];

    const fn facts(self) -> Facts {
        match self {
            Self::SupplierSlow => Facts {
                name: "supplier_slow",
                about: "The supplier takes longer by a factor.",
                amount: Some(Amount { unit: "times as long", default: 100, max: 1_000 }),
                is_of_consumer: false,
                metric: "off_orders_announced_again_total",
                alert: "OrdersAnnouncedAgain",
            },
            Self::DeliveryLost => Facts {
                name: "delivery_lost",
                about: "The delivery never arrives. It is sent again when the order is overdue.",
                amount: None,
                is_of_consumer: false,
                metric: "off_orders_announced_again_total",
                alert: "OrdersAnnouncedAgain",
            },
            Self::PaymentRefused => Facts {
                name: "payment_refused",
                about: "The payment is refused, as if the account were empty.",
                amount: None,
                is_of_consumer: false,
                metric: "off_billing_orders_total",
                alert: "OrdersRefused",
            },
            Self::ConsumerSlow => Facts {
                name: "consumer_slow",
                about: "A consumer takes longer for each batch of messages.",
                amount: Some(Amount { unit: "ms per batch", default: 2_000, max: 5_000 }),
                is_of_consumer: true,
                metric: "off_message_batch_seconds",
                alert: "BatchesSlow",
            },
            Self::ConsumerFailing => Facts {
                name: "consumer_failing",
                about: "A consumer fails when a message is delivered for the first time. The broker delivers it again.",
                amount: None,
                is_of_consumer: true,
                metric: "off_messages_redelivered_total",
                alert: "MessagesRedelivered",
            },
            Self::Duplicates => Facts {
                name: "duplicates",
                about: "A message is delivered again although it was handled.",
                amount: None,
                is_of_consumer: true,
                metric: "off_messages_redelivered_total",
                alert: "MessagesRedelivered",
            },
            Self::Poison => Facts {
                name: "poison",
                about: "Messages that nobody can handle are published. They become dead letters.",
                amount: Some(Amount { unit: "messages per second", default: 1, max: 10 }),
                is_of_consumer: false,
                metric: "off_messages_dead_total",
                alert: "DeadLetters",
            },
            Self::ReportTwice => Facts {
                name: "report_twice",
                about: "Simulated devices send a report twice.",
                amount: None,
                is_of_consumer: false,
                metric: "off_consumption_reports_total",
                alert: "ReportsRepeated",
            },
            Self::ReportLate => Facts {
                name: "report_late",
                about: "Simulated devices send a report late.",
                amount: Some(Amount { unit: "simulated seconds", default: 1_800, max: 86_400 }),
                is_of_consumer: false,
                metric: "off_consumption_reports_out_of_time_total",
                alert: "ReportsOutOfTime",
            },
            Self::ReportWrongClock => Facts {
                name: "report_wrong_clock",
                about: "The clocks of simulated devices are fast.",
                amount: Some(Amount { unit: "seconds fast", default: 3_600, max: 31_536_000 }),
                is_of_consumer: false,
                metric: "off_consumption_reports_out_of_time_total",
                alert: "ReportsOutOfTime",
            },
            Self::ReportNever => Facts {
                name: "report_never",
                about: "Simulated devices do not send their reports.",
                amount: None,
                is_of_consumer: false,
                metric: "off_consumption_reports_total",
                alert: "DevicesSilent",
            },
        }
    }

    /// The name, which is the key in the bucket.
    pub const fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// What happens, as a sentence.
    pub const fn about(self) -> &'static str {
        self.facts().about
    }

    /// What its amount means; `None` if it has none.
    pub const fn amount(self) -> Option<Amount> {
        self.facts().amount
    }

    /// Whether it is about one consumer, or about all if none is named.
    pub const fn is_of_consumer(self) -> bool {
        self.facts().is_of_consumer
    }

    /// The metric that reacts.
    pub const fn metric(self) -> &'static str {
        self.facts().metric
    }

    /// The alert that reacts, in `deploy/observability/alerts.yml`.
    pub const fn alert(self) -> &'static str {
        self.facts().alert
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        kind.ok_or(InvalidValue("there is no failure switch of this name"))
    }
}

/// A switch that is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// What fails.
    pub kind: FaultKind,
    /// The share of orders, messages or reports that it hits, above 0 and at most 1.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0, example = 0.5)]
    pub share: f64,
    /// How much, in the unit of its kind; absent if its kind has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<u32>,
    /// The only consumer that it hits; absent for all, and for kinds that are not about consumers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Another seed hits others.
    pub seed: u64,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
}

impl Fault {
    /// The fields that are not valid, each with the reason.
    pub fn invalid_fields(&self) -> Vec<(&'static str, String)> {
        let mut invalid = Vec::new();
        if !(self.share > 0.0 && self.share <= 1.0) {
            invalid.push(("share", "expected a number above 0 and at most 1".to_owned()));
        }
        match (self.kind.amount(), self.amount) {
            (Some(Amount { max, .. }), Some(amount)) if !(1..=max).contains(&amount) => {
                invalid.push(("amount", format!("expected a number from 1 to {max}")));
            }
            (None, Some(_)) => invalid.push(("amount", format!("{} has none", self.kind))),
            _ => {}
        }
        match &self.consumer {
            Some(_) if !self.kind.is_of_consumer() => {
                invalid.push(("consumer", format!("{} is not about a consumer", self.kind)));
            }
            Some(name) if !CONSUMERS.iter().any(|consumer| consumer.name == name) => {
                invalid.push(("consumer", "there is no such consumer".to_owned()));
            }
            _ => {}
        }
        invalid
    }

    /// How much, in the unit of its kind.
    pub fn amount(&self) -> u32 {
        self.amount.or(self.kind.amount().map(|amount| amount.default)).unwrap_or_default()
    }

    /// How it is on, without its end: like `12.5 %, 2000 ms per batch, only billing-pending, seed 7`.
    pub fn describe(&self) -> String {
        // Two digits hide that a share like 0.07 is not exact.
        let percent = (self.share * 10_000.0).round() / 100.0;
        let amount = self.kind.amount().map(|amount| format!(", {} {}", self.amount(), amount.unit));
        let consumer = self.consumer.as_ref().map(|consumer| format!(", only {consumer}"));
        let (amount, consumer) = (amount.unwrap_or_default(), consumer.unwrap_or_default());
        format!("{percent} %{amount}{consumer}, seed {}", self.seed)
    }

    /// Whether it hits what has this key: the same every time.
    pub fn hits(&self, key: &[u8]) -> bool {
        let kind = self.kind.as_str().as_bytes();
        let bytes = self.seed.to_le_bytes().into_iter().chain(kind.iter().copied()).chain(key.iter().copied());
        // FNV-1a, and the finalizer of MurmurHash3, because the first bits of the former hardly change with the last byte.
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        // 53 bits, which a float holds exactly.
        ((hash ^ (hash >> 33)) >> 11) as f64 / ((1_u64 << 53) as f64) < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(share: f64, seed: u64) -> Fault {
        Fault { kind: FaultKind::DeliveryLost, share, amount: None, consumer: None, seed, until: DateTime::UNIX_EPOCH }
    }

    proptest! {
        #[test]
        fn a_share_of_one_hits_everything_and_a_key_is_hit_every_time(key: Vec<u8>, seed: u64, share in 0.0..1.0) {
            prop_assert!(fault(1.0, seed).hits(&key));
            prop_assert_eq!(fault(share, seed).hits(&key), fault(share, seed).hits(&key));
        }

        #[test]
        fn a_larger_share_hits_what_a_smaller_one_does(key: Vec<u8>, seed: u64, share in 0.0..1.0) {
            prop_assert!(!fault(share / 2.0, seed).hits(&key) || fault(share, seed).hits(&key));
        }
    }

    #[test]
    fn about_the_share_is_hit_and_others_with_another_seed() {
        let hits = |seed: u64| -> Vec<u32> {
            (0..10_000_u32).filter(|key| fault(0.25, seed).hits(&key.to_le_bytes())).collect()
        };
        assert!((2_300..2_700).contains(&hits(1).len()), "{}", hits(1).len());
        assert_ne!(hits(1), hits(2));
    }

    #[test]
    fn names_are_read_and_limits_are_checked() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.as_str().parse::<FaultKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        let invalid =
            |fault: Fault| -> Vec<&str> { fault.invalid_fields().into_iter().map(|(name, _)| name).collect() };
        assert!(invalid(fault(0.5, 0)).is_empty());
        let consumer = Some("billing-pending".to_owned());
        assert_eq!(invalid(Fault { amount: Some(1), consumer, ..fault(f64::NAN, 0) }), ["share", "amount", "consumer"]);
        let slow = Fault { kind: FaultKind::ConsumerSlow, ..fault(1.0, 0) };
        assert_eq!(slow.amount(), 2_000);
        let described = Fault { share: 0.07, consumer: Some("due".to_owned()), seed: 3, ..slow.clone() }.describe();
        assert_eq!(described, "7 %, 2000 ms per batch, only due, seed 3");
        let consumer = Some("nobody".to_owned());
        assert_eq!(invalid(Fault { amount: Some(5_001), consumer, ..slow }), ["amount", "consumer"]);
    }
}
