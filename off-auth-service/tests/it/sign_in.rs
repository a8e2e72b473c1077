//! People sign in.

use crate::{ADA, Auth, PASSWORD, read_token, text};
use argon2::{Argon2, Params, password_hash::PasswordHasher};
use axum::http::Method;
use chrono::TimeDelta;
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_person_signs_in_and_gets_a_token_of_rfc_9068() {
    let auth = Auth::start().await;
    let id = auth.add_person(ADA).await;
    // The address is found in any spelling.
    let answer = auth.log_in(" Ada@EXAMPLE.org", PASSWORD).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(answer.body["scope"], "person");
    let left = 30 * 24 * 3600 - answer.body["refresh_expires_in"].as_i64().unwrap();
    assert!((0..60).contains(&left), "{answer:?}");

    let (header, claims) = read_token(&answer.body["access_token"]);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("http://localhost:8080"), &json!("off")));
    assert_eq!((&claims["sub"], &claims["scope"]), (&json!(format!("user:{id}")), &json!("person")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    assert!(claims["jti"].is_string() && claims["client_id"].is_string());

    let sessions = auth.with_token(&text(&answer.body["access_token"])).get("/api/sessions").await;
    let [session] = &sessions.body["sessions"].as_array().unwrap()[..] else { panic!("{sessions:?}") };
    assert_eq!((&session["id"], &session["is_current"]), (&claims["sid"], &json!(true)));
    assert_eq!(auth.security_log().await, [("login".to_owned(), format!("user:{id}"))]);
    auth.end().await;
}

#[tokio::test]
async fn an_operator_gets_the_scope_of_operators() {
    let auth = Auth::start().await;
    let id = auth.add_person(ADA).await;
    let promote = "UPDATE auth.accounts SET is_operator = true WHERE user_id = $1";
    sqlx::query(promote).bind(id).execute(&auth.world.database.pool).await.unwrap();
    let tokens = auth.log_in(ADA, PASSWORD).await.body;
    assert_eq!(tokens["scope"], "person operate");
    assert_eq!(auth.with_token(&text(&tokens["access_token"])).get("/api/keys").await.status, 200);
    // The right is read again at each refresh.
    let demote = "UPDATE auth.accounts SET is_operator = false WHERE user_id = $1";
    sqlx::query(demote).bind(id).execute(&auth.world.database.pool).await.unwrap();
    let tokens = auth.refresh(&tokens).await.body;
    assert_eq!(tokens["scope"], "person");
    assert_eq!(auth.with_token(&text(&tokens["access_token"])).get("/api/keys").await.status, 403);
    auth.end().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let auth = Auth::start().await;
    let id = auth.add_person(ADA).await;
    let mut answers = Vec::new();
    for (email, password) in
        [(ADA, "wrong donkey battery"), ("nobody@example.org", PASSWORD), ("\0", PASSWORD), ("", ""), (ADA, "")]
    {
        let mut answer = auth.log_in(email, password).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_credentials"), "{email}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.body["trace_id"].take();
        answers.push(answer.body);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let ada = ("login_failed".to_owned(), format!("user:{id}"));
    let nobody = ("login_failed".to_owned(), String::new());
    assert_eq!(auth.security_log().await, [ada.clone(), nobody.clone(), nobody.clone(), nobody, ada]);

    let missing = auth.http().post("/api/login", &json!({"password": 1})).await;
    assert_eq!(missing.wrong_fields(), ["email", "password"]);
    auth.end().await;
}

#[tokio::test]
async fn wrong_passwords_are_limited_whether_or_not_somebody_has_the_address() {
    let auth = Auth::start_with(|config| config.auth_attempts = 3).await;
    auth.add_person(ADA).await;
    auth.add_person("bob@example.org").await;
    for email in [ADA, "nobody@example.org"] {
        for _ in 0..3 {
            assert_eq!(auth.log_in(email, "wrong donkey battery").await.status, 401);
        }
        let answer = auth.log_in(email, PASSWORD).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "too_many_attempts"), "{email}");
        let seconds: u32 = answer.header("retry-after").parse().unwrap();
        assert!((25..=30).contains(&seconds), "{seconds}");
    }
    assert_eq!(auth.log_in("bob@example.org", PASSWORD).await.status, 200);
    // Nobody is locked out: there is one more attempt after a while.
    auth.clock.move_by(TimeDelta::seconds(31));
    assert_eq!(auth.log_in(ADA, PASSWORD).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn wrong_passwords_from_one_network_do_not_keep_the_owner_out() {
    let auth = Auth::start_with(|config| config.auth_attempts = 2).await;
    auth.add_person(ADA).await;
    for (email, right) in [(ADA, 200), ("nobody@example.org", 401)] {
        // A client has the whole /56 of its IPv6 address.
        for address in ["2001:db8::1", "2001:db8::2"] {
            assert_eq!(auth.log_in_from(address, email, "wrong").await.status, 401, "{email}");
        }
        for _ in 0..30 {
            assert_eq!(auth.log_in_from("2001:db8::3", email, PASSWORD).await.status, 429, "{email}");
        }
        for address in ["2001:db8:0:100::1", "192.0.2.7", ""] {
            assert_eq!(auth.log_in_from(address, email, PASSWORD).await.status, right, "{email} from {address:?}");
        }
    }
    auth.end().await;
}

#[tokio::test]
async fn all_networks_together_have_a_limit_whether_or_not_somebody_has_the_address() {
    let auth = Auth::start_with(|config| {
        config.auth_attempts = 1;
        config.auth_attempt_interval = Duration::from_mins(10);
    })
    .await;
    auth.add_person(ADA).await;
    for email in [ADA, "nobody@example.org"] {
        for network in 0..10 {
            let answer = auth.log_in_from(&format!("192.0.2.{network}"), email, "wrong").await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_credentials"), "{email}");
        }
        // The account lets nobody try for a minute, its networks not for ten. A refused attempt does not count.
        for (address, seconds) in [("192.0.2.77", 30..=60), ("192.0.2.77", 30..=60), ("192.0.2.1", 570..=600)] {
            let answer = auth.log_in_from(address, email, PASSWORD).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (429, "too_many_attempts"), "{email}");
            let wait: u32 = answer.header("retry-after").parse().unwrap();
            assert!(seconds.contains(&wait), "{email} from {address}: {wait}");
        }
    }
    auth.clock.move_by(TimeDelta::seconds(61));
    assert_eq!(auth.log_in_from("192.0.2.77", ADA, PASSWORD).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn the_right_password_costs_no_attempt() {
    let auth = Auth::start_with(|config| config.auth_attempts = 1).await;
    auth.add_person(ADA).await;
    // More than one network may try, and more than all together.
    for _ in 0..12 {
        assert_eq!(auth.log_in(ADA, PASSWORD).await.status, 200);
    }
    auth.end().await;
}

#[tokio::test]
async fn concurrent_attempts_do_not_get_around_the_limit() {
    let auth = Auth::start_with(|config| config.auth_attempts = 5).await;
    auth.add_person(ADA).await;
    for email in [ADA, "nobody@example.org"] {
        let attempts = (0..12).map(|_| auth.log_in(email, "wrong donkey battery"));
        let mut statuses: Vec<u16> = join_all(attempts).await.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [[401; 5].as_slice(), &[429; 7]].concat(), "{email}");
    }
    auth.end().await;
}

#[tokio::test]
async fn a_hash_with_old_parameters_is_replaced_when_its_person_signs_in() {
    let auth = Auth::start().await;
    let id = auth.add_person(ADA).await;
    let cheap = Argon2::from(Params::new(8, 1, 1, None).unwrap());
    let cheap = cheap.hash_password(PASSWORD.as_bytes()).unwrap().to_string();
    let set = "UPDATE auth.accounts SET password_hash = $2 WHERE user_id = $1";
    sqlx::query(set).bind(id).bind(&cheap).execute(&auth.world.database.pool).await.unwrap();
    assert_eq!(auth.log_in(ADA, PASSWORD).await.status, 200);
    let get = "SELECT password_hash FROM auth.accounts WHERE user_id = $1";
    let hash: String = sqlx::query_scalar(get).bind(id).fetch_one(&auth.world.database.pool).await.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert_eq!(auth.log_in(ADA, PASSWORD).await.status, 200);
    auth.end().await;
}

#[tokio::test]
async fn a_browser_may_keep_the_refresh_token_in_a_cookie() {
    let auth = Auth::start().await;
    auth.add_person(ADA).await;
    let login = json!({"email": ADA, "password": PASSWORD, "cookie": true});
    let answer = auth.http().post("/api/login", &login).await;
    assert!(answer.body["access_token"].is_string() && answer.body.get("refresh_token").is_none(), "{answer:?}");
    let set = answer.header("set-cookie").to_owned();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert!(cookie.starts_with("__Host-off=offr_"), "{set}");
    let (age, attributes) = attributes.split_once("; ").unwrap();
    assert!(age.starts_with("Max-Age=259"), "{set}");
    assert_eq!(attributes, "HttpOnly; Secure; SameSite=Strict; Path=/");

    let send = |path: &str, site: Option<&str>| {
        let request = auth.http().request(Method::POST, path).header("cookie", format!("theme=dark; {cookie}"));
        let request = match site {
            Some(site) => request.header("sec-fetch-site", site),
            None => request,
        };
        let http = auth.http();
        async move { http.send(request).await }
    };
    // A page of another site cannot use the cookie, neither to refresh nor to sign out.
    for site in [None, Some("cross-site"), Some("same-site"), Some("none")] {
        assert_eq!(send("/api/refresh", site).await.status, 401, "{site:?}");
        assert_eq!(send("/api/logout", site).await.header("set-cookie"), "", "{site:?}");
    }
    let refreshed = send("/api/refresh", Some("same-origin")).await;
    assert!(refreshed.status == 200 && refreshed.body.get("refresh_token").is_none(), "{refreshed:?}");
    assert!(refreshed.header("set-cookie").starts_with("__Host-off=offr_"));
    let left = send("/api/logout", Some("same-origin")).await;
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").starts_with("__Host-off=; Max-Age=0;"), "{left:?}");
    auth.wait_until_refused(&refreshed.body["access_token"]).await;
    auth.end().await;
}
