//! `deploy/scenario/run`: the scenario of the Postman collection, run with newman against a whole system.

use crate::{Home, sources::workspace, stderr, stdout};
use std::{env, process::Output};
use tokio::process::Command;

async fn run_scenario(base_url: &str) -> Output {
    Command::new(workspace().join("deploy/scenario/run")).arg(base_url).output().await.unwrap()
}

#[tokio::test]
async fn every_step_of_the_scenario_passes() {
    if !workspace().join(".off/npm/node_modules/newman").exists() {
        assert!(env::var_os("NEED_NEWMAN").is_none(), "newman is not in .off/npm, although ./test installs it");
        skip("newman is not in .off/npm: deploy/scenario/run and ./test install it");
        return;
    }
    let home = Home::new();
    let up = home.up(&["--speed", "60", "--no-generator"]).await;
    let scenario = run_scenario(home.api().base()).await;
    assert!(scenario.status.success(), "{}{}", stdout(&scenario), stderr(&scenario));
    // The requests choose which one follows: the last one shows that none ended the run early.
    assert!(stdout(&scenario).contains("the token is no longer accepted"), "{}", stdout(&scenario));
    let (success, rest) = up.interrupt().await;
    assert!(success, "{rest}");
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));
}

#[tokio::test]
async fn a_system_that_does_not_answer_is_a_clear_error() {
    let scenario = run_scenario("http://127.0.0.1:1").await;
    assert_eq!(scenario.status.code(), Some(1));
    let error = stderr(&scenario);
    assert!(error.contains("off does not answer at http://127.0.0.1:1.") && error.contains("./run"), "{error}");
}

#[expect(clippy::print_stderr, reason = "whoever runs the test should see that it did nothing")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
