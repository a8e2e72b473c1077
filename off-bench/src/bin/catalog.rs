//! The importer compared with decompression of the same export, and with `COPY` of the same products.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use off_bench::{
    export::{self, Size},
    program::{self, Finished, find_importer},
    report::{at_most, median, progress, table},
};
use off_servers::{Postgres, find_postgres};
use sqlx::PgPool;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

#[derive(Debug, Parser)]
struct Options {
    /// Decompressed size of the export, in megabytes.
    #[arg(long, default_value_t = 2200, value_name = "MB")]
    megabytes: u64,
    /// Number of rounds; the result is the median.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// File of JSON lines whose records the export repeats, instead of generated ones.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Resources that a program used.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Peak memory, in megabytes.
    memory: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = tempfile::Builder::new().prefix("off-bench-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let lines = options.from.as_ref().map(std::fs::read_to_string).transpose().context("--from")?;
    let file = folder.path().join("export.jsonl.gz");
    let wanted = options.megabytes * 1_000_000;
    let size = export::write(&file, wanted, lines.as_deref(), |bytes| {
        progress(&format!("writing the export: {} of {} MB", bytes / 1_000_000, options.megabytes));
    })?;
    let (programs, _) = find_postgres().await?;
    let mut postgres = Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
    let pool = PgPool::connect(&postgres.url).await?;
    off_migrations::apply(&pool).await?;

    let (mut gzip, mut dry, mut full, mut again, mut copy) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 1..=options.rounds {
        let show_step = |what: &str| progress(&format!("round {round} of {}: {what}", options.rounds));
        show_step("gzip -dc");
        gzip.push(run(Command::new("gzip").arg("-dc").arg(&file)).await?);
        show_step("off-etl --dry-run");
        dry.push(run(importer(&file)?.arg("--dry-run")).await?);
        show_step("off-etl into an empty catalog");
        empty(&pool).await?;
        full.push(run(importer(&file)?.env("DATABASE_URL", &postgres.url)).await?);
        show_step("off-etl once more");
        again.push(run(importer(&file)?.env("DATABASE_URL", &postgres.url)).await?);
        show_step("psql \\copy of the same products");
        copy.push(copy_products(&programs, &postgres.url, folder.path(), &pool).await?);
    }
    progress("");
    let products: i64 = sqlx::query_scalar("SELECT count(*) FROM catalog.products").fetch_one(&pool).await?;
    print(size, std::fs::metadata(&file)?.len(), products, [&gzip, &dry, &full, &again, &copy]);
    pool.close().await;
    postgres.stop().await
}

fn print(size: Size, compressed: u64, products: i64, cost: [&Vec<Cost>; 5]) {
    let [gzip, dry, full, again, copy] = cost.map(|cost| median(cost.iter().map(|cost| cost.seconds)));
    let megabytes = size.bytes as f64 / 1e6;
    println!(
        "{} records, {megabytes:.0} MB decompressed, {:.0} MB compressed, {products} products",
        size.records,
        compressed as f64 / 1e6
    );
    let mut rows = table(&["", "seconds", "MB/s decompressed", "records/s", "MB of memory"]);
    for (name, cost) in
        ["gzip -dc", "off-etl --dry-run", "off-etl, empty catalog", "off-etl, nothing new"].iter().zip(cost)
    {
        let seconds = median(cost.iter().map(|cost| cost.seconds));
        let memory = cost.iter().map(|cost| cost.memory).fold(0.0, f64::max);
        rows.add_row([
            (*name).to_owned(),
            format!("{seconds:.2}"),
            format!("{:.0}", megabytes / seconds),
            format!("{:.0}", size.records as f64 / seconds),
            format!("{memory:.0}"),
        ]);
    }
    println!("{rows}\npsql \\copy of the products alone: {copy:.2} s\n");
    at_most("dry run against gzip -dc", dry / gzip, 1.0, "×");
    at_most("full import against gzip -dc", full / gzip, 1.3, "×");
    at_most("import of an unchanged file against the dry run", again / dry, 1.3, "×");
    let memory = cost[1..4].iter().flat_map(|cost| cost.iter()).map(|cost| cost.memory).fold(0.0, f64::max);
    at_most("memory of the importer", memory, 200.0, "MB");
}

fn importer(file: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(find_importer()?);
    command.arg(file).env("OFF_LOG", "error").env_remove("DATABASE_URL");
    Ok(command)
}

async fn run(command: &mut Command) -> anyhow::Result<Cost> {
    let Finished { seconds, memory, output } = program::run(command.stdout(Stdio::null())).await?;
    ensure!(output.status.success(), "{command:?} exited with {}", output.status);
    Ok(Cost { seconds, memory })
}

async fn empty(pool: &PgPool) -> anyhow::Result<()> {
    let truncate =
        "TRUNCATE catalog.products, catalog.nutrient_levels, catalog.brands, catalog.product_brands, catalog.imports,
                             catalog.rejects, users.shelf_items";
    sqlx::query(truncate).execute(pool).await?;
    Ok(())
}

/// Copies the imported products into a table with the same indexes: the lower bound of an import into Postgres.
async fn copy_products(programs: &Path, url: &str, folder: &Path, pool: &PgPool) -> anyhow::Result<Cost> {
    let rows = folder.join("products.copy");
    let psql = |command: String| {
        let mut psql = Command::new(programs.join("psql"));
        psql.args(["--quiet", "--no-psqlrc", "--dbname", url, "--command"]).arg(command);
        psql
    };
    run(&mut psql(format!("\\copy catalog.products to '{}'", rows.display()))).await?;
    for statement in ["DROP TABLE IF EXISTS copied", "CREATE TABLE copied (LIKE catalog.products INCLUDING INDEXES)"] {
        sqlx::query(statement).execute(pool).await?;
    }
    run(&mut psql(format!("\\copy copied from '{}'", rows.display()))).await
}
