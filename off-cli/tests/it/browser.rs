//! The stories of `off-gateway/tests/browser`: the page in a real Chromium, with a whole system behind it.

use crate::{Home, sources::workspace, stderr, stdout};
use off_events::Order;
use off_kit::{Bus, bus};
use std::{env, path::PathBuf, process::Stdio};
use tokio::{io::AsyncWriteExt, process::Command};

const OPERATOR: &str = "operator@example.org";

/// Where a browser may be; `./test` says which one it found or installed.
fn find_browser() -> Option<PathBuf> {
    let usual = ["/usr/bin/chromium", "/usr/bin/google-chrome"].map(PathBuf::from);
    env::var_os("CHROMIUM").map(PathBuf::from).into_iter().chain(usual).find(|path| path.exists())
}

#[tokio::test]
async fn every_story_of_the_page_ends_well() {
    let is_needed = env::var_os("NEED_BROWSER").is_some();
    let has_playwright = workspace().join("node_modules/playwright-core").exists();
    let Some(browser) = find_browser().filter(|_| has_playwright) else {
        assert!(!is_needed, "Chromium or playwright-core is missing, although ./test installs both");
        skip("Chromium or playwright-core is missing: ./test installs both");
        return;
    };
    let home = Home::new();
    // Everybody in the stories has the same address.
    let no_limits = [("RATE_ANONYMOUS", "off"), ("RATE_SIGN_IN", "off"), ("RATE_PERSON", "off")];
    let up = home.up_with(&["--speed", "60", "--no-generator"], &no_limits).await;
    add_operator(&home).await;
    publish_poison(&home).await;
    let stories = Command::new("node")
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"])
        .arg(workspace().join("off-gateway/tests/browser/stories.test.mjs"))
        .env("BASE_URL", home.api().base().replace("127.0.0.1", "localhost"))
        .env("CHROMIUM", browser)
        .env("OPERATOR", OPERATOR)
        .output()
        .await
        .unwrap();
    assert!(stories.status.success(), "{}{}", stdout(&stories), stderr(&stories));
    let (success, rest) = up.interrupt().await;
    assert!(success, "{rest}");
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));
}

/// Adds an operator with the password of all stories.
async fn add_operator(home: &Home) {
    let mut command = home.command(&["user", "add", OPERATOR, "--operator"]);
    let mut add = command.stdin(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(b"correct horse battery\n").await.unwrap();
    assert!(add.wait().await.unwrap().success());
}

/// Two messages that are no orders, which become dead letters.
async fn publish_poison(home: &Home) {
    let url = home.running()["nats_url"].as_str().unwrap().to_owned();
    let bus = Bus::connect(&bus::Config::at(&url), "test").await.unwrap();
    for _ in 0..2 {
        bus.jetstream.publish(Order::PENDING, "not an order".into()).await.unwrap().await.unwrap();
    }
    bus.close().await;
}

#[expect(clippy::print_stderr, reason = "whoever runs the test should see that it did nothing")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
