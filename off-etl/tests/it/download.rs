//! Downloads of exports and deltas, from a fake server whose connection breaks.

use crate::{OnReport, count_products, record};
use axum::{
    Router,
    body::Body,
    extract::{Path as Segment, State},
    http::{HeaderMap, StatusCode},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use futures::{FutureExt, StreamExt, stream};
use off_etl::{Choice, DeltasConfig, Export, Filter, ImportOptions, NoObserver, Profile, Report, apply_deltas, import};
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

/// A fake file server with ETags that interrupts some responses.
#[derive(Clone, Default)]
struct FakeServer {
    files: Arc<Mutex<HashMap<String, Version>>>,
    /// Interrupts the next responses after this many bytes each, from the last entry on.
    breaks_after: Arc<Mutex<Vec<usize>>>,
    /// The `Range` header of each request.
    requests: Arc<Mutex<Vec<Option<String>>>>,
}

/// A file's ETag and its bytes.
type Version = (String, Vec<u8>);

async fn serve(State(server): State<FakeServer>, Segment(name): Segment<String>, headers: HeaderMap) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    server.requests.lock().unwrap().push(header("range"));
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
            let sent = stream::iter([Ok(rest[..after.min(length)].to_vec())]);
            // The bytes before must arrive before the connection breaks.
            let broken = stream::once(async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(std::io::Error::other("it breaks"))
            });
            Body::from_stream(sent.chain(broken))
        }
        None => Body::from(rest),
    };
    let range = from.map(|from| ("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
    let headers = [("etag", etag), ("content-length", length.to_string())];
    (status, AppendHeaders(headers), AppendHeaders(range), body).into_response()
}

async fn listen(server: &FakeServer) -> String {
    let app = Router::new().route("/{name}", get(serve)).with_state(server.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

impl FakeServer {
    fn put(&self, name: &str, etag: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(name.to_owned(), (etag.to_owned(), bytes.into()));
    }
}

/// The export on the server at `address`.
fn export_at(address: &str) -> Export {
    format!("{address}products.jsonl").parse().unwrap()
}

async fn import_from(address: &str, folder: &Path, db: &Database) -> anyhow::Result<Report> {
    let choice = Profile::Default.into();
    let options = ImportOptions { choice: &choice, downloads: folder, db: Some(&db.pool) };
    Ok(import(&export_at(address), options, &mut NoObserver).await?.report)
}

#[tokio::test]
async fn a_broken_download_is_resumed() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    let lines: Vec<String> = (0..2000).map(|number| record(&format!("20{number:011}"), "Lentils", number)).collect();
    server.put("products.jsonl", "\"one\"", lines.join("\n"));
    server.breaks_after.lock().unwrap().extend([300_000, 0, 200_000]);
    let address = listen(&server).await;
    let report = import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!((report.read, report.new), (2000, 2000));
    let requests = server.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 4);
    let begins: Vec<u64> = requests[1..]
        .iter()
        .map(|range| range.as_deref().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
        .collect();
    assert!(begins[0] > 0 && begins[1] == begins[0] && begins[2] > begins[1], "{begins:?}");
    assert!(!folder.path().join("products.jsonl.part").exists());

    // An unchanged file is not downloaded again, a changed one is.
    import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), 5);
    server.put("products.jsonl", "\"two\"", record("96385074", "Tea", 1));
    assert_eq!(import_from(&address, folder.path(), &db).await.unwrap().read, 1);
}

#[tokio::test]
async fn a_partial_download_of_another_version_is_discarded() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    server.put("products.jsonl", "\"two\"", record("2000000000015", "New", 2));
    std::fs::write(folder.path().join("products.jsonl.part"), "{\"code\": \"of another version").unwrap();
    std::fs::write(folder.path().join("products.jsonl.part.etag"), "\"one\"").unwrap();
    let report = import_from(&listen(&server).await, folder.path(), &db).await.unwrap();
    assert_eq!((report.read, report.new), (1, 1));
}

#[tokio::test]
async fn two_importers_do_not_download_the_same_file_at_once() {
    let (folder, server) = (tempfile::tempdir().unwrap(), FakeServer::default());
    server.put("products.jsonl", "\"one\"", record("96385074", "Tea", 1));
    server.breaks_after.lock().unwrap().push(5);
    let export = export_at(&listen(&server).await);
    let choice = Choice::from(Profile::Default);
    let options = ImportOptions { choice: &choice, downloads: folder.path(), db: None };
    let (mut one, mut other) = (NoObserver, NoObserver);
    let first = import(&export, options, &mut one);
    let second = async {
        let part = folder.path().join("products.jsonl.part");
        let downloads = || async { (part.metadata().ok()?.len() == 5).then_some(()) };
        off_testkit::eventually("the first downloads it", downloads).await;
        import(&export, options, &mut other).await.unwrap_err()
    };
    let (first, second) = tokio::join!(first, second);
    assert!(format!("{second:#}").contains("another importer is downloading"), "{second:#}");
    assert_eq!(first.unwrap().report.read, 1);
}

#[tokio::test]
async fn a_url_without_an_export_is_a_clear_error() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    let error = import_from(&listen(&server).await, folder.path(), &db).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("404") && format!("{error:#}").contains("is the address right?"),
        "{error:#}"
    );
}

/// Applies the deltas at `place`. Returns for each file the number of products and of new products.
async fn deltas(place: &str, folder: &Path, db: Option<&PgPool>) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let mut applied = Vec::new();
    let config = DeltasConfig { deltas_from: place.to_owned(), deltas_every: None };
    let mut observer =
        OnReport(|name: &str, report: &Report| applied.push((name.to_owned(), report.products, report.new)));
    let options = ImportOptions { choice: &choice_of(None), downloads: folder, db };
    apply_deltas(&config, options, &mut observer).await?;
    Ok(applied)
}

fn choice_of(limit: Option<u64>) -> Choice {
    Choice { filter: Filter { limit, ..Filter::default() }, ..Profile::Default.into() }
}

fn delta(from: i64, to: i64) -> String {
    format!("openfoodfacts_products_{from}_{to}.json.gz")
}

impl FakeServer {
    /// Publishes an index of these deltas, each with one change.
    fn publish(&self, spans: &[(i64, i64)]) {
        let index: Vec<String> = spans.iter().rev().map(|(from, to)| delta(*from, *to)).collect();
        self.put("index.txt", "", index.join("\n"));
        for (from, to) in spans {
            self.put(&delta(*from, *to), "\"1\"", record(&format!("20{to:011}"), "Changed", *to));
        }
    }
}

#[tokio::test]
async fn deltas_keep_a_catalog_fresh() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    let (address, pool) = (listen(&server).await, Some(&db.pool));
    server.publish(&[(10, 20), (20, 30)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(10, 20), 1, 1), (delta(20, 30), 1, 1)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), []);
    server.publish(&[(20, 30), (30, 40)]);
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(30, 40), 1, 1)]);
    assert_eq!(count_products(&db.pool).await, 3);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a download was left behind");

    // With a gap, only a whole export helps.
    server.publish(&[(50, 60)]);
    let error = deltas(&address, folder.path(), pool).await.unwrap_err();
    let expected = "from 1970-01-01 00:00:40 UTC to 1970-01-01 00:00:50 UTC are missing";
    assert!(format!("{error:#}").contains(expected), "{error:#}");
    // The newest record is rejected, but still tells how fresh the export is.
    let export = record("96385074", "Tea", 45) + "\n" + &record("no barcode", "Tea", 55);
    server.put("products.jsonl", "\"1\"", export);
    let import_as = async |choice: &Choice| {
        let options = ImportOptions { choice, downloads: folder.path(), db: pool };
        import(&export_at(&address), options, &mut NoObserver).await.unwrap();
    };
    import_as(&choice_of(Some(1))).await;
    assert!(deltas(&address, folder.path(), pool).await.is_err(), "an export with a limit counted as a whole one");
    let french = Choice {
        filter: Filter { country: Some("france".to_owned()), ..Filter::default() },
        ..Profile::Default.into()
    };
    import_as(&french).await;
    assert!(deltas(&address, folder.path(), pool).await.is_err(), "one country counted as all of them");
    import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!(deltas(&address, folder.path(), pool).await.unwrap(), [(delta(50, 60), 1, 1)]);
}

#[tokio::test]
async fn deltas_are_polled() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    server.publish(&[(10, 20)]);
    let config = DeltasConfig { deltas_from: listen(&server).await, deltas_every: Some(Duration::from_secs(1)) };
    let products = async |count| {
        let applied = || async { (count_products(&db.pool).await == count).then_some(()) };
        off_testkit::eventually("the deltas are applied", applied).await;
    };
    let steps = async {
        products(1).await;
        // A gap that is closed later does not end the polling.
        server.publish(&[(30, 40)]);
        let before = server.requests.lock().unwrap().len();
        let requests = || async { (server.requests.lock().unwrap().len() > before + 1).then_some(()) };
        off_testkit::eventually("two polls have failed", requests).await;
        server.publish(&[(10, 20), (20, 30), (30, 40)]);
        products(3).await;
    };
    let options = ImportOptions { choice: &choice_of(None), downloads: folder.path(), db: Some(&db.pool) };
    let mut observer = NoObserver;
    tokio::select! {
        ended = apply_deltas(&config, options, &mut observer) => panic!("it ended: {ended:?}"),
        () = steps => {}
    }
}

#[tokio::test]
async fn a_limit_applies_to_all_deltas_together() {
    let (folder, server) = (tempfile::tempdir().unwrap(), FakeServer::default());
    server.publish(&[(10, 20), (20, 30), (30, 40)]);
    let config = DeltasConfig { deltas_from: listen(&server).await, deltas_every: None };
    let mut products = 0;
    let options = ImportOptions { choice: &choice_of(Some(2)), downloads: folder.path(), db: None };
    let mut observer = OnReport(|_: &str, report: &Report| products += report.products);
    apply_deltas(&config, options, &mut observer).await.unwrap();
    assert_eq!(products, 2);
}

#[tokio::test]
async fn a_dry_run_validates_all_deltas() {
    let (folder, server) = (tempfile::tempdir().unwrap(), FakeServer::default());
    server.publish(&[(10, 20), (20, 30)]);
    let validated = deltas(&listen(&server).await, folder.path(), None).await.unwrap();
    assert_eq!(validated, [(delta(10, 20), 1, 0), (delta(20, 30), 1, 0)]);
}

#[tokio::test]
async fn a_delta_that_was_reported_and_not_finished_is_reported_again() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    server.publish(&[(10, 20)]);
    let address = listen(&server).await;
    let config = DeltasConfig { deltas_from: address.clone(), deltas_every: None };
    let options = ImportOptions { choice: &choice_of(None), downloads: folder.path(), db: Some(&db.pool) };
    // A panic has the effect of a kill here: nothing after the report happens.
    let mut kill = OnReport(|_: &str, report: &Report| panic!("{} new", report.new));
    let killed = AssertUnwindSafe(apply_deltas(&config, options, &mut kill));
    assert!(killed.catch_unwind().await.is_err());
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap(), [(delta(10, 20), 1, 1)]);
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_delta_is_not_skipped() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), FakeServer::default());
    server.publish(&[(10, 20), (20, 30)]);
    server.put(&delta(10, 20), "\"2\"", b"\x1f\x8b cut short".to_vec());
    let address = listen(&server).await;
    let error = deltas(&address, folder.path(), Some(&db.pool)).await.unwrap_err();
    assert!(format!("{error:#}").contains(&delta(10, 20)), "{error:#}");
    assert_eq!(count_products(&db.pool).await, 0);
    server.publish(&[(10, 20), (20, 30)]);
    assert_eq!(deltas(&address, folder.path(), Some(&db.pool)).await.unwrap().len(), 2);
}
