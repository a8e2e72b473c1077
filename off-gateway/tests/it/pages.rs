//! The pages, without a browser.

use crate::{Gate, upstream::SESSION_KEY};
use off_kit::Clock;
use reqwest::{Client, Method, Response, redirect::Policy};

/// A client that follows no redirects, as a page sends its forms.
struct Browser {
    client: Client,
    base: String,
}

impl Browser {
    fn of(gate: &Gate) -> Self {
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { client, base: gate.http().base().to_owned() }
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    async fn post(&self, path: &str, form: &'static str) -> Response {
        let request = self.client.request(Method::POST, format!("{}{path}", self.base)).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("sec-fetch-site", "same-origin").send().await.unwrap()
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_page_allows_browsers_nothing_that_it_does_not_need() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    for path in ["/", "/sign-in", "/register"] {
        let page = browser.get(path).await;
        assert_eq!(
            (page.status().as_u16(), header(&page, "content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        let policy = header(&page, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(header(&page, "permissions-policy").contains("camera=()"), "{path}");
        assert_eq!(header(&page, "cache-control"), "no-store");
        let text = page.text().await.unwrap();
        assert!(!text.contains("style=") && !text.contains("<style") && !text.contains("onclick"), "{path}");
    }
    gate.end().await;
}

#[tokio::test]
async fn static_files_are_kept_for_ever_and_pages_are_compressed() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    let text = browser.get("/").await.text().await.unwrap();
    let paths: Vec<&str> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        let asset = browser.get(path).await;
        assert_eq!(asset.status(), 200, "{path}");
        assert_eq!(header(&asset, "cache-control"), "public, max-age=31536000, immutable");
        let compressed = browser.client.get(format!("{}{path}", browser.base)).header("accept-encoding", "gzip");
        let compressed = compressed.send().await.unwrap();
        assert_eq!(
            (header(&compressed, "vary"), header(&compressed, "x-content-type-options")),
            ("accept-encoding", "nosniff")
        );
    }
    assert_eq!(browser.get("/assets/off.0000000000000000.css").await.status(), 404);
    gate.end().await;
}

#[tokio::test]
async fn who_has_not_signed_in_is_sent_to_the_sign_in_and_back() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    let page = browser.get("/orders?status=paid").await;
    assert_eq!((page.status().as_u16(), header(&page, "location")), (303, "/sign-in?next=/orders%3Fstatus%3Dpaid"));
    let form = browser.get(header(&page, "location")).await.text().await.unwrap();
    assert!(form.contains("name=\"next\" value=\"/orders?status=paid\""), "{form}");
    gate.end().await;
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_even_without_a_cookie() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    for path in ["/sign-in", "/register", "/sign-out"] {
        let request = browser.client.post(format!("{}{path}", browser.base)).header("sec-fetch-site", "cross-site");
        assert_eq!(request.body("email=a&password=b").send().await.unwrap().status(), 403, "{path}");
    }
    assert_eq!(gate.upstream.paths(), [""; 0]);
    gate.end().await;
}

#[tokio::test]
async fn a_browser_gets_a_page_for_what_is_refused_before_a_page_is_made() {
    let gate = Gate::start_with(Clock::real(1.0), |config| config.rates.rate_anonymous = "3/1h".parse().unwrap()).await;
    let browser = Browser::of(&gate);
    let ask = async |method: Method, path: &str, accept: &str| {
        let request = browser.client.request(method, format!("{}{path}", browser.base)).header("accept", accept);
        request.header("sec-fetch-site", "cross-site").send().await.unwrap()
    };
    let html = "text/html,application/xhtml+xml";
    for (method, path, status, text) in [
        (Method::GET, "/nowhere-at-all", 404, "Not found"),
        (Method::POST, "/sign-out", 403, "Not allowed"),
        (Method::GET, "/", 200, "Households"),
        (Method::GET, "/", 429, "Too many requests"),
    ] {
        let page = ask(method, path, html).await;
        assert_eq!(
            (page.status().as_u16(), header(&page, "content-type")),
            (status, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(header(&page, "content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert_eq!(header(&page, "retry-after").is_empty(), status != 429, "{path}");
        let body = page.text().await.unwrap();
        assert!(body.contains(text), "{path}: {body}");
    }
    // Programs get the problem.
    for (path, accept) in [("/nowhere-at-all", "*/*"), ("/api/nowhere", html)] {
        let problem = ask(Method::GET, path, accept).await;
        assert_eq!(header(&problem, "content-type"), "application/problem+json", "{path}");
    }
    gate.end().await;
}

#[tokio::test]
async fn signing_out_ends_the_session_and_removes_the_cookie() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    let request = browser.client.post(format!("{}/sign-out", browser.base)).header("sec-fetch-site", "same-origin");
    let answer = request.header("cookie", format!("__Host-off-session={SESSION_KEY}")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "location")), (303, "/"));
    assert!(header(&answer, "set-cookie").starts_with("__Host-off-session=; Max-Age=0;"));
    assert_eq!(gate.upstream.paths().last().unwrap(), "POST /oauth/revoke");
    assert!(!gate.upstream.last_headers().contains_key("authorization"), "it would have to be that of a client");
    gate.end().await;
}

#[tokio::test]
async fn an_unknown_page_is_not_found_and_a_large_form_is_refused() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    assert_eq!(browser.get("/nowhere").await.status(), 404);
    let large = Box::leak(format!("email={}", "a".repeat(17 * 1024)).into_boxed_str());
    assert_eq!(browser.post("/sign-in", large).await.status(), 413);
    gate.end().await;
}

#[tokio::test]
async fn a_path_or_a_query_that_is_not_valid_is_refused_with_a_page() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    for path in ["/catalog?page=x", "/catalog?q=a&q=b", "/sign-in?next=a&next=b"] {
        let page = browser.get(path).await;
        assert_eq!(
            (page.status().as_u16(), header(&page, "content-type")),
            (400, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(page.text().await.unwrap().contains("a value that is not valid"), "{path}");
    }
    gate.end().await;
}

#[tokio::test]
async fn a_form_without_a_readable_answer_can_be_sent_again_with_its_key() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    // The upstream answers, but not with an order.
    let path = "/catalog/2000000000015/order";
    let request = browser.client.post(format!("{}{path}", browser.base)).header("sec-fetch-site", "same-origin");
    let request = request.header("cookie", format!("__Host-off-session={SESSION_KEY}"));
    let form = "key=the-first-key&ssd_id=7&quantity=%22%3E2";
    let page = request.header("content-type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
    assert_eq!(page.status(), 503);
    let text = page.text().await.unwrap();
    for part in [r#"action="/catalog/2000000000015/order""#, r#"name="key" value="the-first-key""#, "&#34;&#62;2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    gate.end().await;
}

#[tokio::test]
async fn the_first_page_for_a_while_shows_the_system_as_it_is_now() {
    let gate = Gate::start().await;
    let browser = Browser::of(&gate);
    // Since the gateway looked at its start.
    gate.nats.publish_bytes(off_events::streams::BILLING_PENDING.dead_subject(), "a dead letter").await;
    let text = browser.get("/").await.text().await.unwrap();
    assert!(text.contains(r#"<dd id="dead" class="warning">1</dd>"#), "{text}");
    gate.nats.delete_messages(off_events::streams::DEAD_LETTERS.name).await;
    gate.end().await;
}
