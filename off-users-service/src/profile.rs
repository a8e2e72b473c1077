//! Changes profiles. The e-mail address of a person and that of their account change together.

use crate::{
    App,
    domain::{EventKind, Profile, SecurityEvent, User},
    store::{self, ChangedUser},
};
use off_events::UserId;
use off_kit::{auth::RowAccess, http::RequestSource};

/// Why a profile was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("there is no such person")]
    NoPerson,
    #[error("the e-mail address belongs to somebody else")]
    EmailTaken,
    #[error(transparent)]
    Database(sqlx::Error),
}

/// Replaces the profile of a person within `access`. A repetition changes nothing.
pub(crate) async fn change(
    app: &App,
    id: UserId,
    access: RowAccess,
    profile: &Profile,
    source: &RequestSource,
) -> Result<User, ChangeError> {
    update(app, id, access, profile, source).await.map_err(into_error)?.ok_or(ChangeError::NoPerson)
}

/// `None` if there is no such person.
async fn update(
    app: &App,
    id: UserId,
    access: RowAccess,
    profile: &Profile,
    source: &RequestSource,
) -> sqlx::Result<Option<User>> {
    let mut tx = app.db.begin().await?;
    let changed = store::update_user(&mut tx, id, access, profile).await?;
    let Some(ChangedUser { user, has_new_email, has_new_profile }) = changed else { return Ok(None) };
    if has_new_email {
        store::update_account_email(&mut tx, id, profile.email.as_str()).await?;
    }
    let kinds = [(has_new_email, EventKind::EmailChanged), (has_new_profile, EventKind::ProfileChanged)];
    let happened = kinds.into_iter().filter(|(happened, _)| *happened);
    let events: Vec<_> = happened.map(|(_, kind)| SecurityEvent::of_person(id, kind, String::new())).collect();
    store::insert_security_events(&mut tx, &events, source, app.clock.now()).await?;
    tx.commit().await?;
    Ok(Some(user))
}

fn into_error(error: sqlx::Error) -> ChangeError {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_taken" | "accounts_email_taken") => ChangeError::EmailTaken,
        _ => ChangeError::Database(error),
    }
}
