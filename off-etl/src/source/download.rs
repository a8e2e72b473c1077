//! Exports that have an address: brought here in whole, and gone on with where the connection broke or the process ended.

use anyhow::{Context, bail, ensure};
use off_kit::backoff::Backoff;
use reqwest::{Client, Response, StatusCode, header};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    fs::{self, OpenOptions},
    io::AsyncWriteExt,
};
use tracing::warn;
use url::Url;

/// How often in a row nothing at all may come before it gives up.
const ATTEMPTS: u32 = 8;

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// What became of one request.
enum Came {
    /// All of it.
    Whole,
    /// It broke, after this many bytes more.
    Broken { bytes: u64, cause: anyhow::Error },
}

/// Brings what is at `url` into `folder`; nothing is brought again that is there already and has not changed. Tells
/// `on_bytes` how many have come, of how many.
pub(crate) async fn download(
    url: &Url,
    folder: &Path,
    mut on_bytes: impl FnMut(u64, Option<u64>),
) -> anyhow::Result<PathBuf> {
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("{url} names no file"))?;
    fs::create_dir_all(folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
    let (whole, part) = (folder.join(name), folder.join(format!("{name}.part")));
    let client = client()?;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut attempts = 0;
    loop {
        match bring(&client, url, &whole, &part, &mut on_bytes).await? {
            Came::Whole => return Ok(whole),
            Came::Broken { bytes, cause } => {
                attempts = if bytes > 0 { 1 } else { attempts + 1 };
                ensure!(attempts < ATTEMPTS, "{url} did not come in {ATTEMPTS} attempts, at last: {cause:#}");
                if bytes > 0 {
                    backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
                }
                let pause = backoff.pause();
                warn!("the download broke, trying again in {:.1} s: {cause:#}", pause.as_secs_f64());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Removes a download.
pub(crate) async fn forget(whole: &Path) {
    for path in [whole, &Mark::of(whole).0] {
        if let Err(error) = fs::remove_file(path).await {
            warn!("cannot remove {}: {error}", path.display());
        }
    }
}

fn client() -> anyhow::Result<Client> {
    // Whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("off/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        // A packed file is to stay packed.
        .no_gzip()
        .build()
        .context("cannot make an HTTP client")
}

async fn bring(
    client: &Client,
    url: &Url,
    whole: &Path,
    part: &Path,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> anyhow::Result<Came> {
    let here = fs::metadata(part).await.map_or(0, |metadata| metadata.len());
    let mut request = client.get(url.clone());
    if let Some(etag) = Mark::of(part).read().await.filter(|_| here > 0) {
        // The rest of the same version, or all of the one there is now.
        request = request.header(header::RANGE, format!("bytes={here}-")).header(header::IF_RANGE, etag);
    } else if let Some(etag) = Mark::of(whole).read().await.filter(|_| whole.is_file()) {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Ok(Came::Broken { bytes: 0, cause: error.into() }),
    };
    let begun = match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(Came::Whole),
        StatusCode::PARTIAL_CONTENT => here,
        StatusCode::OK => 0,
        // What is here is all there is, or more than there is now.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            fs::remove_file(part).await.with_context(|| format!("cannot remove {}", part.display()))?;
            return Ok(Came::Broken { bytes: 1, cause: anyhow::anyhow!("it has changed meanwhile: from the start") });
        }
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Ok(Came::Broken { bytes: 0, cause: anyhow::anyhow!("{url} answered {status}") });
        }
        status => bail!("{url} answered {status}: is the address right?"),
    };
    if begun == 0 {
        Mark::of(part).write(answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok())).await?;
    }
    write(answer, begun, whole, part, on_bytes).await
}

async fn write(
    mut answer: Response,
    begun: u64,
    whole: &Path,
    part: &Path,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> anyhow::Result<Came> {
    let writing = || format!("cannot write {}", part.display());
    let total = answer.content_length().map(|rest| begun + rest);
    let mut options = OpenOptions::new();
    let options = options.create(true).write(true).append(begun > 0).truncate(begun == 0);
    let mut file = options.open(part).await.with_context(writing)?;
    let mut bytes = begun;
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                file.write_all(&chunk).await.with_context(writing)?;
                bytes += chunk.len() as u64;
                on_bytes(bytes, total);
            }
            Ok(None) if total.is_none_or(|total| total == bytes) => break,
            Ok(None) => {
                file.flush().await.with_context(writing)?;
                return Ok(Came::Broken { bytes: bytes - begun, cause: anyhow::anyhow!("it ended at byte {bytes}") });
            }
            Err(error) => {
                file.flush().await.with_context(writing)?;
                return Ok(Came::Broken { bytes: bytes - begun, cause: error.into() });
            }
        }
    }
    file.sync_all().await.with_context(writing)?;
    // The mark last: without it, or with that of the version before, it is only brought again.
    for (from, to) in [(part, whole), (&Mark::of(part).0, &Mark::of(whole).0)] {
        fs::rename(from, to).await.with_context(|| format!("cannot rename {}", from.display()))?;
    }
    Ok(Came::Whole)
}

/// The version of a download, beside it.
struct Mark(PathBuf);

impl Mark {
    fn of(whole: &Path) -> Self {
        let mut name = whole.as_os_str().to_owned();
        name.push(".etag");
        Self(name.into())
    }

    /// `None` where it has none: then it is brought anew.
    async fn read(&self) -> Option<String> {
        let text = fs::read_to_string(&self.0).await.ok()?;
        // A weak mark does not promise the same bytes.
        (!text.is_empty() && !text.starts_with("W/")).then_some(text)
    }

    async fn write(&self, etag: Option<&str>) -> anyhow::Result<()> {
        let writing = || format!("cannot write {}", self.0.display());
        fs::write(&self.0, etag.unwrap_or_default()).await.with_context(writing)
    }
}
