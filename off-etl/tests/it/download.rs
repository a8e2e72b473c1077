//! Exports and deltas that have an address, played by a stand-in whose connection breaks.

use crate::{count_products, record};
use axum::{
    Router,
    body::Body,
    extract::{Path as Segment, State},
    http::{HeaderMap, StatusCode},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use futures::{FutureExt, StreamExt, stream};
use off_etl::{Choice, DeltasConfig, Filter, Profile, Report, SourceName, import, keep_up};
use off_testkit::Database;
use sqlx::PgPool;
use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// A server of files with versions, which breaks off the first answers after some bytes.
#[derive(Clone, Default)]
struct StandIn {
    files: Arc<Mutex<HashMap<String, Version>>>,
    breaks_after: Arc<Mutex<Vec<usize>>>,
    /// The ranges that were asked for.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

/// A file's mark and its bytes.
type Version = (String, Vec<u8>);

async fn serve(State(server): State<StandIn>, Segment(name): Segment<String>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    server.asked.lock().unwrap().push(header("range"));
    let Some((etag, bytes)) = server.files.lock().unwrap().get(&name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if header("if-none-match").as_ref() == Some(&etag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let from = header("range")
        .filter(|_| header("if-range").as_ref() == Some(&etag))
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let status = if from.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let rest = bytes[from.unwrap_or(0)..].to_vec();
    let length = rest.len();
    let breaks_after = server.breaks_after.lock().unwrap().pop();
    let body = match breaks_after {
        Some(after) => {
            let sound = stream::iter([Ok(rest[..after.min(length)].to_vec())]);
            // What was sent before has to arrive before it breaks.
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(std::io::Error::other("it breaks"))
            });
            Body::from_stream(sound.chain(broken))
        }
        None => Body::from(rest),
    };
    let range = from.map(|from| ("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
    let headers = [("etag", etag), ("content-length", length.to_string())];
    (status, AppendHeaders(headers), AppendHeaders(range), body).into_response()
}

async fn listen(server: &StandIn) -> String {
    let app = Router::new().route("/{name}", get(serve)).with_state(server.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

impl StandIn {
    fn put(&self, name: &str, etag: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(name.to_owned(), (etag.to_owned(), bytes.into()));
    }
}

async fn import_from(address: &str, folder: &Path, db: &Database) -> anyhow::Result<Report> {
    let source: SourceName = format!("{address}products.jsonl").parse().unwrap();
    Ok(import(&source, &Profile::Default.into(), folder, Some(&db.pool), |_| {}).await?.report)
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    let lines: Vec<String> = (0..2000).map(|number| record(&format!("20{number:011}"), "Lentils", number)).collect();
    server.put("products.jsonl", "\"one\"", lines.join("\n"));
    server.breaks_after.lock().unwrap().extend([300_000, 0, 200_000]);
    let address = listen(&server).await;
    let report = import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!((report.read, report.loaded), (2000, 2000));
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    let begins: Vec<u64> = asked[1..]
        .iter()
        .map(|range| range.as_deref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
        .collect();
    assert!(begins[0] > 0 && begins[1] == begins[0] && begins[2] > begins[1], "{begins:?}");
    assert!(!folder.path().join("products.jsonl.part").exists());

    // What is here already is not brought again, and what has changed is.
    import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 5);
    server.put("products.jsonl", "\"two\"", record("96385074", "Tea", 1));
    assert_eq!(import_from(&address, folder.path(), &db).await.unwrap().read, 1);
}

#[tokio::test]
async fn half_of_another_version_is_thrown_away() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    server.put("products.jsonl", "\"two\"", record("2000000000015", "New", 2));
    std::fs::write(folder.path().join("products.jsonl.part"), "{\"code\": \"of another version").unwrap();
    std::fs::write(folder.path().join("products.jsonl.part.etag"), "\"one\"").unwrap();
    let report = import_from(&listen(&server).await, folder.path(), &db).await.unwrap();
    assert_eq!((report.read, report.loaded), (1, 1));
}

#[tokio::test]
async fn two_importers_do_not_bring_one_address_at_once() {
    let (folder, server) = (tempfile::tempdir().unwrap(), StandIn::default());
    server.put("products.jsonl", "\"one\"", record("96385074", "Tea", 1));
    server.breaks_after.lock().unwrap().push(5);
    let source: SourceName = format!("{}products.jsonl", listen(&server).await).parse().unwrap();
    let (choice, path) = (Choice::from(Profile::Default), folder.path().to_owned());
    let first = import(&source, &choice, &path, None, |_| {});
    let second = async {
        let part = path.join("products.jsonl.part");
        let brings = || async { (part.metadata().ok()?.len() == 5).then_some(()) };
        off_testkit::eventually("the first brings it", brings).await;
        import(&source, &choice, &path, None, |_| {}).await.unwrap_err()
    };
    let (first, second) = tokio::join!(first, second);
    assert!(format!("{second:#}").contains("another importer is bringing"), "{second:#}");
    assert_eq!(first.unwrap().report.read, 1);
}

#[tokio::test]
async fn an_address_without_an_export_is_a_clear_error() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    let error = import_from(&listen(&server).await, folder.path(), &db).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("404") && format!("{error:#}").contains("is the address right?"),
        "{error:#}"
    );
}

/// Everything that deltas at `place` bring, by file: how many records become products, and how many are new.
async fn deltas(place: &str, folder: &Path, db: Option<&PgPool>) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let mut brought = Vec::new();
    let config = DeltasConfig { deltas_from: place.to_owned(), deltas_every: None };
    keep_up(&config, &choice_of(None), folder, db, |name, report| {
        brought.push((name.to_owned(), report.products, report.loaded));
    })
    .await?;
    Ok(brought)
}

fn choice_of(limit: Option<u64>) -> Choice {
    Choice { filter: Filter { limit, ..Filter::default() }, ..Profile::Default.into() }
}

fn delta(from: i64, to: i64) -> String {
    format!("openfoodfacts_products_{from}_{to}.json.gz")
}

impl StandIn {
    /// Deltas with one change each, as if there were no others.
    fn publish(&self, spans: &[(i64, i64)]) {
        let index: Vec<String> = spans.iter().rev().map(|(from, to)| delta(*from, *to)).collect();
        self.put("index.txt", "", index.join("\n"));
        for (from, to) in spans {
            self.put(&delta(*from, *to), "\"1\"", record(&format!("20{to:011}"), "Changed", *to));
        }
    }
}

#[tokio::test]
async fn deltas_keep_a_catalogue_fresh() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    let (address, pool) = (listen(&server).await, Some(&db.pool));
    server.publish(&[(10, 20), (20, 30)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(10, 20), 1, 1), (delta(20, 30), 1, 1)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), []);
    server.publish(&[(20, 30), (30, 40)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(30, 40), 1, 1)]);
    assert_eq!(count_products(&db.pool).await, 3);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a download was left behind");

    // A day is missing: only a whole export can help.
    server.publish(&[(50, 60)]);
    let error = deltas(&address, folder.path(), pool).await.unwrap_err();
    let expected = "from 1970-01-01 00:00:40 UTC to 1970-01-01 00:00:50 UTC are missing";
    assert!(format!("{error:#}").contains(expected), "{error:#}");
    // What changed last is no product; an export tells all the same how fresh it is.
    let export = record("96385074", "Tea", 45) + "\n" + &record("no barcode", "Tea", 55);
    server.put("products.jsonl", "\"1\"", export);
    let source = format!("{address}products.jsonl").parse().unwrap();
    import(&source, &choice_of(Some(1)), folder.path(), pool, |_| {}).await.unwrap();
    assert!(deltas(&address, folder.path(), pool).await.is_err(), "some of an export was taken for all of it");
    let french = Choice {
        filter: Filter { country: Some("france".to_owned()), ..Filter::default() },
        ..Profile::Default.into()
    };
    import(&source, &french, folder.path(), pool, |_| {}).await.unwrap();
    assert!(deltas(&address, folder.path(), pool).await.is_err(), "one country was taken for all of them");
    import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(50, 60), 1, 1)]);
}

#[tokio::test]
async fn deltas_are_looked_for_again_and_again() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    server.publish(&[(10, 20)]);
    let config = DeltasConfig { deltas_from: listen(&server).await, deltas_every: Some(Duration::from_secs(1)) };
    let products = async |count| {
        let applied = || async { (count_products(&db.pool).await == count).then_some(()) };
        off_testkit::eventually("they are applied", applied).await;
    };
    let story = async {
        products(1).await;
        // What cannot be read now may be the next time.
        server.publish(&[(30, 40)]);
        let before = server.asked.lock().unwrap().len();
        let asked = || async { (server.asked.lock().unwrap().len() > before + 1).then_some(()) };
        off_testkit::eventually("it was asked twice in vain", asked).await;
        server.publish(&[(10, 20), (20, 30), (30, 40)]);
        products(3).await;
    };
    let choice = choice_of(None);
    tokio::select! {
        ended = keep_up(&config, &choice, folder.path(), Some(&db.pool), |_, _| {}) => panic!("it ended: {ended:?}"),
        () = story => {}
    }
}

#[tokio::test]
async fn a_limit_is_that_of_all_deltas_together() {
    let (folder, server) = (tempfile::tempdir().unwrap(), StandIn::default());
    server.publish(&[(10, 20), (20, 30), (30, 40)]);
    let config = DeltasConfig { deltas_from: listen(&server).await, deltas_every: None };
    let mut products = 0;
    keep_up(&config, &choice_of(Some(2)), folder.path(), None, |_, report| products += report.products).await.unwrap();
    assert_eq!(products, 2);
}

#[tokio::test]
async fn a_dry_run_judges_all_deltas() {
    let (folder, server) = (tempfile::tempdir().unwrap(), StandIn::default());
    server.publish(&[(10, 20), (20, 30)]);
    let judged = deltas(&listen(&server).await, folder.path(), None).await.unwrap();
    assert_eq!(judged, [(delta(10, 20), 1, 0), (delta(20, 30), 1, 0)]);
}

#[tokio::test]
async fn a_delta_that_was_told_and_not_finished_is_told_again() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    server.publish(&[(10, 20)]);
    let address = listen(&server).await;
    let (config, choice) = (DeltasConfig { deltas_from: address.clone(), deltas_every: None }, Profile::Default.into());
    // As good as a kill: nothing after it is done.
    let told = |_: &str, report: &Report| panic!("{} loaded", report.loaded);
    let killed = AssertUnwindSafe(keep_up(&config, &choice, folder.path(), Some(&db.pool), told));
    assert!(killed.catch_unwind().await.is_err());
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap(), [(delta(10, 20), 1, 1)]);
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_delta_is_not_passed_over() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    server.publish(&[(10, 20), (20, 30)]);
    server.put(&delta(10, 20), "\"2\"", b"\x1f\x8b cut short".to_vec());
    let address = listen(&server).await;
    let error = deltas(&address, folder.path(), Some(&db.pool)).await.unwrap_err();
    assert!(format!("{error:#}").contains(&delta(10, 20)), "{error:#}");
    assert_eq!(count_products(&db.pool).await, 0);
    server.publish(&[(10, 20), (20, 30)]);
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap().len(), 2);
}
