//! Downloads exports. A download is resumed after a broken connection or a restart of the process.

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

/// Attempts in a row without progress before the download fails.
const MAX_ATTEMPTS: u32 = 8;

/// How long a connection may deliver nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The outcome of one request.
enum Outcome {
    /// The file is complete.
    Complete,
    /// The transfer ended at `reached` bytes, counting those of earlier requests.
    Interrupted { reached: u64, cause: anyhow::Error },
}

/// Downloads `url` into `folder`, unless the file is there and has not changed. Calls `on_bytes` with the number of
/// bytes so far and the total, if known. Returns the path of the file.
///
/// Fails if another process downloads the same file.
pub(crate) async fn download(
    url: &Url,
    folder: &Path,
    mut on_bytes: impl FnMut(u64, Option<u64>),
) -> anyhow::Result<PathBuf> {
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("{url} does not name a file"))?;
    fs::create_dir_all(folder).await.with_context(|| format!("cannot create {}", folder.display()))?;
    let (whole, part) = (folder.join(name), folder.join(format!("{name}.part")));
    let client = client()?;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let (mut attempts, mut furthest) = (0, 0);
    loop {
        match fetch(&client, url, &whole, &part, &mut on_bytes).await? {
            Outcome::Complete => return Ok(whole),
            Outcome::Interrupted { reached, cause } => {
                attempts += 1;
                // Compared with the furthest byte so far, because a server without ranges starts over each time.
                if reached > furthest {
                    (furthest, attempts) = (reached, 1);
                    backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
                }
                ensure!(
                    attempts < MAX_ATTEMPTS,
                    "downloading {url} failed after {MAX_ATTEMPTS} attempts, last error: {cause:#}"
                );
                let pause = backoff.pause();
                warn!("the download was interrupted, trying again in {:.1} s: {cause:#}", pause.as_secs_f64());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Removes a downloaded file and its ETag; logs errors.
pub(crate) async fn remove(whole: &Path) {
    for path in [whole, &EtagFile::of(whole).0] {
        if let Err(error) = fs::remove_file(path).await {
            warn!("cannot remove {}: {error}", path.display());
        }
    }
}

fn client() -> anyhow::Result<Client> {
    // Fails if a provider is installed already, which is then the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("off/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(READ_TIMEOUT)
        // Compressed files are stored as they are.
        .no_gzip()
        .build()
        .context("cannot create an HTTP client")
}

/// Requests what is missing of the file, and writes it. Fails if another request would fail, too.
async fn fetch(
    client: &Client,
    url: &Url,
    whole: &Path,
    part: &Path,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> anyhow::Result<Outcome> {
    let partial = fs::metadata(part).await.map_or(0, |metadata| metadata.len());
    let mut request = client.get(url.clone());
    if let Some(etag) = EtagFile::of(part).read().await.filter(|_| partial > 0) {
        // The server sends the rest of the same version, or the whole current version.
        request = request.header(header::RANGE, format!("bytes={partial}-")).header(header::IF_RANGE, etag);
    } else if let Some(etag) = EtagFile::of(whole).read().await.filter(|_| whole.is_file()) {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_redirect() => bail!("{url} redirects too often"),
        Err(error) => return Ok(Outcome::Interrupted { reached: 0, cause: error.into() }),
    };
    let start = match response.status() {
        StatusCode::NOT_MODIFIED => return Ok(Outcome::Complete),
        StatusCode::PARTIAL_CONTENT if begins_at(&response, partial) => partial,
        StatusCode::OK => 0,
        // The partial file is not shorter than the current one, or the server sent another range than requested.
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            fs::remove_file(part).await.with_context(|| format!("cannot remove {}", part.display()))?;
            let cause = anyhow!("the file on the server does not match the partial download: starting over");
            return Ok(Outcome::Interrupted { reached: 0, cause });
        }
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            return Ok(Outcome::Interrupted { reached: 0, cause: anyhow!("{url} answered {status}") });
        }
        status => bail!("{url} answered {status}: is the address right?"),
    };
    write(response, start, whole, part, on_bytes).await
}

/// Whether the range of `response` starts at this byte.
fn begins_at(response: &Response, byte: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {byte}-")))
}

/// Writes the body of `response` to `part`, after its first `start` bytes. Renames the complete file to `whole`.
async fn write(
    mut response: Response,
    start: u64,
    whole: &Path,
    part: &Path,
    on_bytes: &mut impl FnMut(u64, Option<u64>),
) -> anyhow::Result<Outcome> {
    let writing = || format!("cannot write {}", part.display());
    let Some(mut file) = open_and_lock(part, start).await? else {
        let cause = anyhow!("{} was changed by another process", part.display());
        return Ok(Outcome::Interrupted { reached: 0, cause });
    };
    if start == 0 {
        // The file is emptied before its new ETag is written, so that an ETag never belongs to bytes of another
        // version.
        file.set_len(0).await.with_context(writing)?;
        EtagFile::of(part).write(response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok())).await?;
    }
    let total = response.content_length().map(|rest| start + rest);
    let mut bytes = start;
    let cause = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                file.write_all(&chunk).await.with_context(writing)?;
                bytes += chunk.len() as u64;
                on_bytes(bytes, total);
            }
            Ok(None) if total.is_none_or(|total| total == bytes) => break None,
            Ok(None) => break Some(anyhow!("the response ended at byte {bytes}")),
            Err(error) => break Some(error.into()),
        }
    };
    file.sync_all().await.with_context(writing)?;
    if let Some(cause) = cause {
        return Ok(Outcome::Interrupted { reached: bytes, cause });
    }
    // The ETag comes last: with a missing or old ETag the file is just downloaded again.
    for (from, to) in [(part, whole), (&EtagFile::of(part).0, &EtagFile::of(whole).0)] {
        fs::rename(from, to).await.with_context(|| format!("cannot rename {}", from.display()))?;
    }
    Ok(Outcome::Complete)
}

/// Opens and locks `part`, to append after its first `start` bytes. `None` if it was replaced or has another length.
async fn open_and_lock(part: &Path, start: u64) -> anyhow::Result<Option<File>> {
    let opening = || format!("cannot write {}", part.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(part).await.with_context(opening)?;
    // The lock is held until the file is closed, and so until after the rename.
    let file = file.into_std().await;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("another importer is downloading {}", part.display())
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(opening),
    }
    let held = file.metadata().with_context(opening)?;
    let is_there = fs::metadata(part).await.is_ok_and(|there| there.ino() == held.ino());
    Ok((is_there && (start == 0 || held.len() == start)).then(|| File::from_std(file)))
}

/// The file next to a download that contains its ETag.
struct EtagFile(PathBuf);

impl EtagFile {
    fn of(whole: &Path) -> Self {
        let mut name = whole.as_os_str().to_owned();
        name.push(".etag");
        Self(name.into())
    }

    /// The strong ETag; `None` if there is none, and the file is downloaded again.
    async fn read(&self) -> Option<String> {
        let text = fs::read_to_string(&self.0).await.ok()?;
        // A weak ETag does not guarantee the same bytes.
        (!text.is_empty() && !text.starts_with("W/")).then_some(text)
    }

    /// Stores the ETag of a response; `None` if it has none.
    async fn write(&self, etag: Option<&str>) -> anyhow::Result<()> {
        let writing = || format!("cannot write {}", self.0.display());
        fs::write(&self.0, etag.unwrap_or_default()).await.with_context(writing)
    }
}
