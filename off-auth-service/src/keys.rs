//! The keys that sign access tokens: made in time, sealed in the database, and read by every replica.

use crate::{
    domain::{EventKind, MAX_PUBLISHED_KEYS, NextStep, SecurityEvent, SigningPeriod, SigningState},
    secret::Secrets,
    store::{self, StoredKey},
};
use anyhow::Context;
use chrono::TimeDelta;
use metrics::gauge;
use off_kit::{
    Clock, Kit, LogLimit,
    auth::{Claims, Jwk, KeySet, SigningKey},
    backoff::Backoff,
    db,
    http::RequestSource,
};
use sqlx::{PgConnection, PgPool};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

/// How often the keys are read, so that each replica knows the keys of the others.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// There is no key that signs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("there is no key that signs yet")]
    NoKey,
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Why an operator could not make a key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    #[error("there are too many published keys")]
    TooMany,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// A published key. `signer` is `None` if it was sealed with another master secret.
#[derive(Debug, Clone)]
struct LoadedKey {
    kid: String,
    period: SigningPeriod,
    jwk: Jwk,
    signer: Option<SigningKey>,
}

/// The published keys. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    db: PgPool,
    clock: Clock,
    secrets: Arc<Secrets>,
    loaded: Arc<RwLock<Vec<LoadedKey>>>,
    /// Held while the keys are read, so that an earlier state never replaces a later one.
    reading: Arc<Mutex<()>>,
    /// The public halves, for the verifier of this service.
    public: KeySet,
}

impl Keys {
    /// Spawns a task on `kit` that makes missing keys and reads those of other replicas. `public` gets the public
    /// halves.
    pub(crate) fn start(kit: &Kit, db: &PgPool, secrets: &Arc<Secrets>, public: KeySet) -> Self {
        let keys = Self {
            db: db.clone(),
            clock: kit.clock,
            secrets: secrets.clone(),
            loaded: Arc::default(),
            reading: Arc::default(),
            public,
        };
        let (running, tasks) = (keys.clone(), kit.tasks.clone());
        kit.tasks.spawn("signing keys", async move {
            let (log_limit, mut backoff) = (LogLimit::default(), Backoff::default());
            while !tasks.is_stopping() {
                let kept = tokio::select! {
                    () = tasks.stopping() => break,
                    kept = db::with_timeout(running.clock, running.maintain()) => kept,
                };
                let pause = match kept {
                    Ok(()) => {
                        backoff = Backoff::default();
                        running.clock.shortened(POLL_INTERVAL)
                    }
                    Err(error) => {
                        if let Some(suppressed) = log_limit.admit() {
                            warn!(suppressed, "cannot read the signing keys, retrying: {error:#}");
                        }
                        backoff.pause()
                    }
                };
                tokio::select! {
                    () = tasks.stopping() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            Ok(())
        });
        keys
    }

    /// An access token with these claims, signed with the key that began to sign last.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, SigningError> {
        let now = self.clock.now();
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let signing = loaded.iter().filter(|key| key.period.state(now) == SigningState::Signing);
        let signing = signing.filter_map(|key| Some((key.period.signs_from, key.signer.as_ref()?)));
        let (_, key) = signing.max_by_key(|(since, _)| *since).ok_or(SigningError::NoKey)?;
        key.sign(claims).map_err(SigningError::Failed)
    }

    /// The public halves of all published keys.
    pub(crate) fn published(&self) -> Vec<Jwk> {
        let now = self.clock.now();
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let published = loaded.iter().filter(|key| key.period.state(now) != SigningState::Retired);
        published.map(|key| key.jwk.clone()).collect()
    }

    /// Reads the keys, and provides the one that is missing.
    async fn maintain(&self) -> anyhow::Result<()> {
        self.reload().await?;
        if SigningPeriod::next_step(&self.usable_periods(), self.clock.now()) != NextStep::Nothing {
            self.provide_missing().await?;
            self.reload().await?;
        }
        let now = self.clock.now();
        let last = self.usable_periods().into_iter().map(|period| period.signs_until).max();
        let left = last.map_or(0, |last| (last - now).num_seconds());
        gauge!("off_signing_key_seconds_left").set(left as f64);
        Ok(())
    }

    fn usable_periods(&self) -> Vec<SigningPeriod> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().filter(|key| key.signer.is_some()).map(|key| key.period).collect()
    }

    /// Reads the published keys from the database.
    async fn reload(&self) -> anyhow::Result<()> {
        let _reading = self.reading.lock().await;
        let stored = store::list_signing_keys(&self.db, self.clock.now()).await?;
        let loaded: Vec<LoadedKey> = stored.into_iter().map(|key| self.load(key)).collect::<anyhow::Result<_>>()?;
        let jwks: Vec<Jwk> = loaded.iter().map(|key| key.jwk.clone()).collect();
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        if !jwks.is_empty() {
            self.public.replace(&jwks)?;
        }
        Ok(())
    }

    /// Only the times of a key change, so a known key is not opened again.
    fn load(&self, stored: StoredKey) -> anyhow::Result<LoadedKey> {
        let StoredKey { kid, public_jwk, private_sealed, period } = stored;
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.iter().find(|key| key.kid == kid) {
            return Ok(LoadedKey { period, ..known.clone() });
        }
        let jwk = serde_json::from_value(public_jwk).with_context(|| format!("the key {kid}"))?;
        let signer = self.open(&kid, &private_sealed);
        if signer.is_none() {
            warn!("the signing key {kid} was sealed with another master secret: it verifies, and signs no more");
        }
        Ok(LoadedKey { kid, period, jwk, signer })
    }

    fn open(&self, kid: &str, sealed: &[u8]) -> Option<SigningKey> {
        let private = self.secrets.open(kid, sealed)?;
        SigningKey::from_pkcs8(&private).ok().filter(|key| key.kid() == kid)
    }

    /// Provides the key that is missing, unless another replica was faster.
    async fn provide_missing(&self) -> anyhow::Result<()> {
        let mut tx = self.db.begin().await?;
        store::lock_signing_keys(&mut tx).await?;
        self.take_next_step(&mut tx, "auth", &RequestSource::default()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Makes the key that is missing, or lets one that waits sign now, in a transaction that has locked the keys.
    async fn take_next_step(&self, conn: &mut PgConnection, by: &str, source: &RequestSource) -> anyhow::Result<()> {
        let now = self.clock.now();
        let mut usable = store::list_signing_keys(&mut *conn, now).await?;
        usable.retain(|key| self.open(&key.kid, &key.private_sealed).is_some());
        let periods: Vec<SigningPeriod> = usable.iter().map(|key| key.period).collect();
        match SigningPeriod::next_step(&periods, now) {
            NextStep::Nothing => {}
            NextStep::Start(index, period) => self.start_early(conn, &usable[index].kid, period, by, source).await?,
            NextStep::Make(period) => {
                self.insert(conn, period, "auth", source).await?;
            }
        }
        Ok(())
    }

    /// Lets a published key sign before its time.
    async fn start_early(
        &self,
        conn: &mut PgConnection,
        kid: &str,
        period: SigningPeriod,
        by: &str,
        source: &RequestSource,
    ) -> anyhow::Result<()> {
        store::move_signing_key(&mut *conn, kid, period).await?;
        let event = SecurityEvent::new(EventKind::SigningKeyStarted, by, source, kid);
        store::insert_security_event(conn, &event, period.signs_from).await?;
        info!("the signing key {kid} signs from now, because no other does");
        Ok(())
    }

    /// Makes a key with these times.
    async fn insert(
        &self,
        conn: &mut PgConnection,
        period: SigningPeriod,
        subject: &str,
        source: &RequestSource,
    ) -> anyhow::Result<String> {
        let (key, private) = SigningKey::generate()?;
        let sealed = self.secrets.seal(key.kid(), &private)?;
        let jwk = serde_json::to_value(key.jwk())?;
        let stored = StoredKey { kid: key.kid().to_owned(), public_jwk: jwk, private_sealed: sealed, period };
        store::insert_signing_key(conn, &stored).await?;
        let event = SecurityEvent::new(EventKind::SigningKeyCreated, subject, source, key.kid());
        store::insert_security_event(conn, &event, period.created_at).await?;
        info!("made the signing key {}, which signs from {}", key.kid(), period.signs_from);
        Ok(stored.kid)
    }

    /// Makes a key that is published now and signs after `delay`. Returns its id and its times.
    pub(crate) async fn rotate(
        &self,
        delay: TimeDelta,
        by: &str,
        source: &RequestSource,
    ) -> Result<(String, SigningPeriod), RotationError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        store::lock_signing_keys(&mut tx).await?;
        if store::list_signing_keys(&mut *tx, now).await?.len() >= MAX_PUBLISHED_KEYS {
            return Err(RotationError::TooMany);
        }
        let period = SigningPeriod::starting(now, delay);
        let kid = self.insert(&mut tx, period, by, source).await.map_err(into_error)?;
        tx.commit().await?;
        self.reload_now().await;
        Ok((kid, period))
    }

    /// Retires a published key: its tokens are not accepted any more. If no other key signs, one that waits signs at
    /// once, or a new one if verifiers may not know that yet. Returns whether there is such a key.
    pub(crate) async fn retire(&self, kid: &str, by: &str, source: &RequestSource) -> Result<bool, RotationError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        store::lock_signing_keys(&mut tx).await?;
        if !store::retire_signing_key(&mut tx, kid, now).await? {
            return Ok(false);
        }
        let event = SecurityEvent::new(EventKind::SigningKeyRetired, by, source, kid);
        store::insert_security_event(&mut tx, &event, now).await?;
        self.take_next_step(&mut tx, by, source).await.map_err(into_error)?;
        tx.commit().await?;
        info!("retired the signing key {kid}");
        self.reload_now().await;
        Ok(true)
    }

    /// The published keys and their times, the newest first.
    pub(crate) async fn list(&self) -> sqlx::Result<Vec<(String, SigningPeriod)>> {
        let stored = store::list_signing_keys(&self.db, self.clock.now()).await?;
        Ok(stored.into_iter().map(|key| (key.kid, key.period)).collect())
    }

    /// After a change by an operator. If it fails, the next poll reads the keys.
    async fn reload_now(&self) {
        if let Err(error) = self.reload().await {
            error!("cannot read the signing keys after a change, retrying at the next poll: {error:#}");
        }
    }
}

/// Separates errors of the database, after which a retry may succeed, from the others.
fn into_error(error: anyhow::Error) -> RotationError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => RotationError::Database(error),
        Err(error) => RotationError::Failed(error),
    }
}
