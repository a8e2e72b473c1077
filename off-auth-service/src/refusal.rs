//! Why a person does not get what they ask for.

use crate::keys::SigningError;
use off_kit::password::HashError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// One answer for everything that is wrong, so that it does not tell who is registered.
    #[error("there is no account with this e-mail address and this password")]
    WrongCredentials,
    /// With the seconds until the next attempt.
    #[error("there were too many attempts")]
    TooManyAttempts(u32),
    #[error("the refresh token is not valid")]
    InvalidRefreshToken,
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}
