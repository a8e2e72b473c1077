//! What people read and want.

use super::kind;
use crate::domain::Preferences;
use off_events::UserId;
use sqlx::PgPool;

/// Unread letters are counted up to this number.
const MOST_UNREAD: i64 = 1000;

/// What the person `user` wants, if they exist and are simulated as `simulated` says, unless it is `None`.
pub(crate) async fn find_preferences(
    db: &PgPool,
    user: UserId,
    simulated: Option<bool>,
) -> sqlx::Result<Option<Preferences>> {
    let names = sqlx::query_scalar!(
        r#"SELECT coalesce(not_mailed::text[], '{}') AS "not_mailed!"
           FROM users.recipients LEFT JOIN letters.readers USING (user_id)
           WHERE user_id = $1 AND ($2::bool IS NULL OR is_simulated = $2)"#,
        user.0,
        simulated,
    );
    let names = names.fetch_optional(db).await?;
    names
        .map(|names| {
            let not_mailed: sqlx::Result<Vec<_>> = names.iter().map(|name| kind(name)).collect();
            Ok(Preferences { not_mailed: not_mailed? })
        })
        .transpose()
}

/// Counts the unread letters of a person, at most [`MOST_UNREAD`].
pub(crate) async fn count_unread(db: &PgPool, user: UserId) -> sqlx::Result<i64> {
    let unread = sqlx::query_scalar!(
        // The letters of each kind are an index range.
        r#"SELECT count(*) AS "count!" FROM (
               SELECT FROM unnest(enum_range(NULL::letters.letter_kind)) AS wanted (kind)
               CROSS JOIN LATERAL (
                   SELECT FROM letters.letters
                   WHERE user_id = $1 AND kind = wanted.kind
                     AND id > coalesce((SELECT read_through FROM letters.readers WHERE user_id = $1), 0)
                   LIMIT $2
               ) AS letter
               LIMIT $2
           ) AS unread"#,
        user.0,
        MOST_UNREAD,
    );
    unread.fetch_one(db).await
}

/// Marks the letters of a person as read, up to the letter `id`.
pub(crate) async fn mark_read(db: &PgPool, user: UserId, id: i64) -> sqlx::Result<()> {
    let marked = sqlx::query!(
        "INSERT INTO letters.readers AS reader (user_id, read_through) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET read_through = greatest(reader.read_through, excluded.read_through)",
        user.0,
        id,
    );
    marked.execute(db).await?;
    Ok(())
}

/// Sets which letters a person wants by e-mail.
pub(crate) async fn update_preferences(db: &PgPool, user: UserId, preferences: &Preferences) -> sqlx::Result<()> {
    let names: Vec<String> = preferences.not_mailed.iter().map(|kind| kind.as_str().to_owned()).collect();
    let updated = sqlx::query!(
        "INSERT INTO letters.readers (user_id, not_mailed) VALUES ($1, ($2::text[])::letters.letter_kind[])
         ON CONFLICT (user_id) DO UPDATE SET not_mailed = excluded.not_mailed",
        user.0,
        &names,
    );
    updated.execute(db).await?;
    Ok(())
}
