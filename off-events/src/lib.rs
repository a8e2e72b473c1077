//! The words on the wire: what travels, on which subject, in which stream, with which headers.
//!
//! Services meet here and nowhere else. This crate knows no network, no database and no HTTP; producers and
//! consumers share its types, so nobody else writes a subject string.

pub mod asyncapi;
mod event;
pub mod headers;
mod ids;
mod orders;
mod random;
mod stock;
pub mod streams;
mod users;
mod values;

pub use event::{Event, event_type};
pub use ids::{OrderId, SsdId, UserId};
pub use orders::{Order, OrderDue, OrderStatus};
pub use random::{ORDERS_NEW, ORDERS_RANDOM, RandomBarcode, RandomQuestion, RandomSsd};
pub use stock::{StockConsumed, StockLow};
pub use users::UserRegistered;
pub use values::{Barcode, InvalidValue, MacAddress, Quantity};
