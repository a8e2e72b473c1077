//! The metrics of this service.

use off_kit::{jobs, telemetry::Metric};

pub(crate) const METRICS: [Metric; 8] = [
    Metric::histogram("off_wait_late_seconds", "Delay of a supplier or a delivery firm after the end of its wait"),
    Metric::counter("off_letters_total", "Letters that were written, by kind"),
    Metric::counter("off_mail_attempts_total", "Attempts to send an e-mail, by the state of the e-mail after it"),
    Metric::gauge("off_mail_backlog", "E-mails that are not sent yet, at most 100,000"),
    Metric::gauge("off_mail_oldest_seconds", "Age of the oldest e-mail that is not sent yet"),
    jobs::METRICS[0],
    jobs::METRICS[1],
    jobs::METRICS[2],
];
