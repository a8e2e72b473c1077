//! `off status`: whether the system runs in the folder, and whether each service is ready.

use crate::{
    home::{Home, RunningService},
    motion::State,
    report::{check, printable_line},
};
use futures::future::join_all;
use off_kit::print_line;
use std::process::ExitCode;

/// The exit code where nothing runs.
const NOT_RUNNING: u8 = 3;

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let folder = home.folder().display();
    let running = home.is_taken().then(|| home.running()).flatten();
    let Some(running) = running else {
        print_line!("nothing runs in {folder}; `off up` starts it");
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    print_line!("off runs in {folder}, process {}", running.pid);
    let asked = join_all(running.services.iter().map(RunningService::ask_whether_ready)).await;
    let all_ready = asked.iter().all(Result::is_ok);
    for (service, ready) in running.services.iter().zip(asked) {
        let (state, detail) = match ready {
            Ok(()) => (State::Well, format!("ready, documented at {}/docs", service.url)),
            Err(reason) => (State::Stuck, printable_line(&format!("{reason:#}"))),
        };
        print_line!("{}", check(state, &service.name, &detail));
    }
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
