//! The outboxes, as the metrics of the services have them.

/// The age in seconds of the oldest message in an outbox, by service, in the Prometheus text format.
pub(super) fn lags(metrics: &str) -> impl Iterator<Item = (&str, f64)> {
    metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("off_outbox_lag_seconds{service=\"")?;
        let (service, value) = rest.split_once("\"} ")?;
        Some((service, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_found_among_other_metrics() {
        let metrics = "# TYPE off_outbox_lag_seconds gauge\noff_outbox_lag_seconds{service=\"users\"} 0.25\n\
                       off_outbox_lag_seconds{service=\"auth\"} 0\noff_outbox_in_flight{service=\"users\"} 7\n";
        assert_eq!(lags(metrics).collect::<Vec<_>>(), [("users", 0.25), ("auth", 0.0)]);
    }
}
