//! Exports and deltas that have an address, played by a stand-in whose connection breaks.

use crate::{count_products, record};
use axum::{
    Router,
    body::Body,
    extract::{Path as Segment, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{StreamExt, stream};
use off_etl::{Choice, DeltasConfig, Profile, Report, SourceName, import, keep_up};
use off_testkit::Database;
use std::{
    collections::HashMap,
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
    (status, [("etag", etag), ("content-length", length.to_string())], body).into_response()
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
async fn an_address_without_an_export_is_a_clear_error() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    let error = import_from(&listen(&server).await, folder.path(), &db).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("404") && format!("{error:#}").contains("is the address right?"),
        "{error:#}"
    );
}

/// Everything that deltas at `place` bring, by file.
async fn deltas(place: &str, folder: &Path, db: &Database) -> anyhow::Result<Vec<(String, u64)>> {
    let mut brought = Vec::new();
    let config = DeltasConfig { deltas_from: place.to_owned(), deltas_every: None };
    let choice = Choice::from(Profile::Default);
    keep_up(&config, &choice, folder, &db.pool, |name, report| brought.push((name.to_owned(), report.loaded))).await?;
    Ok(brought)
}

#[tokio::test]
async fn deltas_keep_a_catalogue_fresh() {
    let (db, folder, server) = (Database::new().await, tempfile::tempdir().unwrap(), StandIn::default());
    let name = |from: i64, to: i64| format!("openfoodfacts_products_{from}_{to}.json.gz");
    let publish = |spans: &[(i64, i64)]| {
        let index: Vec<String> = spans.iter().rev().map(|(from, to)| name(*from, *to)).collect();
        server.put("index.txt", "", index.join("\n"));
        for (from, to) in spans {
            server.put(&name(*from, *to), "\"1\"", record(&format!("20{to:011}"), "Changed", *to));
        }
    };
    let address = listen(&server).await;
    publish(&[(10, 20), (20, 30)]);
    assert_eq!(deltas(&address, folder.path(), &db).await.unwrap(), [(name(10, 20), 1), (name(20, 30), 1)]);
    assert_eq!(deltas(&address, folder.path(), &db).await.unwrap(), []);
    publish(&[(20, 30), (30, 40)]);
    assert_eq!(deltas(&address, folder.path(), &db).await.unwrap(), [(name(30, 40), 1)]);
    assert_eq!(count_products(&db.pool).await, 3);
    assert_eq!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .filter(|file| { file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "gz") })
            .count(),
        0
    );

    // A day is missing: only a whole export can help.
    publish(&[(50, 60)]);
    let error = deltas(&address, folder.path(), &db).await.unwrap_err();
    assert!(format!("{error:#}").contains("import a whole export"), "{error:#}");
    server.put("products.jsonl", "\"1\"", record("96385074", "Tea", 55));
    import_from(&address, folder.path(), &db).await.unwrap();
    assert_eq!(deltas(&address, folder.path(), &db).await.unwrap(), [(name(50, 60), 1)]);
}
