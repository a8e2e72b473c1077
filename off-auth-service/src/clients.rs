//! Devices, clients and the sessions of browsers obtain tokens with credentials of their own.

use crate::{
    App,
    domain::{EventKind, SecurityEvent},
    events,
    keys::SigningError,
    secret::is_match,
    store,
    tokens::{self, AccessToken},
};
use metrics::counter;
use off_events::SsdId;
use off_kit::{
    auth::{OpaqueKey, Scope, Scopes, Subject},
    http::RequestSource,
};
use uuid::Uuid;

/// The prefix of a device as a client: `ssd-2032`.
const DEVICE_PREFIX: &str = "ssd-";

/// A session as a client: whose it is follows from its key.
const SESSION_ID: &str = "session";

/// Maximum length of the id of a client.
const MAX_ID_LENGTH: usize = 100;

/// A device, client or session that has proved who it is.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) subject: Subject,
    /// The key or secret that it used.
    pub(crate) sid: Uuid,
    /// What it may ask for.
    scopes: Scopes,
}

/// Why a token was not issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotIssued {
    #[error("the client may not have this scope")]
    InvalidScope,
    #[error(transparent)]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The device, client or session with this id and secret; `None` if there is none.
pub(crate) async fn authenticate(app: &App, id: &str, secret: &str) -> sqlx::Result<Option<Authenticated>> {
    let found = match id.strip_prefix(DEVICE_PREFIX) {
        Some(number) => authenticate_device(app, number, secret).await?,
        None if id == SESSION_ID => authenticate_session(app, secret).await?,
        None => authenticate_client(app, id, secret).await?,
    };
    if found.is_none() {
        counter!("off_client_tokens_total", "outcome" => "unknown").increment(1);
    }
    Ok(found)
}

async fn authenticate_device(app: &App, number: &str, key: &str) -> sqlx::Result<Option<Authenticated>> {
    // `+1` and `01` are not how a device writes its number.
    let ssd_id = number.parse().ok().filter(|id: &i64| id.to_string() == number).map(SsdId);
    let Some((ssd_id, (id, _))) = ssd_id.zip(OpaqueKey::parse(OpaqueKey::DEVICE, key)) else { return Ok(None) };
    let stored = store::find_device_key(&app.db, ssd_id, id).await?;
    let Some(stored) = stored.filter(|stored| is_match(key, &stored.sha256)) else { return Ok(None) };
    store::record_use(&app.db, id, &stored, app.clock.now()).await?;
    let scopes = [Scope::Device].into_iter().collect();
    Ok(Some(Authenticated { subject: Subject::Device(ssd_id), sid: id, scopes }))
}

/// A session with its key has the scopes that its person has now, as with a refresh, and lives on like after one.
async fn authenticate_session(app: &App, key: &str) -> sqlx::Result<Option<Authenticated>> {
    let Some(key) = OpaqueKey::parse(OpaqueKey::SESSION, key) else { return Ok(None) };
    let now = app.clock.now();
    let used = store::use_session_key(&app.db, &key, now, now + app.session_limits.idle).await?;
    Ok(used.map(|(person, is_operator)| Authenticated {
        subject: Subject::Person(person),
        sid: key.0,
        scopes: tokens::scopes_of_person(is_operator),
    }))
}

async fn authenticate_client(app: &App, id: &str, secret: &str) -> sqlx::Result<Option<Authenticated>> {
    if id.len() > MAX_ID_LENGTH || id.contains('\0') {
        return Ok(None);
    }
    let secrets = store::list_client_secrets(&app.db, id).await?;
    let found = secrets.into_iter().find(|stored| is_match(secret, &stored.sha256));
    Ok(found.map(|found| Authenticated {
        subject: Subject::Client(id.to_owned()),
        sid: found.id,
        scopes: found.scopes,
    }))
}

/// A token of a device, client or session, with the scopes in `wanted`, which may be fewer than it has; without `wanted`, with
/// all.
pub(crate) async fn issue(
    app: &App,
    client: &Authenticated,
    wanted: Option<&str>,
    source: &RequestSource,
) -> Result<AccessToken, NotIssued> {
    let scopes = match wanted {
        None => client.scopes,
        Some(wanted) => narrow(client.scopes, wanted).ok_or(NotIssued::InvalidScope)?,
    };
    if scopes.is_empty() {
        return Err(NotIssued::InvalidScope);
    }
    let token = tokens::issue(app, &client.subject, client.sid, scopes)?;
    // The sign-in of a person was recorded already.
    if scopes.contains(Scope::Operate) && matches!(client.subject, Subject::Client(_)) {
        let event = SecurityEvent::new(EventKind::ClientToken, &client.subject, source, scopes.to_string());
        let mut conn = app.db.acquire().await?;
        store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    }
    counter!("off_client_tokens_total", "outcome" => "issued").increment(1);
    Ok(token)
}

/// The scopes in `wanted`, if `granted` has all of them.
fn narrow(granted: Scopes, wanted: &str) -> Option<Scopes> {
    let scopes: Option<Vec<Scope>> = wanted.split(' ').map(Scope::from_name).collect();
    let scopes: Scopes = scopes?.into_iter().collect();
    (scopes.intersection(granted) == scopes).then_some(scopes)
}

/// Revokes the access tokens that `client` obtained with the key or secret that it uses now.
pub(crate) async fn revoke_tokens(app: &App, client: &Authenticated, source: &RequestSource) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    events::put_revoked(app, &mut tx, &[client.sid]).await?;
    let event = SecurityEvent::new(EventKind::TokenRevoked, &client.subject, source, client.sid.to_string());
    store::insert_security_event(&mut tx, &event, app.clock.now()).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}
