//! Exports that have an address: brought here in whole, and gone on with where the connection broke or the process ended.

use anyhow::{Context, anyhow, bail, ensure};
use off_kit::backoff::Backoff;
use reqwest::{Client, Response, StatusCode, header};
use std::{
    fs::TryLockError,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    fs::{self, File, OpenOptions},
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
    /// It broke after this many bytes, those counted that were here before.
    Broken { reached: u64, cause: anyhow::Error },
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
    let (mut attempts, mut furthest) = (0, 0);
    loop {
        match bring(&client, url, &whole, &part, &mut on_bytes).await? {
            Came::Whole => return Ok(whole),
            Came::Broken { reached, cause } => {
                attempts += 1;
                // A server that begins anew each time does not come further.
                if reached > furthest {
                    (furthest, attempts) = (reached, 1);
                    backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
                }
                ensure!(attempts < ATTEMPTS, "{url} did not come in {ATTEMPTS} attempts, at last: {cause:#}");
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
        Err(error) if error.is_redirect() => bail!("{url} leads from one address to the next without end"),
        Err(error) => return Ok(Came::Broken { reached: 0, cause: error.into() }),
    };
    let begun = match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(Came::Whole),
        StatusCode::PARTIAL_CONTENT if begins_at(&answer, here) => here,
        StatusCode::OK => 0,
        // What is here is all there is, or more than there is now; or the server gives what was not asked for.
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            fs::remove_file(part).await.with_context(|| format!("cannot remove {}", part.display()))?;
            return Ok(Came::Broken { reached: 0, cause: anyhow!("it has changed meanwhile: from the start") });
        }
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Ok(Came::Broken { reached: 0, cause: anyhow!("{url} answered {status}") });
        }
        status => bail!("{url} answered {status}: is the address right?"),
    };
    write(answer, begun, whole, part, on_bytes).await
}

/// Whether `answer` says that it is the rest from this byte on.
fn begins_at(answer: &Response, byte: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {byte}-")))
}

async fn write(
    mut answer: Response,
    begun: u64,
    whole: &Path,
    part: &Path,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> anyhow::Result<Came> {
    let writing = || format!("cannot write {}", part.display());
    let Some(mut file) = claim(part, begun).await? else {
        return Ok(Came::Broken { reached: 0, cause: anyhow!("{} is not what it was", part.display()) });
    };
    if begun == 0 {
        // Emptied first: a mark goes with bytes of its own version only.
        file.set_len(0).await.with_context(writing)?;
        Mark::of(part).write(answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok())).await?;
    }
    let total = answer.content_length().map(|rest| begun + rest);
    let mut bytes = begun;
    let cause = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                file.write_all(&chunk).await.with_context(writing)?;
                bytes += chunk.len() as u64;
                on_bytes(bytes, total);
            }
            Ok(None) if total.is_none_or(|total| total == bytes) => break None,
            Ok(None) => break Some(anyhow!("it ended at byte {bytes}")),
            Err(error) => break Some(error.into()),
        }
    };
    file.sync_all().await.with_context(writing)?;
    if let Some(cause) = cause {
        return Ok(Came::Broken { reached: bytes, cause });
    }
    // The mark last: without it, or with that of the version before, it is only brought again.
    for (from, to) in [(part, whole), (&Mark::of(part).0, &Mark::of(whole).0)] {
        fs::rename(from, to).await.with_context(|| format!("cannot rename {}", from.display()))?;
    }
    Ok(Came::Whole)
}

/// Opens `part` for this process alone, to go on after its first `begun` bytes; `None` where it is another file meanwhile, or longer.
async fn claim(part: &Path, begun: u64) -> anyhow::Result<Option<File>> {
    let opening = || format!("cannot write {}", part.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(part).await.with_context(opening)?;
    // Held until it is dropped, and so beyond its renaming.
    let file = file.into_std().await;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another importer is bringing {} here: this one leaves", part.display())
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(opening),
    }
    let held = file.metadata().with_context(opening)?;
    let is_there = fs::metadata(part).await.is_ok_and(|there| there.ino() == held.ino());
    Ok((is_there && (begun == 0 || held.len() == begun)).then(|| File::from_std(file)))
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
