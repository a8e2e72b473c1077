//! Message contracts: subjects, payloads, headers, streams and consumers.
//!
//! Services know each other only through this crate. It has no network, database or HTTP code. Producers and consumers
//! share its types, so subject strings are written only here.

pub mod asyncapi;
mod auth;
mod event;
pub mod faults;
pub mod headers;
mod ids;
mod money;
mod orders;
pub mod participants;
mod random;
mod stock;
pub mod streams;
mod users;
mod values;

pub use auth::Revoked;
pub use event::{Event, event_type};
pub use ids::{OrderId, SsdId, UserId};
pub use money::Money;
pub use orders::{Order, OrderDue, OrderStatus, ReadyToShip, Refusal, ShipReply, ShipRequest};
pub use random::{ORDERS_NEW, ORDERS_RANDOM, RandomBarcode, RandomDevice, RandomRequest};
pub use stock::{StockConsumed, StockLow};
pub use users::{LowBalance, UserRegistered};
pub use values::{Barcode, InvalidValue, MacAddress, Quantity};
