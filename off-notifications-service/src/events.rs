//! Message handlers, one per subject and purpose.

mod letters;
mod waits;

pub(crate) use letters::{
    write_about_cancelled, write_about_completed, write_about_low_balance, write_about_paid, write_about_refused,
    write_welcome,
};
pub(crate) use waits::{on_order_due, on_order_paid, on_order_shipped};
