//! The secrets of a system: made at the first start, readable only by their owner.

use super::Home;
use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use off_kit::auth::OpaqueKey;
use ring::rand::{SecureRandom, SystemRandom};
use std::{
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// The master secret of the auth service.
pub const AUTH_SECRET: &str = "auth_secret";

/// The clients whose secrets are made.
const CLIENTS: [&str; 2] = ["generator", "operator"];

/// The name of the file with the secret of a client.
pub fn client_file(client: &str) -> String {
    format!("client_{client}")
}

impl Home {
    /// The folder of the secrets.
    pub fn secrets(&self) -> PathBuf {
        self.folder().join("secrets")
    }

    /// Makes the secrets that are missing.
    pub fn make_secrets(&self) -> anyhow::Result<()> {
        let folder = self.secrets();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("cannot create {}", folder.display()))?;
        make(&folder, AUTH_SECRET, || {
            let mut random = [0; 32];
            let filled = SystemRandom::new().fill(&mut random);
            filled.map_err(|_| anyhow::anyhow!("the operating system has no random numbers"))?;
            Ok(BASE64_URL_SAFE_NO_PAD.encode(random))
        })?;
        for client in CLIENTS {
            make(&folder, &client_file(client), || {
                OpaqueKey::generate(OpaqueKey::CLIENT, Uuid::now_v7()).map(|key| key.text().to_owned())
            })?;
        }
        Ok(())
    }
}

/// Writes a new secret into a file, unless the file exists. It is complete or not there, so that a start that was
/// interrupted leaves no half secret.
fn make(folder: &Path, name: &str, secret: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let path = folder.join(name);
    let unfinished = folder.join(format!("{name}.new"));
    if path.exists() {
        return Ok(());
    }
    let cannot_write = || format!("cannot write {}", path.display());
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(cannot_write),
        _ => {}
    }
    let file = File::options().create_new(true).write(true).mode(0o600).open(&unfinished);
    let mut file = file.with_context(cannot_write)?;
    writeln!(file, "{}", secret()?).and_then(|()| file.sync_all()).with_context(cannot_write)?;
    fs::rename(&unfinished, &path).with_context(cannot_write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_kit::secret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_are_made_once_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("off")).unwrap();
        home.make_secrets().unwrap();
        let read = || -> Vec<String> {
            let names = [AUTH_SECRET.to_owned(), client_file("generator"), client_file("operator")];
            names.iter().map(|name| secret::read(&home.secrets().join(name)).unwrap()).collect()
        };
        let first = read();
        assert!(first[0].len() >= 32 && OpaqueKey::parse(OpaqueKey::CLIENT, &first[1]).is_some(), "{}", first[0].len());
        for entry in fs::read_dir(home.secrets()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(home.secrets()).unwrap().permissions().mode() & 0o777, 0o700);
        home.make_secrets().unwrap();
        assert_eq!(read(), first);
    }
}
