//! Published events, one function per subject.

use crate::App;
use off_events::Revoked;
use off_kit::{
    auth::{LEEWAY, TOKEN_LIFETIME},
    outbox::Entry,
    telemetry,
};
use sqlx::PgConnection;
use uuid::Uuid;

/// `auth.revoked`: stores that the access tokens of these sessions or keys are not valid any more, in the transaction
/// that ends them. Wake the outbox after the commit.
pub(crate) async fn put_revoked(app: &App, conn: &mut PgConnection, sids: &[Uuid]) -> sqlx::Result<()> {
    let now = app.clock.now();
    let until = now + TOKEN_LIFETIME + LEEWAY;
    let events: Vec<Revoked> = sids.iter().map(|&sid| Revoked { sid, until }).collect();
    let traceparent = telemetry::current_traceparent();
    let entries: Vec<_> =
        events.iter().map(|event| Entry { event, occurred_at: now, traceparent: traceparent.clone() }).collect();
    app.outbox.put(conn, &entries).await
}
