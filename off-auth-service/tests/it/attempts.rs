//! Attempts to sign in are counted once for all replicas, and a right password costs none.

use crate::{ADA, Auth, PASSWORD, text};
use off_kit::password::Hasher;
use off_testkit::{Http, Running, eventually};
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};

const NOBODY: &str = "nobody@example.org";

/// The status and the code of a sign-in.
async fn sign_in(service: &Running, email: &str, password: &str) -> (u16, String) {
    let answer = service.http.anonymous().post("/api/login", &json!({"email": email, "password": password})).await;
    let code = if answer.status == 200 { String::new() } else { answer.code().to_owned() };
    (answer.status.as_u16(), code)
}

/// The number of attempts of an e-mail address that are used now: from its networks, and from all together.
async fn used(db: &PgPool, email: &str) -> (i64, i64) {
    let used = "SELECT count(*) FILTER (WHERE network <> ''), count(*) FILTER (WHERE network = '')
                FROM auth.sign_in_attempts
                WHERE email_sha256 = sha256(convert_to($1, 'UTF8')) AND full_at > now() + interval '1 second'";
    sqlx::query_as(used).bind(email).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn replicas_answer_alike_whether_or_not_somebody_has_the_address() {
    let auth = Auth::start_with(|config| config.auth_attempts = 3).await;
    auth.add_person(ADA).await;
    let other = auth.start_replica_with(&auth.secret, |config| config.auth_attempts = 3).await;
    for email in [ADA, NOBODY, "no address"] {
        for service in [&auth.service, &other, &auth.service] {
            assert_eq!(sign_in(service, email, "wrong").await, (401, "invalid_credentials".to_owned()), "{email}");
        }
        for service in [&auth.service, &other] {
            assert_eq!(sign_in(service, email, "wrong").await, (429, "too_many_attempts".to_owned()), "{email}");
        }
    }
    // A replica that starts later answers like one that has restarted.
    let restarted = auth.start_replica_with(&auth.secret, |config| config.auth_attempts = 3).await;
    for email in [ADA, NOBODY, " NoBody@EXAMPLE.org", "no address"] {
        assert_eq!(sign_in(&restarted, email, "wrong").await, (429, "too_many_attempts".to_owned()), "{email}");
    }
    auth.world.end_after(vec![auth.service, other, restarted], &[]).await;
}

#[tokio::test]
async fn attempts_leave_the_same_rows_whether_or_not_somebody_has_the_address() {
    let auth = Auth::start_with(|config| config.auth_attempts = 1).await;
    auth.add_person(ADA).await;
    let db = &auth.world.database.pool;
    for email in [ADA, NOBODY] {
        assert_eq!(sign_in(&auth.service, email, "wrong").await.0, 401);
        assert_eq!(used(db, email).await, (1, 1), "{email}");
    }
    let rows = "SELECT ctid::text, xmin::text, xmax::text FROM auth.sign_in_attempts ORDER BY ctid";
    let rows = || async { sqlx::query_as::<_, (String, String, String)>(rows).fetch_all(db).await.unwrap() };
    let before = rows().await;
    // A refused attempt writes nothing.
    for email in [ADA, NOBODY] {
        assert_eq!(sign_in(&auth.service, email, PASSWORD).await.0, 429);
    }
    assert_eq!((before.len(), rows().await), (4, before));
    auth.end().await;
}

#[tokio::test]
async fn a_full_hashing_queue_costs_no_attempt() {
    let auth = Auth::start_with(|config| config.auth_attempts = 1).await;
    let (_, own) = auth.ada().await;
    let busy = auth.start_replica_with(&auth.secret, |config| {
        config.auth_attempts = 1;
        config.hasher = Hasher::with_queue(0);
    });
    let busy = busy.await;
    let change = |http: &Http, old: &str, new: &str| {
        let http = http.with_token(text(&own["access_token"]));
        let body = json!({"old_password": old, "new_password": new});
        async move { http.put("/api/password", &body).await.status.as_u16() }
    };
    for _ in 0..3 {
        for email in [ADA, NOBODY] {
            assert_eq!(sign_in(&busy, email, PASSWORD).await, (503, "unavailable".to_owned()), "{email}");
        }
        assert_eq!(change(&busy.http, PASSWORD, "wrong donkey battery").await, 503);
    }
    assert_eq!(
        (used(&auth.world.database.pool, ADA).await, used(&auth.world.database.pool, NOBODY).await),
        ((0, 0), (0, 0))
    );
    assert_eq!(sign_in(&auth.service, ADA, PASSWORD).await.0, 200);
    assert_eq!(change(&auth.service.http, PASSWORD, "wrong donkey battery").await, 204);
    auth.world.end_after(vec![auth.service, busy], &[]).await;
}

/// Holds up whatever writes to the security log: the end of each sign-in, and of each change of a password.
async fn hold_up(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut tx = db.begin().await.unwrap();
    sqlx::query("LOCK TABLE auth.security_events IN EXCLUSIVE MODE").execute(&mut *tx).await.unwrap();
    tx
}

/// Waits until statements wait for a lock.
async fn wait_until_held_up(db: &PgPool, statements: i64) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("the statements wait for the lock", || async {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(db).await.unwrap();
        (waiting >= statements).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_ends_although_its_client_has_left() {
    let auth = Auth::start_with(|config| config.auth_attempts = 2).await;
    let id = auth.add_person(ADA).await;
    let db = &auth.world.database.pool;
    let held = hold_up(db).await;
    let (address, logged_in) = (auth.service.http.anonymous(), json!({"email": ADA, "password": PASSWORD}));
    let leaving = tokio::spawn(async move { address.post("/api/login", &logged_in).await });
    wait_until_held_up(db, 1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    // The service gives up waiting after a second, in which it also notices that the other client has left.
    assert_eq!(sign_in(&auth.service, NOBODY, "wrong").await.0, 503);
    held.commit().await.unwrap();
    let (kinds, ada) = (["login", "login_failed"], format!("user:{id}"));
    eventually("both sign-ins are logged", || async {
        let mut log = auth.security_log().await;
        log.sort_unstable();
        let expected = [(kinds[0].to_owned(), ada.clone()), (kinds[1].to_owned(), String::new())];
        (log == expected).then_some(())
    })
    .await;
    // The right password cost nothing, the wrong one an attempt.
    assert_eq!((used(db, ADA).await, used(db, NOBODY).await), ((0, 0), (1, 1)));
    auth.end().await;
}

#[tokio::test]
async fn a_change_of_a_password_ends_although_its_client_has_left() {
    const NEW: &str = "wrong donkey battery";
    let auth = Auth::start_with(|config| config.auth_attempts = 1).await;
    let (_, own) = auth.ada().await;
    let db = &auth.world.database.pool;
    let held = hold_up(db).await;
    let http = auth.with_token(&text(&own["access_token"]));
    let body = json!({"old_password": PASSWORD, "new_password": NEW});
    let leaving = tokio::spawn({
        let http = http.clone();
        async move { http.put("/api/password", &body).await }
    });
    wait_until_held_up(db, 1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert_eq!(sign_in(&auth.service, NOBODY, "wrong").await.0, 503);
    held.commit().await.unwrap();
    eventually("the password is changed", || async {
        let log = auth.security_log().await;
        log.iter().any(|(kind, _)| kind == "password_changed").then_some(())
    })
    .await;
    assert_eq!(used(db, ADA).await, (0, 0));
    assert_eq!(sign_in(&auth.service, ADA, NEW).await.0, 200);
    auth.end().await;
}

#[tokio::test]
async fn whoever_stops_being_an_operator_during_a_sign_in_does_not_get_the_scope() {
    let auth = Auth::start().await;
    let id = auth.add_person(ADA).await;
    let db = &auth.world.database.pool;
    let set = "UPDATE auth.accounts SET is_operator = $2 WHERE user_id = $1";
    sqlx::query(set).bind(id).bind(true).execute(db).await.unwrap();
    let mut removing = db.begin().await.unwrap();
    sqlx::query(set).bind(id).bind(false).execute(&mut *removing).await.unwrap();
    let commit = async {
        wait_until_held_up(db, 1).await;
        removing.commit().await.unwrap();
    };
    let (tokens, ()) = futures::future::join(auth.log_in(ADA, PASSWORD), commit).await;
    assert_eq!((tokens.status.as_u16(), &tokens.body["scope"]), (200, &json!("person")));
    auth.end().await;
}
