//! Attempts to sign in: each is taken before the password is verified, and given back if it costs none.

use crate::{
    App,
    domain::{AttemptKey, normal_email, whole_seconds},
    refusal::Refusal,
    store::{self, Account, Attempt},
};
use off_kit::{http::RequestSource, password::HashError};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{Instrument, warn};

/// Maximum number of verifications at once: as many as requests. Those whose clients have left count, too.
const MAX_AT_ONCE: u32 = 512;

/// How long verifications may take to end at the shutdown.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes an attempt with an e-mail address. Returns it with the account; `None` if nobody has the address.
pub(crate) async fn take(
    app: &App,
    email: &str,
    source: &RequestSource,
) -> Result<(AttemptKey, Option<Account>), Refusal> {
    let email = normal_email(email);
    let key = AttemptKey::new(&email, source);
    match store::take_attempt(&app.db, &email, &key, app.attempt_limits, app.clock.now()).await? {
        Attempt::Allowed(account) => Ok((key, account)),
        Attempt::Refused(wait) => Err(Refusal::TooManyAttempts(whole_seconds(wait))),
    }
}

/// Gives the attempt back after a failure that does not tell whether the password is wrong.
pub(crate) async fn or_give_back<T>(
    app: &App,
    key: &AttemptKey,
    result: Result<T, impl Into<Refusal>>,
) -> Result<T, Refusal> {
    if result.is_err()
        && let Err(error) = give_back(app, &app.db, key).await
    {
        warn!("cannot give an attempt to sign in back: {error}");
    }
    result.map_err(Into::into)
}

async fn give_back(app: &App, db: &PgPool, key: &AttemptKey) -> sqlx::Result<()> {
    let mut conn = db.acquire().await?;
    store::give_back_attempt(&mut conn, key, app.attempt_limits).await
}

/// Verifications that run to their end although their clients leave, so that each attempt is given back, or counted and
/// logged. Clones share the limit.
#[derive(Debug, Clone)]
pub(crate) struct Verifications {
    permits: Arc<Semaphore>,
}

impl Verifications {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_AT_ONCE as usize)) }
    }

    /// Runs a verification in a task of its own.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        verification: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| HashError::Full)?;
        let running = async move {
            let _permit = permit;
            verification.await
        };
        tokio::spawn(running.in_current_span()).await.map_err(|error| Refusal::Failed(error.into()))?
    }

    /// Waits at the shutdown for those whose clients have left.
    pub(crate) async fn ended(&self) {
        if timeout(END_TIMEOUT, self.permits.acquire_many(MAX_AT_ONCE)).await.is_err() {
            warn!("some sign-ins have not ended");
        }
    }
}
