//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 4] = [
    Metric::counter("off_billing_orders_total", "Orders that were charged or refused, by outcome"),
    Metric::counter("off_billing_payments_total", "Deposits, withdrawals and reversals, by kind"),
    Metric::gauge(
        "off_ledger_mismatches",
        "Accounts whose balance differed from their transfers in the last round of checks",
    ),
    Metric::counter("off_ledger_checked_total", "Accounts whose balance was compared with their transfers"),
];
