//! Letters.

use super::{facts, kind};
use crate::domain::{Letter, LetterKind, NewLetter};
use chrono::{DateTime, Utc};
use off_events::{Money, UserId};
use sqlx::PgPool;
use uuid::Uuid;

/// What became of letters.
#[derive(Debug)]
pub(crate) struct Written {
    /// How many were written of each kind.
    pub(crate) kinds: Vec<(LetterKind, u64)>,
    /// Whether some are to people who do not exist.
    pub(crate) has_unknown: bool,
}

/// Stores the letters that are not written yet, one per subject and kind, to people who exist. Queues an e-mail for each
/// that its person wants by e-mail, unless they are simulated. E-mails beyond `mails_per_person` in an hour are suppressed;
/// if it is 0, there are no e-mails.
pub(crate) async fn insert_letters(
    db: &PgPool,
    letters: &[NewLetter],
    at: DateTime<Utc>,
    mails_per_person: u32,
) -> sqlx::Result<Written> {
    let subjects: Vec<Uuid> = letters.iter().map(|letter| letter.subject).collect();
    let kinds: Vec<String> = letters.iter().map(|letter| letter.kind.as_str().to_owned()).collect();
    let users: Vec<i64> = letters.iter().map(|letter| letter.user.0).collect();
    let barcodes: Vec<Option<String>> = letters.iter().map(|letter| letter.facts.barcode.clone()).collect();
    let quantities: Vec<Option<i32>> = letters.iter().map(|letter| letter.facts.quantity).collect();
    let totals: Vec<Option<i64>> = letters.iter().map(|letter| letter.facts.total.map(Money::cents)).collect();
    let missing: Vec<Option<i64>> = letters.iter().map(|letter| letter.facts.missing.map(Money::cents)).collect();
    let rows = sqlx::query!(
        // In one order, so that concurrent transactions do not deadlock.
        r#"WITH known AS MATERIALIZED (
               SELECT row.*, is_simulated
               FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::bigint[], $7::bigint[])
                    AS row (subject, kind, user_id, barcode, quantity, total, missing)
                    JOIN users.recipients USING (user_id)
           ), written AS (
               INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
               SELECT subject, kind::letters.letter_kind, user_id, barcode, quantity, total, missing, $8
               FROM known ORDER BY subject, kind::letters.letter_kind
               ON CONFLICT (subject, kind) DO NOTHING
               RETURNING id, subject, kind, user_id
           ), wanted AS (
               SELECT written.id, subject, kind, user_id, row_number() OVER (PARTITION BY user_id ORDER BY written.id)
                      + (SELECT count(*) FROM (SELECT FROM letters.mails AS earlier
                                               WHERE earlier.user_id = written.user_id AND state <> 'suppressed'
                                                     AND queued_at > $8 - interval '1 hour' LIMIT $9) AS recent) AS number
               FROM written JOIN users.recipients USING (user_id) LEFT JOIN letters.readers USING (user_id)
               WHERE $9 > 0 AND NOT is_simulated AND (kind = ANY (not_mailed)) IS NOT TRUE
           ), queued AS (
               INSERT INTO letters.mails (letter_id, subject, kind, user_id, queued_at, next_at, state, detail)
               SELECT id, subject, kind, user_id, $8, now(),
                      CASE WHEN number > $9 THEN 'suppressed' ELSE 'queued' END::letters.mail_state,
                      CASE WHEN number > $9 THEN 'the person got too many e-mails within an hour' END
               FROM wanted
           )
           SELECT NULL AS kind, (SELECT count(*) FROM known) AS "count!"
           UNION ALL
           SELECT kind::text, count(*) FROM written GROUP BY kind"#,
        &subjects,
        &kinds,
        &users,
        &barcodes as &[Option<String>],
        &quantities as &[Option<i32>],
        &totals as &[Option<i64>],
        &missing as &[Option<i64>],
        at,
        i64::from(mails_per_person),
    )
    .fetch_all(db)
    .await?;
    let mut written = Written { kinds: Vec::new(), has_unknown: false };
    for row in rows {
        match row.kind {
            Some(name) => written.kinds.push((kind(&name)?, row.count.unsigned_abs())),
            None => written.has_unknown = usize::try_from(row.count).is_ok_and(|known| known < letters.len()),
        }
    }
    Ok(written)
}

/// The letters of a person, newest first, at most `limit`; only those before the letter `before` and of one kind, if
/// given.
pub(crate) async fn list_letters(
    db: &PgPool,
    user: UserId,
    only: Option<LetterKind>,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Letter>> {
    let rows = sqlx::query_as!(
        LetterRow,
        // An index range for each kind.
        r#"SELECT page.id AS "id!", page.subject AS "subject!", page.kind::text AS "kind!", page.barcode, page.quantity,
                  page.total, page.missing, page.written_at AS "written_at!", person.first_name AS "first_name!",
                  (SELECT name FROM catalog.products WHERE barcode = page.barcode) AS product, page.id <= coalesce(reader.read_through, 0) AS "is_read!"
           FROM (
               SELECT letter.* FROM unnest(enum_range(NULL::letters.letter_kind)) AS wanted (kind)
               CROSS JOIN LATERAL (
                   SELECT id, subject, kind, user_id, barcode, quantity, total, missing, written_at
                   FROM letters.letters
                   WHERE user_id = $1 AND kind = wanted.kind AND id < coalesce($3, 9223372036854775807)
                   ORDER BY id DESC LIMIT $4
               ) AS letter
               WHERE $2::text IS NULL OR wanted.kind::text = $2
               ORDER BY letter.id DESC LIMIT $4
           ) AS page
           JOIN users.recipients AS person ON person.user_id = page.user_id
           LEFT JOIN letters.readers AS reader ON reader.user_id = page.user_id
           ORDER BY page.id DESC"#,
        user.0,
        only.map(LetterKind::as_str),
        before,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(LetterRow::into_letter).collect()
}

/// The letters of a person about an order, newest first.
pub(crate) async fn list_letters_of_order(db: &PgPool, user: UserId, order: Uuid) -> sqlx::Result<Vec<Letter>> {
    let rows = sqlx::query_as!(
        LetterRow,
        r#"SELECT letter.id, letter.subject, letter.kind::text AS "kind!", letter.barcode, letter.quantity, letter.total,
                  letter.missing, letter.written_at, person.first_name AS "first_name!",
                  (SELECT name FROM catalog.products WHERE barcode = letter.barcode) AS product,
                  letter.id <= coalesce(reader.read_through, 0) AS "is_read!"
           FROM letters.letters AS letter
           JOIN users.recipients AS person ON person.user_id = letter.user_id
           LEFT JOIN letters.readers AS reader ON reader.user_id = letter.user_id
           WHERE letter.subject = $2 AND letter.user_id = $1
           ORDER BY letter.id DESC"#,
        user.0,
        order,
    );
    rows.fetch_all(db).await?.into_iter().map(LetterRow::into_letter).collect()
}

/// A letter with what its text needs.
#[derive(Debug)]
struct LetterRow {
    id: i64,
    subject: Uuid,
    kind: String,
    barcode: Option<String>,
    quantity: Option<i32>,
    total: Option<i64>,
    missing: Option<i64>,
    written_at: DateTime<Utc>,
    first_name: String,
    product: Option<String>,
    is_read: bool,
}

impl LetterRow {
    fn into_letter(self) -> sqlx::Result<Letter> {
        Ok(Letter {
            id: self.id,
            subject: self.subject,
            kind: kind(&self.kind)?,
            facts: facts(self.barcode, self.quantity, self.total, self.missing)?,
            first_name: self.first_name,
            product: self.product,
            written_at: self.written_at,
            is_read: self.is_read,
        })
    }
}

/// A letter of a person.
pub(crate) async fn find_letter(db: &PgPool, user: UserId, id: i64) -> sqlx::Result<Option<Letter>> {
    let Some(after) = id.checked_add(1) else { return Ok(None) };
    let newest = list_letters(db, user, None, Some(after), 1).await?;
    Ok(newest.into_iter().next().filter(|letter| letter.id == id))
}
