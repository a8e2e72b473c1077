//! What happens when the terminal is closed, or a reader has enough.

use crate::{Home, off, stderr, stdout};
use nix::{
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_testkit::eventually;
use std::{fs::File, io::Write, process::Stdio};

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap())
}

#[tokio::test]
async fn a_closed_terminal_stops_everything_in_order() {
    let home = Home::new();
    let mut up = home.up(&["--speed", "600", "--no-generator"]).await;
    let postmaster = std::fs::read_to_string(home.path().join("postgres/postmaster.pid")).unwrap();
    let postmaster = pid(postmaster.lines().next().unwrap());
    let off = pid(&up.child.id().unwrap().to_string());
    // The shell passes on what it is sent, and the kernel sends it, too, in the middle of the stop; nobody reads any more.
    kill(off, Signal::SIGHUP).unwrap();
    up.says("stopped notifications").await;
    kill(off, Signal::SIGHUP).unwrap();
    drop(up.lines);
    assert!(up.child.wait().await.unwrap().success());
    assert!(!home.path().join("running.json").exists());
    eventually("Postgres has ended", || async { kill(postmaster, None).is_err().then_some(()) }).await;
}

#[tokio::test]
async fn a_reader_that_has_enough_makes_no_command_panic() {
    for arguments in [&["asyncapi"][..], &["openapi", "orders"], &["serve", "users", "openapi"]] {
        let mut child = off(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn help_is_there_for_all_services_and_for_each() {
    let all = off(&["serve", "--help"]).output().await.unwrap();
    for service in ["users", "orders", "notifications", "generator"] {
        assert!(all.status.success() && stdout(&all).contains(service), "{}", stderr(&all));
        let one = off(&["serve", service, "--help"]).output().await.unwrap();
        assert!(one.status.success() && stdout(&one).contains("NATS_URL"), "{service}: {}", stderr(&one));
    }
}

#[tokio::test]
async fn a_system_is_asked_how_it_is_and_stopped_from_elsewhere() {
    let home = Home::new();
    let nothing = home.run(&["status"]).await;
    assert!(nothing.status.code() == Some(3) && stdout(&nothing).contains("nothing runs in"), "{}", stdout(&nothing));
    assert!(!home.path().exists());
    let mut up = home.up(&["--speed", "600", "--no-generator"]).await;
    eventually("every service is ready", || async {
        let status = home.run(&["status"]).await;
        let services = ["users", "orders", "notifications"];
        let all = services.iter().all(|name| stdout(&status).contains(&format!("✓ {name}")));
        (status.status.success() && all).then_some(())
    })
    .await;
    let down = home.run(&["down"]).await;
    assert!(down.status.success() && stdout(&down).contains("off has stopped"), "{}", stderr(&down));
    assert!(up.child.wait().await.unwrap().success());
    let again = home.run(&["down"]).await;
    assert!(again.status.success() && stdout(&again).contains("nothing runs"), "{}", stderr(&again));
}

#[tokio::test]
async fn on_a_terminal_nothing_is_deleted_before_a_yes() {
    let home = Home::new();
    let data = home.path().join("nats");
    std::fs::create_dir_all(&data).unwrap();
    for (answer, code) in [("no\n", 1), ("yes\n", 0)] {
        let terminal = openpty(None, None).unwrap();
        let child = home.command(&["reset"]).stdin(terminal.slave).stdout(Stdio::piped()).spawn().unwrap();
        // Held until it has ended: a terminal that is gone answers nothing.
        let mut keyboard = File::from(terminal.master);
        keyboard.write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!((output.status.code(), data.exists()), (Some(code), code == 1), "{}", stdout(&output));
        assert!(stdout(&output).contains("nats") && stdout(&output).contains("keeps"), "{}", stdout(&output));
    }
}
