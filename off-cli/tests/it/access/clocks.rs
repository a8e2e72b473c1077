//! The clocks of the auth service and of those who verify its tokens differ.

use super::{
    forged,
    system::{Setup, System},
};
use chrono::TimeDelta;
use off_kit::Clock;
use off_testkit::tokens;
use serde_json::json;

/// How long access tokens are valid.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// How far clocks may differ.
const TOLERANCE: TimeDelta = TimeDelta::seconds(60);

/// How long a test may take between two steps, at most.
const SLACK: TimeDelta = TimeDelta::seconds(8);

/// The statuses at the gateway and at two services.
async fn statuses(system: &System, token: &str) -> [u16; 3] {
    let mut statuses = [0; 3];
    let requests =
        [(system.anonymous(), "/api/orders"), (system.orders(), "/api/orders"), (system.users(), "/api/devices")];
    for (status, (http, path)) in statuses.iter_mut().zip(requests) {
        *status = http.with_token(token).get(path).await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute() {
    let (clock, mover) = Clock::movable(1.0);
    let system = System::start_with(Setup { by_url: false, clock }).await;
    let sign_in = async || {
        let login = json!({"email": "ada@example.org", "password": "correct horse battery"});
        let signed_in = system.anonymous().post("/api/login", &login).await;
        signed_in.body["access_token"].as_str().unwrap().to_owned()
    };

    // A token that is used in its last seconds, by a clock that is almost 60 s ahead: for the first time, and again.
    let token = sign_in().await;
    mover.move_by(LIFETIME + TOLERANCE - SLACK);
    assert_eq!(statuses(&system, &token).await, [200; 3]);
    assert_eq!(statuses(&system, &token).await, [200; 3]);
    mover.move_by(TimeDelta::seconds(30) + SLACK);
    assert_eq!(statuses(&system, &token).await, [401; 3]);

    // A clock that is behind: the token is from the future.
    mover.move_by(-(LIFETIME + TimeDelta::seconds(90)) - TOLERANCE);
    assert_eq!(statuses(&system, &sign_in().await).await, [200; 3]);
    // Only `nbf` forbids an early use.
    let not_before = |seconds: i64| {
        let at = (clock.now() + TimeDelta::seconds(seconds)).timestamp();
        forged::signed(&system.ada, |_, claims| claims["nbf"] = json!(at))
    };
    assert_eq!(statuses(&system, &not_before(58)).await, [200; 3]);
    assert_eq!(statuses(&system, &not_before(90)).await, [401; 3]);
    assert_eq!(statuses(&system, &tokens::person(system.ada.user_id)).await, [200; 3]);
    system.end().await;
}
