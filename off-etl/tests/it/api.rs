//! Imports from the HTTP API, with a fake server that refuses requests like the original.

use crate::{counts, options, record};
use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use off_etl::{ApiConfig, Choice, Filter, NoObserver, Profile, api::Api};
use off_kit::Clock;
use off_testkit::Database;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, time::Instant};

/// A fake API with the next responses and the requests so far.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    responses: Arc<Mutex<VecDeque<Response>>>,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

/// The query and headers of a request, and when it arrived.
pub(crate) type Request = (HashMap<String, String>, HeaderMap, Instant);

async fn search(
    State(api): State<FakeApi>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    api.requests.lock().unwrap().push((query, headers, Instant::now()));
    api.responses.lock().unwrap().pop_front().unwrap_or_else(|| page(&[]))
}

fn page(records: &[String]) -> Response {
    let body = format!(r#"{{"count": 3, "page": 1, "page_size": 100, "products": [{}]}}"#, records.join(","));
    ([("content-type", "application/json")], body).into_response()
}

/// Starts the fake API with these responses. Returns it and the settings of a client for it.
async fn listen(responses: Vec<Response>, max_runs: u32) -> (FakeApi, ApiConfig) {
    let fake = FakeApi { responses: Arc::new(Mutex::new(responses.into())), ..FakeApi::default() };
    let app = Router::new().route("/api/v2/search", get(search)).with_state(fake.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (fake, ApiConfig { api_url: url, run_period: 1, max_runs, contact: Some("tests@example.org".to_owned()) })
}

/// The same with a client whose clock runs a thousand times as fast.
pub(crate) async fn start(responses: Vec<Response>, max_runs: u32) -> (FakeApi, Api) {
    let (fake, config) = listen(responses, max_runs).await;
    (fake, Api::new(&config, Clock::real(1000.0)).unwrap())
}

#[tokio::test]
async fn pages_are_read_until_the_last() {
    let db = Database::new().await;
    let pages = vec![
        page(&[record("2000000000015", "One", 1), "7".to_owned(), record("2000000000022", "Two", 1)]),
        page(&[record("2000000000039", "Three", 1)]),
    ];
    let (fake, api) = start(pages, 0).await;
    let report = api.import(options(&Profile::Default.into(), Some(&db.pool)), &mut NoObserver).await.unwrap();
    assert_eq!(counts(&report), [4, 3, 0, 0, 1]);
    let requests = fake.requests.lock().unwrap();
    let pages: Vec<&str> = requests.iter().map(|(query, ..)| query["page"].as_str()).collect();
    assert_eq!(pages, ["1", "2", "3"]);
    let (query, headers, _) = &requests[0];
    assert_eq!(query["page_size"], "100");
    assert!(query["fields"].starts_with("code,product_name,"));
    let agent = headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("off/") && agent.ends_with("(tests@example.org)"), "{agent}");
}

#[tokio::test]
async fn an_unreachable_api_fails_at_once() {
    let (_, config) = listen(vec![], 1).await;
    // Nothing listens there.
    let config = ApiConfig { api_url: "http://127.0.0.1:1".parse().unwrap(), ..config };
    let api = Api::new(&config, Clock::real(1.0)).unwrap();
    let began = Instant::now();
    let error = api.import(options(&Profile::All.into(), None), &mut NoObserver).await.unwrap_err();
    assert!(format!("{error:#}").contains("is there a network"), "{error:#}");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}

#[tokio::test]
async fn transient_errors_of_every_kind_are_retried() {
    let db = Database::new().await;
    let responses = vec![
        (StatusCode::TOO_MANY_REQUESTS, Html("<html>Too many requests</html>")).into_response(),
        (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "30")], "later").into_response(),
        Html("<!DOCTYPE html><html>busy</html>").into_response(),
        ([("content-type", "application/json")], "{\"products\": [{\"code\"").into_response(),
        page(&[record("2000000000015", "One", 1)]),
    ];
    let (fake, api) = start(responses, 1).await;
    let report = api.import(options(&Profile::Default.into(), Some(&db.pool)), &mut NoObserver).await.unwrap();
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests.len(), 5);
    // `Retry-After` was 30 seconds, which are 30 milliseconds by this clock.
    assert!((requests[2].2 - requests[1].2).as_millis() >= 30);
}

#[tokio::test]
async fn a_period_below_the_minimum_is_raised_to_it() {
    let db = Database::new().await;
    let pages = vec![page(&[record("2000000000015", "One", 1)]), page(&[record("2000000000022", "Two", 1)])];
    // The minimum of six seconds is two at three times real speed; `ETL_RUN_PERIOD=1` would be a third of a second.
    let (fake, config) = listen(pages, 2).await;
    Api::new(&config, Clock::real(3.0))
        .unwrap()
        .import(options(&Profile::Default.into(), Some(&db.pool)), &mut NoObserver)
        .await
        .unwrap();
    let requests = fake.requests.lock().unwrap();
    let pause = requests[1].2 - requests[0].2;
    assert!(pause.as_millis() >= 1500, "the second page was requested after {pause:?}");
}

#[tokio::test]
async fn an_interrupted_search_resumes_at_its_page() {
    let db = Database::new().await;
    let responses = vec![
        page(&[record("2000000000015", "One", 1), record("2000000000022", "Two", 1)]),
        StatusCode::FORBIDDEN.into_response(),
        page(&[record("2000000000039", "Three", 1)]),
    ];
    let (fake, api) = start(responses, 0).await;
    let choice = Choice::from(Profile::Default);
    api.import(options(&choice, Some(&db.pool)), &mut NoObserver).await.unwrap_err();
    let report = api.import(options(&choice, Some(&db.pool)), &mut NoObserver).await.unwrap();
    assert_eq!(counts(&report), [3, 3, 0, 0, 0]);
    let requests = fake.requests.lock().unwrap();
    let pages: Vec<&str> = requests.iter().map(|(query, ..)| query["page"].as_str()).collect();
    assert_eq!(pages, ["1", "2", "2", "3"]);
}

#[tokio::test]
async fn a_country_is_requested_and_checked_and_a_redirect_is_followed() {
    let db = Database::new().await;
    let french = record("2000000000015", "One", 1)
        .replace("\"nova_group\"", "\"countries_tags\": [\"en:france\"], \"nova_group\"");
    let redirect = (StatusCode::MOVED_PERMANENTLY, [("location", "/api/v2/search?page=elsewhere")]).into_response();
    let (fake, api) = start(vec![redirect, page(&[french, record("2000000000022", "Two", 1)])], 1).await;
    let filter = Filter { country: Some("france".to_owned()), ..Filter::default() };
    let choice = Choice { filter, ..Choice::from(Profile::Default) };
    let report = api.import(options(&choice, Some(&db.pool)), &mut NoObserver).await.unwrap();
    assert_eq!((counts(&report), report.filtered_out), ([2, 1, 0, 0, 0], 1));
    let requests = fake.requests.lock().unwrap();
    assert_eq!(requests[0].0["countries_tags"], "france");
    assert_eq!(requests[1].0["page"], "elsewhere");
}

#[tokio::test]
async fn a_url_without_an_api_is_a_clear_error() {
    let db = Database::new().await;
    let (_, api) = start(vec![StatusCode::NOT_FOUND.into_response()], 1).await;
    let error = api.import(options(&Profile::Default.into(), Some(&db.pool)), &mut NoObserver).await.unwrap_err();
    assert!(format!("{error:#}").contains("is ETL_API_URL right?"), "{error:#}");
}

#[tokio::test]
async fn the_api_is_not_used_without_a_contact() {
    let (_, config) = listen(Vec::new(), 1).await;
    let error = Api::new(&ApiConfig { contact: None, ..config }, Clock::real(1.0)).unwrap_err();
    assert!(format!("{error:#}").contains("ETL_CONTACT"), "{error:#}");
}
