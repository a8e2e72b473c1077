//! Passwords from files, as container engines provide secrets.

use anyhow::{Context, ensure};
use std::{fs, path::Path};
use url::Url;

/// The prefix of all passwords in the sample settings. They are public, so they are rejected in files.
pub const SAMPLE_PREFIX: &str = "sample-";

/// Minimum number of characters of a password in a file.
const MIN_LENGTH: usize = 16;

/// The password in `file`, without the line ending.
///
/// # Errors
/// The file cannot be read, or contains a sample password, control characters or fewer than 16 characters.
pub fn read(file: &Path) -> anyhow::Result<String> {
    let path = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the password in {path}"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !password.starts_with(SAMPLE_PREFIX),
        "{path} contains a sample password, which is public: replace it with your own"
    );
    let is_usable = password.chars().count() >= MIN_LENGTH && !password.chars().any(char::is_control);
    ensure!(is_usable, "{path} must contain a password of at least {MIN_LENGTH} characters, and nothing else");
    Ok(password.to_owned())
}

/// `urls`, one or several separated by commas, with the password in `file` added where a URL contains only a user.
/// Without `file`, returns `urls` unchanged.
pub fn fill_in(urls: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok(urls.to_owned()) };
    let password = read(file)?;
    let filled: anyhow::Result<Vec<String>> = urls
        .split(',')
        .map(|url| {
            let parsed = Url::parse(url.trim()).ok().filter(|url| !url.username().is_empty());
            // The error does not repeat the URL: it may contain a password.
            let mut url = parsed.context("the password comes from a file, so the URL must contain a user")?;
            if url.password().is_none() {
                // Fails only for a URL without a host, which has no user.
                let _ = url.set_password(Some(&password));
            }
            Ok(url.to_string())
        })
        .collect();
    Ok(filled?.join(","))
}

/// `url` with `…` in place of its password and without its query, for messages.
pub fn redact(url: &str) -> String {
    url::Url::parse(url).map_or_else(
        |_| "…".to_owned(),
        |mut url| {
            if url.password().is_some() {
                // Fails only for a URL without a host, which has no password.
                let _ = url.set_password(Some("…"));
            }
            url.set_query(None);
            url.to_string().replace("%E2%80%A6", "…")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("the file can be written");
        file
    }

    #[test]
    fn a_password_from_a_file_is_added_to_each_url() {
        let file = file_with("p@ss/word:with-all\n");
        let filled = fill_in("nats://orders@one:4222, nats://orders@two:4222", Some(file.path())).expect("valid URLs");
        for url in filled.split(',') {
            let url = Url::parse(url).expect("a valid URL");
            let password = percent_encoding::percent_decode_str(url.password().expect("a password"));
            assert_eq!(password.decode_utf8_lossy(), "p@ss/word:with-all");
        }
        assert_eq!(fill_in("postgres://localhost/off", None).expect("no file"), "postgres://localhost/off");
    }

    #[test]
    fn an_unsuitable_password_or_url_is_rejected() {
        for text in ["sample-orders-password\n", "", "too short\n", "a good password, but\nanother line\n"] {
            assert!(read(file_with(text).path()).is_err(), "{text:?} was accepted");
        }
        let file = file_with("a-good-long-password");
        for url in ["postgres://localhost/off", "nonsense"] {
            assert!(fill_in(url, Some(file.path())).is_err(), "{url} was accepted");
        }
    }
}
