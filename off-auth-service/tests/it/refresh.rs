//! Refreshing and ending sessions.

use crate::{ADA, Auth, PASSWORD, sid_of, text};
use chrono::TimeDelta;
use futures::future::join_all;
use off_testkit::eventually;
use serde_json::{Value, json};

async fn assert_invalid(auth: &Auth, tokens: &Value) {
    let answer = auth.refresh(tokens).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_grant"), "{answer:?}");
}

#[tokio::test]
async fn a_session_is_refreshed_again_and_again() {
    let auth = Auth::start().await;
    let (_, first) = auth.ada().await;
    let mut tokens = first.clone();
    for _ in 0..4 {
        let answer = auth.refresh(&tokens).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_ne!(answer.body["refresh_token"], tokens["refresh_token"]);
        assert_eq!(sid_of(&answer.body["access_token"]), sid_of(&tokens["access_token"]));
        tokens = answer.body;
        assert_eq!(auth.status_with(&tokens["access_token"]).await, 200);
    }
    // Access tokens of before stay valid until they expire: requests with them may be under way.
    assert_eq!(auth.status_with(&first["access_token"]).await, 200);
    auth.end().await;
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_get_the_same_successor() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let answers = join_all((0..8).map(|_| auth.refresh(&tokens))).await;
    let successors: Vec<&Value> = answers.iter().map(|answer| &answer.body["refresh_token"]).collect();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert!(successors.iter().all(|successor| *successor == successors[0]), "{successors:?}");
    assert_eq!(auth.refresh(&answers[0].body).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again_for_a_minute() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let lost = auth.refresh(&tokens).await.body;
    auth.clock.move_by(TimeDelta::seconds(40));
    let again = auth.refresh(&tokens).await;
    assert_eq!((again.status.as_u16(), &again.body["refresh_token"]), (200, &lost["refresh_token"]));
    // Repeating it does not extend the minute.
    auth.clock.move_by(TimeDelta::seconds(21));
    assert_invalid(&auth, &tokens).await;
    assert_invalid(&auth, &lost).await;
    auth.end().await;
}

#[tokio::test]
async fn a_stolen_refresh_token_ends_the_session_of_both() {
    let auth = Auth::start().await;
    let (id, stolen) = auth.ada().await;
    let other_device = auth.log_in(ADA, PASSWORD).await.body;
    let thief = auth.refresh(&stolen).await.body;
    let thief = auth.refresh(&thief).await.body;
    assert_eq!(auth.status_with(&thief["access_token"]).await, 200);
    // The person comes back with the token that the thief has used.
    assert_invalid(&auth, &stolen).await;
    assert_invalid(&auth, &thief).await;
    auth.wait_until_refused(&thief["access_token"]).await;
    auth.assert_revoked(&[sid_of(&stolen["access_token"])]).await;
    assert_eq!(auth.security_log().await.last().unwrap(), &("refresh_reused".to_owned(), format!("user:{id}")));
    // Other sessions go on.
    assert_eq!(auth.refresh(&other_device).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn a_forged_refresh_token_ends_nothing() {
    let auth = Auth::start().await;
    let (_, tokens) = auth.ada().await;
    let successor = auth.refresh(&tokens).await.body;
    let successor = auth.refresh(&successor).await.body;
    // The session id is in each access token, so anyone who sees one can write this.
    let old = text(&tokens["refresh_token"]);
    let mac = if old.ends_with('A') { "E" } else { "A" };
    let forged = format!("{}{mac}", &old[..old.len() - 1]);
    for forged in [&*forged, &old.replace(".0.", ".2."), "offr_..", "", "nonsense"] {
        assert_invalid(&auth, &json!({"refresh_token": forged})).await;
        assert_eq!(auth.log_out(&json!({"refresh_token": forged})).await.status, 204);
    }
    let successor = auth.refresh(&successor).await;
    assert_eq!(successor.status, 200);
    assert_eq!(auth.security_log().await.len(), 1);
    auth.log_out(&successor.body).await;
    auth.assert_revoked(&[sid_of(&tokens["access_token"])]).await;
    auth.end().await;
}

#[tokio::test]
async fn signing_out_ends_the_session_at_once_and_may_be_repeated() {
    let auth = Auth::start().await;
    let (id, tokens) = auth.ada().await;
    for _ in 0..3 {
        let answer = auth.log_out(&tokens).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_invalid(&auth, &tokens).await;
    auth.wait_until_refused(&tokens["access_token"]).await;
    auth.assert_revoked(&[sid_of(&tokens["access_token"])]).await;
    let subject = format!("user:{id}");
    assert_eq!(auth.security_log().await, [("login".to_owned(), subject.clone()), ("logout".to_owned(), subject)]);
    let neither = auth.http().post("/api/logout", &json!({})).await;
    assert_eq!(neither.status, 204);
    auth.end().await;
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_after_half_a_year() {
    let auth = Auth::start().await;
    let (_, idle) = auth.ada().await;
    let mut used = auth.log_in(ADA, PASSWORD).await.body;
    for _ in 0..8 {
        auth.clock.move_by(TimeDelta::days(21));
        // There may be no key that signs for a moment: the clock moved on by weeks. The same token works until it is
        // used.
        used = eventually("the session is refreshed", || async {
            let answer = auth.refresh(&used).await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
    }
    assert_invalid(&auth, &idle).await;
    // 168 days have passed: a refresh does not extend the session beyond 180.
    let days_left = used["refresh_expires_in"].as_i64().unwrap() / (24 * 3600);
    assert!((11..=12).contains(&days_left), "{used}");
    auth.clock.move_by(TimeDelta::days(12));
    assert_invalid(&auth, &used).await;
    auth.end().await;
}
