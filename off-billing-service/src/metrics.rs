//! The metrics of this service.

use off_kit::telemetry::Metric;

pub(crate) const METRICS: [Metric; 2] = [
    Metric::counter("off_billing_orders_total", "Orders that were charged or refused, by outcome"),
    Metric::counter("off_billing_payments_total", "Deposits, withdrawals and reversals, by kind"),
];
