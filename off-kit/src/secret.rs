//! Passwords that come from files, as container engines hand them out, instead of from settings.

use anyhow::{Context, ensure};
use std::{fs, path::Path};
use url::Url;

/// What every password of the sample settings begins with. They are public, so no file may hold one of them.
pub const SAMPLE_PREFIX: &str = "sample-";

/// The fewest characters of a password in a file.
const SHORTEST: usize = 16;

/// The password in `file`, without the line's end.
pub fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the password in {shown}"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    ensure!(
        !password.starts_with(SAMPLE_PREFIX),
        "{shown} holds a sample password, which everybody knows: put one of your own there"
    );
    let is_usable = password.chars().count() >= SHORTEST && !password.chars().any(char::is_control);
    ensure!(is_usable, "{shown} has to hold a password of at least {SHORTEST} characters, and nothing else");
    Ok(password.to_owned())
}

/// `urls`, one or several separated by commas, with the password in `file` for each user whose password they do not say.
pub fn fill_in(urls: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok(urls.to_owned()) };
    let password = read(file)?;
    let filled: anyhow::Result<Vec<String>> = urls
        .split(',')
        .map(|url| {
            let parsed = Url::parse(url.trim()).ok().filter(|url| !url.username().is_empty());
            // The text stays unsaid: it may hold a password after all.
            let mut url = parsed.context("the password comes from a file, so the address has to name its user")?;
            if url.password().is_none() {
                // Refused only without a host, and then there is no user either.
                let _ = url.set_password(Some(&password));
            }
            Ok(url.to_string())
        })
        .collect();
    Ok(filled?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("it is written");
        file
    }

    #[test]
    fn a_password_from_a_file_goes_into_every_address() {
        let file = file_with("p@ss/word:with-all\n");
        let filled = fill_in("nats://orders@one:4222, nats://orders@two:4222", Some(file.path())).expect("it fits");
        for url in filled.split(',') {
            let url = Url::parse(url).expect("an address");
            let password = percent_encoding::percent_decode_str(url.password().expect("a password"));
            assert_eq!(password.decode_utf8_lossy(), "p@ss/word:with-all");
        }
        assert_eq!(fill_in("postgres://localhost/off", None).expect("no file"), "postgres://localhost/off");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["sample-orders-password\n", "", "too short\n", "a good password, but\nanother line\n"] {
            assert!(read(file_with(text).path()).is_err(), "{text:?} was taken");
        }
        let file = file_with("a-good-long-password");
        for url in ["postgres://localhost/off", "nonsense"] {
            assert!(fill_in(url, Some(file.path())).is_err(), "{url} was taken");
        }
    }
}
