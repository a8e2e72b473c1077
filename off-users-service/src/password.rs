//! Password hashing with argon2id.

use argon2::{Argon2, password_hash::PasswordHasher};
use std::{sync::Arc, thread::available_parallelism};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Maximum number of queued passwords per core, about two seconds of work. More are rejected with [`HashError::Full`].
const MAX_QUEUED_PER_CORE: usize = 64;

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    #[error("the password hashing queue is full")]
    Full,
    #[error("cannot hash a password: {0}")]
    Failed(String),
}

/// Hashes passwords with argon2id on blocking threads, at most one per core at a time, because each hash takes 19 MiB
/// and a core for some tens of milliseconds. Clones share that limit.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    core_permits: Arc<Semaphore>,
    /// Permits for passwords that are hashed or queued.
    queue: Arc<Semaphore>,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            core_permits: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(cores * MAX_QUEUED_PER_CORE)),
        }
    }

    /// Hashes a password with a random salt; returns a PHC string. Fails if the queue is full.
    pub(crate) async fn hash(&self, password: String) -> Result<String, HashError> {
        let _queue_permit = self.queue.try_acquire().map_err(|_| HashError::Full)?;
        let permit =
            self.core_permits.clone().acquire_owned().await.map_err(|error| HashError::Failed(error.to_string()))?;
        let hashing = spawn_blocking(move || {
            let _core_permit = permit;
            Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string())
        });
        let hashed = hashing.await.map_err(|error| HashError::Failed(error.to_string()))?;
        hashed.map_err(|error| HashError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};

    #[tokio::test]
    async fn a_full_hashing_queue_rejects_a_password_at_once() {
        let hasher = Hasher::new();
        let capacity = hasher.queue.available_permits();
        let all = (0..=capacity).map(|_| hasher.hash("correct horse".to_owned()));
        let hashed = futures::future::join_all(all).await;
        assert!(hashed[..capacity].iter().all(Result::is_ok));
        assert!(matches!(hashed[capacity], Err(HashError::Full)));
    }

    #[tokio::test]
    async fn a_hash_verifies_only_its_own_password() {
        let hash = Hasher::new().hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let hash = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse", &hash).is_ok());
        assert!(Argon2::default().verify_password(b"battery staple", &hash).is_err());
    }
}
