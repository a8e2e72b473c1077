//! `off status`: reports whether the system runs in the folder and which services are ready.

use crate::{
    home::{Home, ServiceAddresses},
    report::{Status, check, printable_line},
};
use futures::future::join_all;
use off_kit::print_line;
use std::process::ExitCode;

/// The exit code if nothing runs.
const NOT_RUNNING: u8 = 3;

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let folder = home.folder().display();
    let running = home.is_locked().then(|| home.running()).flatten();
    let Some(running) = running else {
        print_line!("nothing runs in {folder}; `off up` starts it");
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    print_line!("off runs in {folder}, process {}", running.pid);
    let results = join_all(running.services.iter().map(ServiceAddresses::check_readiness)).await;
    let all_ready = results.iter().all(Result::is_ok);
    for (service, result) in running.services.iter().zip(results) {
        let (status, detail) = match result {
            Ok(()) => (Status::Healthy, format!("ready at {}", service.url)),
            Err(reason) => (Status::Failed, printable_line(&format!("{reason:#}"))),
        };
        print_line!("{}", check(status, &service.name, &detail));
    }
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
