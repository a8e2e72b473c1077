//! Passwords, as hashes that are slow on purpose.

use anyhow::anyhow;
use argon2::{Argon2, password_hash::PasswordHasher};
use std::{sync::Arc, thread::available_parallelism};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Hashes passwords with argon2id, away from the threads that answer requests, and no more at once than there are
/// cores: each takes 19 MiB and a core for some tens of milliseconds. Clones share that limit.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    free: Arc<Semaphore>,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new(cores)) }
    }

    /// The password as a PHC string, with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> anyhow::Result<String> {
        let permit = self.free.clone().acquire_owned().await?;
        spawn_blocking(move || {
            let _held_while_hashing = permit;
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| anyhow!("cannot hash a password: {error}"))
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};

    #[tokio::test]
    async fn a_hash_knows_its_password_and_no_other() {
        let hash = Hasher::new().hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let hash = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &hash).is_ok());
        assert!(Argon2::default().verify_password(b"battery staple", &hash).is_err());
    }
}
