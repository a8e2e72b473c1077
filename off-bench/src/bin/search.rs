//! Searches of a catalog of a million products through the gateway, and what the importer needs to take their words.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::ensure;
use clap::Parser;
use off_bench::{
    Front, Stage, export, load, program,
    report::{at_most, progress, table},
    stage::barcode,
    store::{self, BRANDS, CATEGORIES},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{net::SocketAddr, process::Stdio};
use tokio::process::Command;

const SERVICES: [&str; 2] = ["auth", "orders"];

/// Different words in the names of the products.
const WORDS: usize = 60_000;

/// Each of the first words is in more names than a search ranks.
const FREQUENT_WORDS: usize = 50;

/// Bytes of the export that lets the importer take the words of all products; a few records.
const EXPORT_BYTES: u64 = 100_000;

/// Requests of each kind, all different, after those that warm up.
const REQUESTS: usize = 500;
const WARM_UP: usize = 20;

/// Target: milliseconds of the slowest kind (p99).
const TARGET_MS: f64 = 50.0;

#[derive(Debug, Parser)]
struct Options {
    /// Number of stored products.
    #[arg(long, default_value_t = 1_000_000)]
    products: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    let words = store::invent_words(WORDS);
    progress(&format!("storing {} products", options.products));
    store::store_named(&stage.db, options.products, &words).await?;
    progress("importing a few records; at its end the importer takes the words of all products");
    let seconds = take_words(&stage).await?;
    store::vacuum(&stage.db).await?;
    store::checkpoint(&stage.db).await?;
    let front = Front::start(&stage, &SERVICES, &[]).await?;
    let gateway = front.address("gateway")?;
    let mut catalog = Catalog { words, products: options.products, random: ChaCha8Rng::seed_from_u64(2) };
    let mut rows = table(&["search", "p50 ms", "p99 ms"]);
    let mut slowest = (0.0, "");
    for (name, draw) in SEARCHES {
        progress(name);
        let (p50, p99) = measure(gateway, &mut catalog, draw).await?;
        rows.add_row([name.to_owned(), format!("{p50:.1}"), format!("{p99:.1}")]);
        if p99 > slowest.0 {
            slowest = (p99, name);
        }
    }
    progress("");
    let bytes = store::search_bytes(&stage.db).await?;
    println!("the words of {} products: {seconds:.0} s, {} MB\n", options.products, bytes / 1_000_000);
    println!("{rows}\n");
    at_most(&format!("p99 of the slowest, {}", slowest.1), slowest.0, TARGET_MS, "ms");
    front.stop().await?;
    stage.end().await
}

/// Runs the importer with a few records; returns its seconds.
async fn take_words(stage: &Stage) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("export.jsonl.gz");
    export::write(&file, EXPORT_BYTES, None, |_| ())?;
    let mut importer = Command::new(program::find_importer()?);
    importer.arg(&file).env("OFF_LOG", "error").env("DATABASE_URL", &stage.postgres.url);
    let finished = program::run(importer.stdout(Stdio::null())).await?;
    ensure!(finished.output.status.success(), "the importer exited with {}", finished.output.status);
    Ok(finished.seconds)
}

/// What is searched.
#[derive(Debug)]
struct Catalog {
    words: Vec<String>,
    products: i64,
    random: ChaCha8Rng,
}

impl Catalog {
    fn any_word(&mut self) -> String {
        self.words[self.random.random_range(0..self.words.len())].clone()
    }

    fn frequent_word(&mut self) -> String {
        self.words[self.random.random_range(0..FREQUENT_WORDS)].clone()
    }

    fn category(&mut self) -> String {
        format!("en:category-{}", self.random.random_range(0..CATEGORIES))
    }

    /// The word with one letter replaced.
    fn mistype(&mut self, word: &str) -> String {
        let place = self.random.random_range(0..word.len());
        format!("{}x{}", &word[..place], &word[place + 1..])
    }
}

/// Draws the query of a search.
type Draw = fn(&mut Catalog) -> String;

/// The kinds of search.
const SEARCHES: [(&str, Draw); 14] = [
    ("nothing: the first page", |_| String::new()),
    ("a word", |catalog| format!("q={}", catalog.any_word())),
    ("a frequent word", |catalog| format!("q={}", catalog.frequent_word())),
    ("a frequent word, its last page", |catalog| format!("q={}&page=40", catalog.frequent_word())),
    ("two frequent words", |catalog| format!("q={}+{}", catalog.frequent_word(), catalog.frequent_word())),
    ("a frequent word and any word", |catalog| format!("q={}+{}", catalog.frequent_word(), catalog.any_word())),
    ("a frequent word in a category", |catalog| {
        format!("q={}&category={}", catalog.frequent_word(), catalog.category())
    }),
    ("the first three letters of a word", |catalog| format!("q={}", &catalog.any_word()[..3])),
    ("a word with a typing error", |catalog| {
        let word = catalog.any_word();
        format!("q={}", catalog.mistype(&word))
    }),
    ("two words with typing errors", |catalog| {
        let (first, second) = (catalog.any_word(), catalog.frequent_word());
        format!("q={}+{}", catalog.mistype(&first), catalog.mistype(&second))
    }),
    ("letters like those of no word", |catalog| format!("q=xqw{}xqw", catalog.random.random_range(0..10_000))),
    ("a brand", |catalog| format!("brand=brand+{}", catalog.random.random_range(1..=BRANDS))),
    ("a category", |catalog| format!("category={}", catalog.category())),
    ("a barcode", |catalog| format!("q={}", barcode(catalog.random.random_range(1..=catalog.products)))),
];

/// The p50 and p99 of one kind, in milliseconds.
async fn measure(gateway: SocketAddr, catalog: &mut Catalog, draw: Draw) -> anyhow::Result<(f64, f64)> {
    let requests = (0..WARM_UP + REQUESTS).map(|_| load::get(&format!("/catalog?{}", draw(catalog))));
    let (times, _) = load::in_sequence(gateway, requests, WARM_UP).await?;
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    Ok((ms(0.5), ms(0.99)))
}
