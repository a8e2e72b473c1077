//! `off up`: the whole system in one process.

use crate::{Home, place_order, stderr, stdout};
use async_nats::{ConnectOptions, jetstream::consumer::PullConsumer};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_events::{Order, streams};
use off_testkit::{LENTILS, eventually};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::{
    fs::File,
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

const QUICK: [&str; 4] = ["--speed", "600", "--households", "3"];

#[tokio::test]
async fn up_restocks_shelves_and_reset_deletes_everything() {
    let home = Home::new();
    let up = home.up(&QUICK).await;

    // A real device takes part over HTTP.
    let (ssd, ada) = home.register_device().await;
    let placed = place_order(&ada, ssd, 4).await;
    let completed = eventually("the order is completed", || async {
        let order = ada.get(placed.header("location")).await;
        // The shipping may be recorded after the completion, because events can arrive out of order.
        (order.body["history"].as_array()?.len() == 4).then_some(order)
    })
    .await;
    let states: Vec<&Value> =
        completed.body["history"].as_array().unwrap().iter().map(|step| &step["status"]).collect();
    assert_eq!(states, ["pending", "paid", "shipped", "completed"]);
    eventually("the delivery is on the shelf", || async {
        let device = ada.get(&format!("/api/devices/{ssd}")).await;
        // The generator orders for any device, so the shelf may hold other products too.
        let item = device.body["shelf"].as_array()?.iter().find(|item| item["barcode"] == LENTILS)?;
        (item["quantity"].as_i64()? >= 4).then_some(())
    })
    .await;

    // The other commands work on the running system, and a second `off up` is rejected.
    let again = home.run(&["up"]).await;
    assert!(!again.status.success() && stderr(&again).contains("off is already up"), "{}", stderr(&again));
    eventually("all is well", || async {
        let doctor = home.run(&["doctor"]).await;
        (doctor.status.success() && stdout(&doctor).contains("all is well")).then_some(())
    })
    .await;
    let mut watch = home.command(&["watch", "orders.completed", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let seen = BufReader::new(watch.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!((&seen["subject"], &seen["body"]["status"]), (&json!("orders.completed"), &json!("completed")));
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));

    // The stopped system can be audited, and continues after a restart.
    let (success, rest) = up.interrupt().await;
    assert!(success && rest.contains("stopped users") && rest.contains("orders placed so far"), "{rest}");
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success() && stdout(&audit).contains("every order is accounted for"), "{}", stdout(&audit));
    let up = home.up(&QUICK).await;
    // The token is valid as before.
    let ada = home.api().with_token_of(&ada);
    assert_eq!(ada.get(placed.header("location")).await.body["status"], "completed");
    assert!(up.interrupt().await.0);

    let reset = home.run(&["reset"]).await;
    assert!(reset.status.success() && stdout(&reset).contains("keeps the tools in bin"), "{}", stderr(&reset));
    assert!(!home.path().join("postgres").exists() && !home.path().join("nats").exists());
    let nothing = home.run(&["audit"]).await;
    assert!(!nothing.status.success() && stderr(&nothing).contains("off up"), "{}", stderr(&nothing));
}

#[tokio::test]
async fn a_killed_system_continues_after_a_restart() {
    let home = Home::new();
    let mut up = home.up(&QUICK).await;
    let orders = home.operator().await;
    eventually("some orders", || async {
        let page = orders.get("/api/orders").await;
        (page.body["orders"].as_array()?.len() >= 5).then_some(())
    })
    .await;
    // Like an out-of-memory kill: there is no shutdown, and the two servers keep running.
    up.child.kill().await.unwrap();
    let again = home.up(&["--speed", "600", "--no-generator"]).await;
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));
    let orders = home.operator().await;
    eventually("everything is completed", || async {
        let pending = orders.get("/api/orders?status=pending").await;
        let paid = orders.get("/api/orders?status=paid").await;
        let shipped = orders.get("/api/orders?status=shipped").await;
        let none = json!({"orders": []});
        [pending, paid, shipped].iter().all(|page| page.body == none).then_some(())
    })
    .await;
    assert!(again.interrupt().await.0);
}

#[tokio::test]
async fn down_stops_the_servers_of_a_killed_system() {
    let home = Home::new();
    let mut up = home.up(&["--no-generator"]).await;
    let url = home.running()["nats_url"].as_str().unwrap().to_owned();
    let address = url.rsplit_once('@').unwrap().1.to_owned();
    up.child.kill().await.unwrap();
    assert!(TcpStream::connect(&address).await.is_ok(), "the broker still runs");
    let down = home.run(&["down"]).await;
    assert!(down.status.success() && stdout(&down).contains("stopped the servers"), "{}", stdout(&down));
    assert!(TcpStream::connect(&address).await.is_err());
    let again = home.run(&["down"]).await;
    assert!(again.status.success() && stdout(&again).contains("nothing runs in"), "{}", stdout(&again));
}

#[tokio::test]
async fn a_start_succeeds_after_earlier_starts_were_killed() {
    let home = Home::new();
    // The kills hit all phases, from locking the folder over initdb to the migrations. Each start finds the state that
    // the previous one left.
    for moment in [20, 80, 200, 400, 600, 800, 1000, 1300, 1600, 2000, 2500, 3000] {
        let mut child = home.command(&["up"]).stdout(Stdio::null()).spawn().unwrap();
        let ended = timeout(Duration::from_millis(moment), child.wait()).await;
        assert!(ended.is_err(), "it exited before {moment} ms");
        child.kill().await.unwrap();
    }
    let output = home.run(&["up", "--for", "1s", "--no-generator"]).await;
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    // What an interrupted reset may leave: part of a cluster, marked as incomplete.
    std::fs::write(home.path().join("postgres.initdb"), "").unwrap();
    std::fs::remove_dir_all(home.path().join("postgres/base")).unwrap();
    let output = home.run(&["up", "--for", "1s", "--no-generator"]).await;
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
}

#[tokio::test]
async fn a_dead_letter_is_listed_shown_repaired_and_replayed() {
    let home = Home::new();
    let up = home.up(&["--speed", "600", "--no-generator"]).await;
    let url = home.running()["nats_url"].as_str().unwrap().to_owned();
    let (credentials, address) = url.trim_start_matches("nats://").split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let client =
        ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned()).connect(address).await.unwrap();
    client.publish(Order::PENDING, "{\"id\": 7}".into()).await.unwrap();
    client.publish(Order::PENDING, "\u{1b}[31mred".into()).await.unwrap();
    client.flush().await.unwrap();

    let list = eventually("the dead letters are listed", || async {
        let list = home.run(&["dead", "list"]).await;
        (stdout(&list).matches("orders.pending").count() == 2).then(|| stdout(&list))
    })
    .await;
    assert!(list.contains("billing-pending") && list.contains("not readable"), "{list}");
    let shown = home.run(&["dead", "show", "1"]).await;
    assert!(stdout(&shown).contains("id") && stdout(&shown).contains("deliveries"), "{}", stdout(&shown));
    let red = stdout(&home.run(&["dead", "show", "2"]).await);
    assert!(!red.contains('\u{1b}') && red.contains("\\u{1b}[31mred"), "{red}");

    // A deleted consumer is recreated.
    let jetstream = async_nats::jetstream::new(client);
    jetstream.delete_consumer_from_stream(streams::SUPPLIER.name, streams::ORDERS.name).await.unwrap();
    eventually("the consumer is there again", || async {
        let found: Result<PullConsumer, _> =
            jetstream.get_consumer_from_stream(streams::SUPPLIER.name, streams::ORDERS.name).await;
        found.ok()
    })
    .await;

    // A dead letter can be repaired and replayed.
    let body = stdout(&home.run(&["dead", "show", "1", "--body"]).await);
    assert_eq!(body, "{\"id\": 7}");
    let (ssd, ada) = home.register_device().await;
    let repaired = place_order(&ada, ssd, 3).await.body;
    let file = home.path().join("repaired.json");
    std::fs::write(&file, repaired.to_string()).unwrap();
    let replay = home.run(&["dead", "replay", "1", "--body", file.to_str().unwrap()]).await;
    assert!(replay.status.success(), "{}", stderr(&replay));
    let missing = home.run(&["dead", "replay", "1"]).await;
    assert!(
        !missing.status.success() && stderr(&missing).contains("there is no dead letter 1"),
        "{}",
        stderr(&missing)
    );

    let all = ["dead", "replay", "--all", "--consumer", "billing-pending", "--dry-run"];
    assert!(stdout(&home.run(&all).await).contains("dead letter 2 would be published on orders.pending again"));
    let later = ["dead", "replay", "--all", "--since", "2100-01-01T00:00:00Z"];
    assert!(stdout(&home.run(&later).await).contains("no dead letter matches"));
    let dropped = home.run(&["dead", "drop", "2", "--why", "a test"]).await;
    assert!(dropped.status.success(), "{}", stderr(&dropped));
    assert_eq!(stdout(&home.run(&["dead", "list", "--json"]).await), "[]\n");
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));
    assert!(up.interrupt().await.0);
}

#[tokio::test]
async fn servers_that_die_are_restarted_and_nothing_is_lost() {
    let home = Home::new();
    let mut up = home.up(&QUICK).await;
    let url = home.running()["database_url"].as_str().unwrap().to_owned();
    let completed = async || -> sqlx::Result<i64> {
        let mut conn = PgConnection::connect(&url).await?;
        sqlx::query_scalar("SELECT count(*) FROM orders.product_orders WHERE status = 'completed'")
            .fetch_one(&mut conn)
            .await
    };
    for (pid_file, name) in [("postgres/postmaster.pid", "PostgreSQL"), ("nats/nats.pid", "NATS")] {
        let pid = std::fs::read_to_string(home.path().join(pid_file)).unwrap();
        let pid = Pid::from_raw(pid.lines().next().unwrap().trim().parse().unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
        up.wait_for_line(&format!("{name} ended unexpectedly and is restarted")).await;
        let before = eventually("Postgres answers", || async { completed().await.ok() }).await;
        eventually("orders are completed again", || async { (completed().await.ok()? > before).then_some(()) }).await;
    }
    let (success, rest) = up.interrupt().await;
    assert!(success, "{rest}");
    let audit = home.run(&["audit"]).await;
    assert!(audit.status.success(), "{}", stdout(&audit));
}

#[tokio::test]
async fn up_with_for_stops_by_itself() {
    let home = Home::new();
    let output = home.run(&["up", "--for", "1s", "--no-generator"]).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("0 orders placed so far"), "{}", stdout(&output));
}

#[tokio::test]
async fn a_run_that_is_too_short_to_catch_up_does_not_move_the_heartbeat() {
    let home = Home::new();
    let run = async || {
        let output = home.run(&["up", "--for", "1s", "--no-generator"]).await;
        assert!(output.status.success(), "{}", stderr(&output));
    };
    // The first run writes the heartbeat at once, because there are no deadlines that passed before.
    run().await;
    let file = File::options().append(true).open(home.path().join("heartbeat")).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
    file.set_modified(an_hour_ago).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    run().await;
    assert_eq!(file.metadata().unwrap().modified().unwrap(), before);
}
