//! What people read and want.

use super::kind;
use crate::domain::Preferences;
use off_events::UserId;
use sqlx::PgPool;

/// Unread letters are counted up to this number.
const MOST_UNREAD: i64 = 1000;

/// A person who gets letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader {
    /// The number of unread letters, at most 1000.
    pub(crate) unread: i64,
    pub(crate) preferences: Preferences,
}

/// The person `user`, if they exist and are simulated as `simulated` says, unless it is `None`.
pub(crate) async fn find_reader(db: &PgPool, user: UserId, simulated: Option<bool>) -> sqlx::Result<Option<Reader>> {
    let row = sqlx::query!(
        // The letters of each kind are an index range.
        r#"SELECT coalesce(not_mailed::text[], '{}') AS "not_mailed!",
                  (SELECT count(*) FROM (
                       SELECT FROM unnest(enum_range(NULL::letters.letter_kind)) AS wanted (kind)
                       CROSS JOIN LATERAL (
                           SELECT FROM letters.letters
                           WHERE user_id = person.user_id AND kind = wanted.kind AND id > coalesce(read_through, 0)
                           LIMIT $3
                       ) AS letter
                       LIMIT $3
                   ) AS unread) AS "unread!"
           FROM users.recipients AS person LEFT JOIN letters.readers USING (user_id)
           WHERE user_id = $1 AND ($2::bool IS NULL OR is_simulated = $2)"#,
        user.0,
        simulated,
        MOST_UNREAD,
    );
    let row = row.fetch_optional(db).await?;
    row.map(|row| {
        let not_mailed: sqlx::Result<Vec<_>> = row.not_mailed.iter().map(|name| kind(name)).collect();
        Ok(Reader { unread: row.unread, preferences: Preferences { not_mailed: not_mailed? } })
    })
    .transpose()
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
