//! A short run of `off-chaos` with every kind of fault.

use std::{os::unix::fs::PermissionsExt, path::Path};
use tokio::process::Command;

#[tokio::test]
async fn no_order_is_lost_under_any_kind_of_fault() {
    let home = tempfile::Builder::new().prefix("off-home-").tempdir().unwrap();
    // Under root, Postgres runs as another user, who needs access to its files.
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
    let path = format!("{}:{}", tools.display(), std::env::var_os("PATH").unwrap().to_str().unwrap());
    let output = Command::new(env!("CARGO_BIN_EXE_off-chaos"))
        .args(["--for", "20s", "--rate", "60", "--seed", "1", "--speed", "240"])
        .env("PATH", path)
        .env("OFF_HOME", home.path().join("off"))
        .env_remove("DATABASE_URL")
        .env_remove("NATS_URL")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for fault in [
        "kill -9 postgres",
        "kill -9 nats-server",
        "kill the mail server",
        "poison",
        "fill the broker's storage",
        "fill stream",
        "fill the disk of postgres",
        "purge all message schedules",
        "delete consumer",
        "delete stream",
        "roll the broker's store back",
        "junk",
        "freeze",
        "cut",
        "slow",
    ] {
        assert!(text.contains(fault), "no {fault} in\n{text}");
    }
    assert!(text.ends_with("not a single order was lost\n"), "{text}");
}
