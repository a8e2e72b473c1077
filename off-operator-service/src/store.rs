//! Database access: all SQL of the service. It only reads.

mod imports;
mod orders;
mod overdue;

pub(crate) use imports::{Import, ImportReport, Reject, Tally, list_imports, list_rejects};
pub(crate) use orders::is_placed;
pub(crate) use overdue::{OverdueOrder, list_overdue};
