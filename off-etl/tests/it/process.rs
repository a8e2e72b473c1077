//! The importer as a process: killed at any moment, without its database, or beside another importer.

use crate::{import_with, record};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_etl::{Choice, Profile};
use off_testkit::{Database, eventually};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::PgPool;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// A file that makes an import hard to resume: the same barcodes far apart, newer records before older ones, and
/// rejects.
fn file(folder: &TempDir) -> PathBuf {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let lines: Vec<String> = (0..30_000)
        .map(|_| {
            let code = format!("20{:011}", random.random_range(0..12_000));
            let name = if random.random_bool(0.1) { "" } else { "Lentils" };
            let country = if random.random_bool(0.5) { "en:france" } else { "en:italy" };
            let sold_in = format!("\"countries_tags\": [\"{country}\"], \"nova_group\"");
            record(&code, name, random.random_range(1..50)).replace("\"nova_group\"", &sold_in)
        })
        .collect();
    let path = folder.path().join("many.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn importer(path: &Path, db: &Database) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_off-etl"));
    command.arg(path).arg("--keep-rejects").env("DATABASE_URL", &db.url).env("OFF_LOG", "error");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn report(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything in the catalog.
async fn catalog(db: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws('|', product.barcode, number, name, quantity, last_modified, fingerprint, fat, price_cents,
                ARRAY(SELECT brands.name FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
                      WHERE product_brands.barcode = product.barcode ORDER BY 1))
         FROM catalog.products AS product JOIN catalog.nutrient_levels USING (barcode)
         UNION ALL SELECT concat_ws('|', line, reason, code) FROM catalog.rejects
         ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

#[tokio::test]
async fn an_import_killed_at_any_moment_ends_with_the_same_catalog() {
    kill_repeatedly(&[]).await;
}

#[tokio::test]
async fn an_import_with_filters_killed_at_any_moment_ends_with_the_same_catalog() {
    kill_repeatedly(&["--country", "france", "--limit", "9000"]).await;
}

async fn kill_repeatedly(arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let undisturbed = Database::new().await;
    let expected = report(&importer(&path, &undisturbed).args(arguments).output().await.unwrap());

    let db = Database::new().await;
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut kills, mut resumptions) = (0_u64, 0);
    let last = loop {
        assert!(kills < 200, "the import never finishes");
        let mut child = importer(&path, &db).args(arguments).spawn().unwrap();
        // Grows with each kill, so that the import finishes on a busy machine, too.
        let kill_after = Duration::from_millis(random.random_range(20..900) + 30 * kills);
        if tokio::time::timeout(kill_after, child.wait()).await.is_ok() {
            break report(&child.wait_with_output().await.unwrap());
        }
        child.kill().await.unwrap();
        kills += 1;
        let is_finished = "SELECT EXISTS (SELECT FROM catalog.imports WHERE finished_at IS NOT NULL)";
        if sqlx::query_scalar(is_finished).fetch_one(&db.pool).await.unwrap() {
            // Killed between its last commit and its exit: it has printed the report.
            break String::from_utf8_lossy(&child.wait_with_output().await.unwrap().stdout).into_owned();
        }
        let place: Option<i64> =
            sqlx::query_scalar("SELECT place FROM catalog.imports").fetch_optional(&db.pool).await.unwrap();
        resumptions += u32::from(place.is_some_and(|place| place > 0));
    };
    assert!(resumptions > 0, "none of {kills} kills came between two batches");
    assert_eq!(last, expected, "after {kills} kills");
    assert_eq!(catalog(&db.pool).await, catalog(&undisturbed.pool).await, "after {kills} kills");
}

#[tokio::test]
async fn a_signal_ends_an_import_with_130_and_polling_for_deltas_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let db = Database::new().await;
    let signal_and_wait = async |mut child: Child, signal| {
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
        child.wait().await.unwrap().code()
    };
    let import = importer(&large_file(&folder), &db).spawn().unwrap();
    eventually("the import has begun", || async {
        let query = "SELECT place FROM catalog.imports WHERE finished_at IS NULL AND place > 0";
        let place: Option<i64> = sqlx::query_scalar(query).fetch_optional(&db.pool).await.unwrap();
        place
    })
    .await;
    assert_eq!(signal_and_wait(import, Signal::SIGTERM).await, Some(130));

    // There is no index of deltas: the importer warns and waits until it checks again.
    let mut poller = Command::new(env!("CARGO_BIN_EXE_off-etl"));
    poller.arg("deltas").args(["--deltas-every", "1h", "--deltas-from"]).arg(folder.path());
    poller.env("DATABASE_URL", &db.url).env("OFF_LOG", "warn").stderr(Stdio::piped()).kill_on_drop(true);
    let mut poller = poller.spawn().unwrap();
    let mut lines = BufReader::new(poller.stderr.take().unwrap()).lines();
    let warning = lines.next_line().await.unwrap().unwrap();
    assert!(warning.contains("cannot apply the deltas"), "{warning}");
    assert_eq!(signal_and_wait(poller, Signal::SIGTERM).await, Some(0));
}

/// The records of the large file, each of about 100 kB.
const LARGE_RECORDS: i64 = 10_500;

/// One file of more than a gibibyte.
fn large_file(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("large.jsonl");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    let text = "salt, ".repeat(17_200);
    for number in 0..LARGE_RECORDS {
        let line = record(&format!("20{number:011}"), "Lentils", 1);
        writeln!(file, "{}", line.replace("{\"code\"", &format!("{{\"ingredients\": \"{text}\", \"code\""))).unwrap();
    }
    file.into_inner().unwrap();
    path
}

#[tokio::test]
async fn a_large_file_resumes_where_the_import_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = large_file(&folder);
    let length = i64::try_from(path.metadata().unwrap().len()).unwrap();
    assert!(length > 1 << 30, "{length}");
    let db = Database::new().await;
    let mut place = 0;
    for part in 1..5 {
        let mut child = importer(&path, &db).spawn().unwrap();
        place = eventually("the import is further", || async {
            let query = "SELECT place FROM catalog.imports WHERE finished_at IS NULL AND place > $1";
            let place: Option<i64> =
                sqlx::query_scalar(query).bind(place.max(length / 6 * part)).fetch_optional(&db.pool).await.unwrap();
            place
        })
        .await;
        child.kill().await.unwrap();
        assert!(place < length, "{place}");
    }
    let report = report(&importer(&path, &db).output().await.unwrap());
    assert!(report.contains(&format!("{LARGE_RECORDS}")), "{report}");
    let (count, last): (i64, i64) =
        sqlx::query_as("SELECT count(*), max(number) FROM catalog.products").fetch_one(&db.pool).await.unwrap();
    assert_eq!((count, last), (LARGE_RECORDS, LARGE_RECORDS));
}

#[tokio::test]
async fn an_import_with_a_closed_or_full_standard_output_finishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let full = || File::options().write(true).open("/dev/full");
    // A closed pipe, as with `| head`, and a full disk, if the system has a device for that.
    for (stdout, expected) in [(None, ""), (full().ok(), "cannot write to standard output")] {
        let db = Database::new().await;
        let mut command = importer(&path, &db);
        if let Some(full) = stdout {
            command.stdout(full);
        }
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains("panicked") && stderr.contains(expected), "{stderr}");
        let finished: bool = sqlx::query_scalar("SELECT finished_at IS NOT NULL FROM catalog.imports")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert!(finished);
    }
}

#[tokio::test]
async fn an_unusable_database_is_a_clear_error() {
    let (folder, db) = (tempfile::tempdir().unwrap(), Database::new().await);
    let path = file(&folder);
    let (server, _) = db.url.rsplit_once('/').unwrap();
    for (url, expected) in [
        ("postgres://off:off@127.0.0.1:1/off".to_owned(), "nothing listens on 127.0.0.1:1"),
        (format!("{server}/elsewhere"), "database \"elsewhere\" does not exist"),
        (format!("{server}/postgres"), "never migrated"),
    ] {
        let output = importer(&path, &db).env("DATABASE_URL", url).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(expected), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_database_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let mut db = Database::with_own_server().await;
    let child = importer(&path, &db).spawn().unwrap();
    off_testkit::eventually("the import has started", || async {
        let place: i64 =
            sqlx::query_scalar("SELECT place FROM catalog.imports").fetch_optional(&db.pool).await.ok()??;
        (place > 0).then_some(())
    })
    .await;
    let postgres = db.server.as_mut().unwrap();
    postgres.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    postgres.start_again().await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let undisturbed = Database::new().await;
    let expected = report(&importer(&path, &undisturbed).output().await.unwrap());
    assert_eq!(report(&output), expected);
    assert_eq!(catalog(&db.pool).await, catalog(&undisturbed.pool).await);
}

#[tokio::test]
async fn a_second_importer_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    let db = Database::new().await;
    // The first importer runs until its input ends.
    let mut first = importer(Path::new("-"), &db).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    input.write_all((record("2000000000015", "Lentils", 1) + "\n").as_bytes()).await.unwrap();
    off_testkit::eventually("the first importer runs", || async {
        let begun: i64 = sqlx::query_scalar("SELECT count(*) FROM catalog.imports").fetch_one(&db.pool).await.ok()?;
        (begun == 1).then_some(())
    })
    .await;
    let choice = Choice::from(Profile::Default);
    let second = import_with(&db.pool, &path, &choice).await.unwrap_err();
    assert!(format!("{second:#}").contains("another importer is running"), "{second:#}");
    drop(input);
    report(&first.wait_with_output().await.unwrap());
    assert!(import_with(&db.pool, &path, &choice).await.is_ok());
}

#[tokio::test]
async fn a_damaged_file_has_its_own_exit_code() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("cut.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &std::fs::read(file(&folder)).unwrap()).unwrap();
    let mut packed = encoder.finish().unwrap();
    packed.truncate(packed.len() * 2 / 3);
    std::fs::write(&path, packed).unwrap();
    let first = importer(&path, &db).output().await.unwrap();
    assert_eq!(first.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(stderr.contains("incomplete") && stderr.contains("cut.jsonl.gz is damaged near byte"), "{stderr}");
    // A second run does not count anything twice.
    let second = importer(&path, &db).output().await.unwrap();
    assert_eq!((second.status.code(), second.stdout), (Some(3), first.stdout));
}

#[tokio::test]
async fn metrics_are_served_during_an_import() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A port that was just free.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_off-etl"));
    command.args(["-", "--dry-run", "--metrics", &address.to_string()]).env("OFF_LOG", "error");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let valid = record("2000000000015", "Red &amp; small lentils", 1) + "\n";
    input.write_all((valid + &"no record\n".repeat(60_000)).as_bytes()).await.unwrap();
    off_testkit::eventually("the metrics are served", || async {
        let metrics = reqwest::get(format!("http://{address}/metrics")).await.ok()?.text().await.ok()?;
        let shows = |name: &str, labels: &[&str]| {
            let mut lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.any(|line| labels.iter().all(|label| line.contains(label)) && !line.ends_with(" 0"))
        };
        (shows("off_etl_records_total", &["rejected", "not JSON"])
            && shows("off_etl_records_total", &["not written"])
            && shows("off_etl_corrections_total", &["HTML entities"]))
        .then_some(())
    })
    .await;
    drop(input);
    assert!(report(&child.wait_with_output().await.unwrap()).contains("60001"));
}
