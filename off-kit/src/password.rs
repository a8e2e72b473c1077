//! Passwords of people: hashing with argon2id, and the list of those that everybody guesses first.

mod common;

pub use common::is_common;

use argon2::{
    ARGON2ID_IDENT, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use off_events::InvalidValue;
use std::{sync::Arc, thread::available_parallelism};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Maximum number of queued passwords per core, about two seconds of work. More are rejected with [`HashError::Full`].
const MAX_QUEUED_PER_CORE: usize = 64;

/// The salt of the hash that is computed where there is nothing to verify. Its result is not used.
const UNUSED_SALT: [u8; 16] = [0; 16];

/// Requires 8 to 200 characters, and that it is not common.
pub fn parse(text: &str) -> Result<String, InvalidValue> {
    match text.chars().count() {
        8..=200 if is_common(text) => {
            Err(InvalidValue("this is one of the most frequent passwords, which are tried first: choose another one"))
        }
        8..=200 => Ok(text.to_owned()),
        _ => Err(InvalidValue("a password has 8 to 200 characters")),
    }
}

/// Why a password was not hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many passwords wait already; try again later.
    #[error("the password hashing queue is full")]
    Full,
    /// A defect.
    #[error("cannot hash a password: {0}")]
    Failed(String),
}

/// Hashes passwords with argon2id on blocking threads, at most one per core at a time, because each hash takes 19 MiB
/// and a core for some tens of milliseconds. Clones share that limit.
#[derive(Debug, Clone)]
pub struct Hasher {
    core_permits: Arc<Semaphore>,
    /// Permits for passwords that are hashed or queued.
    queue: Arc<Semaphore>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// A hasher with an empty queue.
    pub fn new() -> Self {
        Self::with_queue(cores() * MAX_QUEUED_PER_CORE)
    }

    /// A hasher that takes at most `max_queued` passwords at once.
    pub fn with_queue(max_queued: usize) -> Self {
        Self { core_permits: Arc::new(Semaphore::new(cores())), queue: Arc::new(Semaphore::new(max_queued)) }
    }

    /// Hashes a password with a random salt; returns a PHC string. Fails if the queue is full.
    pub async fn hash(&self, password: String) -> Result<String, HashError> {
        let hashed =
            self.run(move || Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()));
        hashed.await?.map_err(|error| HashError::Failed(error.to_string()))
    }

    /// Whether `hash`, a PHC string, is that of `password`. Does the same work without a hash, or with an unreadable
    /// one, so that its duration does not tell whether somebody is registered. Fails if the queue is full.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, HashError> {
        self.run(move || {
            let argon2 = Argon2::default();
            let Some(hash) = hash.as_deref().and_then(|hash| PasswordHash::new(hash).ok()) else {
                let _ = argon2.hash_password_with_salt(password.as_bytes(), &UNUSED_SALT);
                return false;
            };
            argon2.verify_password(password.as_bytes(), &hash).is_ok()
        })
        .await
    }

    /// Whether `hash` was made with other parameters than those of today, so that the password should be hashed anew.
    pub fn needs_rehash(hash: &str) -> bool {
        let Ok(hash) = PasswordHash::new(hash) else { return true };
        let today = Params::default();
        let is_current = Params::try_from(&hash).is_ok_and(|params| {
            let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
            costs(&params) == costs(&today)
        });
        !is_current || hash.algorithm != ARGON2ID_IDENT || hash.version != Some(Version::default().into())
    }

    /// Runs `work` on a blocking thread when a core is free.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
        let _queue_permit = self.queue.try_acquire().map_err(|_| HashError::Full)?;
        let permit =
            self.core_permits.clone().acquire_owned().await.map_err(|error| HashError::Failed(error.to_string()))?;
        let working = spawn_blocking(move || {
            let _core_permit = permit;
            work()
        });
        working.await.map_err(|error| HashError::Failed(error.to_string()))
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let hasher = Hasher::new();
        let hash = hasher.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |password: &str, hash: Option<&str>| hasher.verify(password.to_owned(), hash.map(str::to_owned));
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        for (password, hash) in
            [("battery staple", Some(&*hash)), ("correct horse", Some("-")), ("correct horse", None)]
        {
            assert!(!verify(password, hash).await.unwrap(), "{hash:?}");
        }
    }

    #[tokio::test]
    async fn only_a_hash_of_other_parameters_is_made_anew() {
        let today = Hasher::new().hash("correct horse".to_owned()).await.unwrap();
        assert!(!Hasher::needs_rehash(&today));
        for (current, other) in [("m=19456", "m=12288"), ("t=2", "t=1"), ("argon2id", "argon2i"), ("v=19", "v=16")] {
            assert!(Hasher::needs_rehash(&today.replace(current, other)), "{other}");
        }
        assert!(Hasher::needs_rehash("-"));
    }
}
