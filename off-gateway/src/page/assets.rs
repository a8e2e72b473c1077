//! The static files of the page. Their names contain a hash of their content, so that browsers may keep them for ever.

use super::compression;
use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use std::{collections::HashMap, sync::LazyLock};

/// A file as it is served.
#[derive(Debug)]
struct Asset {
    /// `/assets/NAME.HASH.EXTENSION`.
    path: String,
    media_type: &'static str,
    body: &'static [u8],
    compressed: Bytes,
}

macro_rules! files {
    ($($name:literal => $path:literal),* $(,)?) => {
        /// The name of each file, and its content.
        const FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("../../assets/", $path)))),*];
    };
}

files! {
    "off.css" => "off.css",
    "icon.svg" => "icon.svg",
    "follow.js" => "follow.js",
    "live.js" => "live.js",
    "photos.js" => "photos.js",
    "time.js" => "time.js",
    "htmx.js" => "vendor/htmx.js",
    "uplot.js" => "vendor/uplot.js",
    "uplot.css" => "vendor/uplot.css",
}

static ASSETS: LazyLock<HashMap<&'static str, Asset>> =
    LazyLock::new(|| FILES.iter().map(|(name, body)| (*name, Asset::new(name, body))).collect());

impl Asset {
    fn new(name: &str, body: &'static [u8]) -> Self {
        let hash = digest(&SHA256, body);
        let hash = BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref().get(..9).unwrap_or_default());
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let media_type = match extension {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "application/octet-stream",
        };
        let compressed = compression::gzip(body, compression::BEST);
        Self { path: format!("/assets/{stem}.{hash}.{extension}"), media_type, body, compressed }
    }
}

/// The path of a file of the page. A test renders all pages, so a wrong name is found there.
pub(super) fn path(name: &str) -> &'static str {
    ASSETS.get(name).map_or("", |asset| asset.path.as_str())
}

/// `GET /assets/{file}`.
pub(super) async fn find(Path(file): Path<String>, headers: HeaderMap) -> Response {
    let path = format!("/assets/{file}");
    let Some(asset) = ASSETS.values().find(|asset| asset.path == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kept = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::VARY, "accept-encoding"),
    ];
    if compression::is_accepted(&headers) {
        return (kept, [(header::CONTENT_ENCODING, "gzip")], asset.compressed.clone()).into_response();
    }
    (kept, asset.body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;

    #[test]
    fn the_first_view_is_small() {
        let compressed: usize = ASSETS.values().map(|asset| asset.compressed.len()).sum();
        assert!(compressed < 80 * 1024, "{compressed} bytes");
    }

    #[test]
    fn the_vendored_files_are_those_that_the_readme_names() {
        let readme = include_str!("../../assets/vendor/README.md");
        for (name, body) in FILES.iter().filter(|(name, _)| name.starts_with("htmx") || name.starts_with("uplot")) {
            let hash = format!("sha256-{}", BASE64_STANDARD.encode(digest(&SHA256, body)));
            let is_named = readme.lines().any(|line| line.contains(&format!("`{name}`")) && line.contains(&hash));
            assert!(is_named, "{name} {hash}");
        }
    }
}
