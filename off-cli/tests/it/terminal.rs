//! Closed terminals and pipes, help, `off status`, `off down`, and the confirmation of `off reset`.

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
async fn closing_the_terminal_shuts_down_gracefully() {
    let home = Home::new();
    let mut up = home.up(&["--speed", "600", "--no-generator"]).await;
    let postmaster = std::fs::read_to_string(home.path().join("postgres/postmaster.pid")).unwrap();
    let postmaster = pid(postmaster.lines().next().unwrap());
    let off = pid(&up.child.id().unwrap().to_string());
    // Both the shell and the kernel send SIGHUP, so a second one arrives during the shutdown; nobody reads the output.
    kill(off, Signal::SIGHUP).unwrap();
    up.wait_for_line("stopped notifications").await;
    kill(off, Signal::SIGHUP).unwrap();
    drop(up.lines);
    assert!(up.child.wait().await.unwrap().success());
    assert!(!home.path().join("running.json").exists());
    eventually("Postgres has ended", || async { kill(postmaster, None).is_err().then_some(()) }).await;
}

#[tokio::test]
async fn no_command_panics_on_a_closed_pipe() {
    for arguments in [&["asyncapi"][..], &["openapi", "orders"], &["serve", "users", "openapi"]] {
        let mut child = off(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn serve_help_covers_every_service() {
    let all = off(&["serve", "--help"]).output().await.unwrap();
    for service in ["users", "orders", "billing", "notifications", "operator", "generator"] {
        assert!(all.status.success() && stdout(&all).contains(service), "{}", stderr(&all));
        let one = off(&["serve", service, "--help"]).output().await.unwrap();
        assert!(one.status.success() && stdout(&one).contains("NATS_URL"), "{service}: {}", stderr(&one));
    }
}

#[tokio::test]
async fn status_and_down_work_from_another_process() {
    let home = Home::new();
    let nothing = home.run(&["status"]).await;
    assert!(nothing.status.code() == Some(3) && stdout(&nothing).contains("nothing runs in"), "{}", stdout(&nothing));
    assert!(!home.path().exists());
    let mut up = home.up(&["--speed", "600", "--no-generator"]).await;
    eventually("every service is ready", || async {
        let status = home.run(&["status"]).await;
        let services = ["users", "orders", "billing", "notifications"];
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
async fn reset_on_a_terminal_deletes_only_after_yes() {
    let home = Home::new();
    let data = home.path().join("nats");
    std::fs::create_dir_all(&data).unwrap();
    for (answer, code) in [("no\n", 1), ("yes\n", 0)] {
        let terminal = openpty(None, None).unwrap();
        let child = home.command(&["reset"]).stdin(terminal.slave).stdout(Stdio::piped()).spawn().unwrap();
        // Kept open until the child has exited: reading from a closed terminal fails.
        let mut keyboard = File::from(terminal.master);
        keyboard.write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!((output.status.code(), data.exists()), (Some(code), code == 1), "{}", stdout(&output));
        assert!(stdout(&output).contains("nats") && stdout(&output).contains("keeps"), "{}", stdout(&output));
    }
}

#[tokio::test]
async fn a_home_that_cannot_be_read_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for command in ["status", "doctor", "down"] {
        let output = off(&["--home", file.path().to_str().unwrap(), command]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {}", stdout(&output));
        assert!(stderr(&output).contains("cannot read"), "{command}: {}", stderr(&output));
    }
}
