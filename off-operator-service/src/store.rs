//! Database access: all SQL of the service. It only reads.

mod imports;
mod overdue;

pub(crate) use imports::{Import, ImportReport, Reject, Tally, list_imports, list_rejects};
pub(crate) use overdue::{OverdueOrder, list_overdue};
