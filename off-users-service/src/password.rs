//! Passwords, as hashes that are slow on purpose.

use argon2::{Argon2, password_hash::PasswordHasher};
use std::{sync::Arc, thread::available_parallelism};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// The most passwords that wait for each core; that is about two seconds. More are told to come back.
const WAITING: usize = 64;

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unhashed {
    #[error("too many passwords wait to be hashed already")]
    Full,
    #[error("cannot hash a password: {0}")]
    Failed(String),
}

/// Hashes passwords with argon2id, away from the threads that answer requests, and no more at once than there are
/// cores: each takes 19 MiB and a core for some tens of milliseconds. Clones share that limit.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    free: Arc<Semaphore>,
    /// Places for those that are being hashed or wait for it.
    room: Arc<Semaphore>,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new(cores)), room: Arc::new(Semaphore::new(cores * WAITING)) }
    }

    /// The password as a PHC string, with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Unhashed> {
        let _held_until_hashed = self.room.try_acquire().map_err(|_| Unhashed::Full)?;
        let permit = self.free.clone().acquire_owned().await.map_err(|error| Unhashed::Failed(error.to_string()))?;
        let hashing = spawn_blocking(move || {
            let _held_while_hashing = permit;
            Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
        });
        let hashed = hashing.await.map_err(|error| Unhashed::Failed(error.to_string()))?;
        hashed.map_err(|error| Unhashed::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};

    #[tokio::test]
    async fn who_would_wait_long_is_told_at_once() {
        let hasher = Hasher::new();
        let room = hasher.room.available_permits();
        let all = (0..=room).map(|_| hasher.hash("correct horse".to_owned()));
        let hashed = futures::future::join_all(all).await;
        assert!(hashed[..room].iter().all(Result::is_ok));
        assert!(matches!(hashed[room], Err(Unhashed::Full)));
    }

    #[tokio::test]
    async fn a_hash_knows_its_password_and_no_other() {
        let hash = Hasher::new().hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let hash = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &hash).is_ok());
        assert!(Argon2::default().verify_password(b"battery staple", &hash).is_err());
    }
}
