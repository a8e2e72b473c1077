//! `off audit`: runs the audit of [`off_audit`] and prints its result.

use crate::{home::Home, report::check};
use off_audit::{Audit, BrokerContents};
use off_kit::{print_line, text::counted};
use std::{process::ExitCode, time::Duration};

/// The exit code if a check could not be completed.
const INCOMPLETE: u8 = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long a problem must persist to be a finding; overdue orders may be recovered in this time.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Prints the result as one JSON document.
    #[arg(long)]
    json: bool,
}

/// The exit code is 1 if there are findings, and [`INCOMPLETE`] if a check could not be completed.
pub(crate) async fn run(home: &Home, options: &Options) -> ExitCode {
    match audit_home(home, options).await {
        Ok(audit) if audit.findings.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: the audit could not check everything: {error:#}");
            ExitCode::from(INCOMPLETE)
        }
    }
}

async fn audit_home(home: &Home, options: &Options) -> anyhow::Result<Audit> {
    let session = home.session().await?;
    let audit = if session.is_of_stopped_system() {
        // A stopped system does not change; what became overdue just before the stop is recovered at the next start.
        let as_of = home.last_ran_at().map(|stopped_at| stopped_at - options.patience);
        off_audit::audit(&session.db, &session.bus, Duration::ZERO, as_of).await
    } else {
        off_audit::audit(&session.db, &session.bus, options.patience, None).await
    };
    session.end().await?;
    let audit = audit?;
    if options.json {
        print_line!("{}", serde_json::to_string_pretty(&audit)?);
    } else {
        print(&audit, options.patience);
    }
    Ok(audit)
}

/// Prints `audit`; for a stopped system also that deadlines are compared with `patience` before it stopped.
fn print(audit: &Audit, patience: Duration) {
    print_line!("{}", audit.read());
    if let Some(as_of) = audit.as_of {
        let as_of = as_of.format("%Y-%m-%d %H:%M:%S");
        let patience = humantime::format_duration(patience);
        print_line!("off is not running: deadlines are compared with {as_of} UTC, {patience} before it stopped");
    }
    for line in audit.lines() {
        print_line!("{}", check(line.is_true.into(), line.check.name(), &line.claim));
        for finding in &line.findings {
            print_line!("    {finding}");
        }
    }
    print_broker(&audit.broker);
    let more = if audit.findings.is_empty() { "" } else { ", see ✗ above" };
    print_line!("\n{}{more}", audit.verdict());
}

fn print_broker(broker: &BrokerContents) {
    print_line!("\nContents of the broker (not used as proof):");
    for stream in &broker.streams {
        print_line!(
            "  stream   {:<18}{:>10} messages {:>8} MiB",
            stream.name,
            stream.messages,
            stream.bytes / 1024 / 1024
        );
    }
    for consumer in &broker.consumers {
        let (name, pending, unacknowledged) = (consumer.name, consumer.pending, consumer.unacknowledged);
        print_line!("  consumer {name:<19}{pending:>9} pending  {unacknowledged:>8} unacknowledged");
    }
    print_line!(
        "  {} waiting for the supplier, {} for the delivery",
        counted(broker.waiting_for_supplier, "order"),
        broker.waiting_for_delivery
    );
    if broker.dead_letters > 0 {
        print_line!("  {}: `off dead list` shows them", counted(broker.dead_letters, "dead letter"));
    }
}
