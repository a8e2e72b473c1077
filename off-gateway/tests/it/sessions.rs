//! The cookie with the session key of a browser.

use crate::{Gate, upstream::SESSION_KEY};
use reqwest::{Method, RequestBuilder};
use std::sync::atomic::Ordering;

fn with_cookie(gate: &Gate, method: Method, path: &str, key: &str) -> RequestBuilder {
    let cookie = format!("theme=dark; __Host-off-session={key}");
    gate.http().anonymous().request(method, path).header("cookie", cookie)
}

#[tokio::test]
async fn a_browser_sends_its_session_key_in_a_cookie() {
    let gate = Gate::start().await;
    for _ in 0..3 {
        let answer = with_cookie(&gate, Method::GET, "/api/orders", SESSION_KEY).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(gate.upstream.seen.tokens.load(Ordering::SeqCst), 1, "the token is kept");
    let received = gate.upstream.last_headers();
    assert!(received["authorization"].to_str().unwrap().starts_with("Bearer "));
    assert!(!received.contains_key("cookie"));
    // The cookie names a person.
    assert_eq!(with_cookie(&gate, Method::GET, "/api/users/18", SESSION_KEY).send().await.unwrap().status(), 404);
    gate.end().await;
}

#[tokio::test]
async fn a_session_that_is_signed_out_is_exchanged_no_more() {
    let gate = Gate::start().await;
    let get = async || with_cookie(&gate, Method::GET, "/api/orders", SESSION_KEY).send().await.unwrap().status();
    assert_eq!(get().await, 200);
    let sign_out = with_cookie(&gate, Method::POST, "/sign-out", SESSION_KEY).header("sec-fetch-site", "same-origin");
    assert_eq!(sign_out.send().await.unwrap().status(), 303);
    let before = gate.upstream.seen.tokens.load(Ordering::SeqCst);
    // The auth service is asked again, and would refuse it.
    assert_eq!(get().await, 200);
    assert_eq!(gate.upstream.seen.tokens.load(Ordering::SeqCst), before + 1);
    gate.end().await;
}

#[tokio::test]
async fn a_person_whose_session_nobody_can_check_now_is_not_told_to_sign_in() {
    let gate = Gate::start().await;
    gate.upstream.kill();
    let page =
        with_cookie(&gate, Method::GET, "/orders", SESSION_KEY).header("hx-request", "true").send().await.unwrap();
    assert_eq!((page.status().as_u16(), page.headers().get("hx-redirect")), (503, None));
    assert_eq!(with_cookie(&gate, Method::GET, "/sign-in", SESSION_KEY).send().await.unwrap().status(), 200);
    gate.end().await;
}

#[tokio::test]
async fn only_a_page_of_the_same_origin_may_use_the_cookie_for_an_effect() {
    let gate = Gate::start().await;
    let host = gate.address().to_string();
    let post = |name: &'static str, value: String| {
        let http = gate.http();
        let request = with_cookie(&gate, Method::POST, "/api/orders", SESSION_KEY).header(name, value);
        async move { http.send(request.body("{}")).await }
    };
    for (name, value) in [
        ("sec-fetch-site", "cross-site".to_owned()),
        ("sec-fetch-site", "same-site".to_owned()),
        ("origin", "https://evil.example".to_owned()),
        ("x-requested-with", "XMLHttpRequest".to_owned()),
    ] {
        let answer = post(name, value.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "cross_site"), "{name}: {value}");
    }
    assert_eq!(gate.upstream.paths(), [""; 0]);
    assert_eq!(post("sec-fetch-site", "same-origin".to_owned()).await.status, 200);
    assert_eq!(post("origin", format!("http://{host}")).await.status, 200);
    // A token is not sent by browsers on their own.
    let request = gate.http().as_person(17).request(Method::POST, "/api/orders").header("sec-fetch-site", "cross-site");
    assert_eq!(request.body("{}").send().await.unwrap().status(), 200);
    gate.end().await;
}

#[tokio::test]
async fn the_cookie_of_an_ended_session_is_removed() {
    let gate = Gate::start().await;
    let ended = SESSION_KEY.replace("AAA", "BBB");
    for key in [ended.as_str(), "nonsense"] {
        let answer = with_cookie(&gate, Method::GET, "/api/orders", key).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
            (401, &"Bearer".parse().unwrap())
        );
        let page = with_cookie(&gate, Method::GET, "/", key).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.headers()["set-cookie"].to_str().unwrap().starts_with("__Host-off-session=; Max-Age=0;"));
        // A static file asks nobody.
        let asset = with_cookie(&gate, Method::GET, "/assets/none.css", key).send().await.unwrap();
        assert!(asset.headers().get("set-cookie").is_none());
    }
    gate.end().await;
}
