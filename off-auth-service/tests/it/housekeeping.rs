//! Old sessions, keys and counts of attempts are deleted.

use crate::Auth;
use off_testkit::eventually;

#[tokio::test]
async fn sessions_and_keys_are_deleted_a_month_after_they_ended() {
    let auth = Auth::start().await;
    let (user_id, _) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let db = &auth.world.database.pool;
    for days in [0, 29, 31] {
        let ended = format!("now() - interval '{days} days'");
        let session = format!(
            "INSERT INTO auth.sessions (id, user_id, salt, created_at, refreshed_at, idle_until, ends_at)
             VALUES (gen_random_uuid(), {user_id}, '', {ended}, {ended}, {ended}, now())"
        );
        let key = format!(
            "INSERT INTO auth.device_keys (id, ssd_id, sha256, created_at, created_by, revoked_at)
             VALUES (gen_random_uuid(), {ssd_id}, '', {ended}, '', {ended})"
        );
        let signing_key = format!(
            "INSERT INTO auth.signing_keys (kid, public_jwk, private_sealed, created_at, signs_from, signs_until, retires_at)
             VALUES ('{days} days', '{{}}', '', {ended}, {ended}, {ended}, {ended})"
        );
        for insert in [session, key, signing_key] {
            sqlx::query(sqlx::AssertSqlSafe(insert)).execute(db).await.unwrap();
        }
    }
    // Each replica looks for old rows when it starts.
    let replica = auth.start_replica(&auth.secret).await;
    let count = "SELECT (SELECT count(*) FROM auth.sessions), (SELECT count(*) FROM auth.device_keys),
                        (SELECT count(*) FROM auth.signing_keys)";
    // Beside the session of Ada and the key that signs.
    eventually("the oldest rows are deleted, and no others", || async {
        let rows: (i64, i64, i64) = sqlx::query_as(count).fetch_one(db).await.unwrap();
        (rows == (3, 2, 3)).then_some(())
    })
    .await;
    auth.world.end_after(vec![auth.service, replica], &[]).await;
}

#[tokio::test]
async fn counts_of_attempts_are_deleted_when_they_limit_nobody_any_more() {
    let auth = Auth::start().await;
    let db = &auth.world.database.pool;
    let insert = "INSERT INTO auth.sign_in_attempts (email_sha256, network, full_at)
                  SELECT sha256('ada'), n::text, now() + n * interval '1 minute' FROM generate_series(-1500, 2) n WHERE n <> 0";
    sqlx::query(insert).execute(db).await.unwrap();
    let replica = auth.start_replica(&auth.secret).await;
    eventually("the counts of the past are deleted, and no others", || async {
        let left: Vec<String> = sqlx::query_scalar("SELECT network FROM auth.sign_in_attempts ORDER BY network")
            .fetch_all(db)
            .await
            .unwrap();
        (left == ["1", "2"]).then_some(())
    })
    .await;
    auth.world.end_after(vec![auth.service, replica], &[]).await;
}

#[tokio::test]
async fn an_old_key_that_connects_two_others_is_kept() {
    let auth = Auth::start().await;
    let (user_id, _) = auth.ada().await;
    let ssd_id = auth.add_device(user_id).await;
    let db = &auth.world.database.pool;
    let insert = "WITH made AS (
                      INSERT INTO auth.device_keys (id, ssd_id, sha256, label, created_at, created_by, made_with, revoked_at)
                      SELECT ('00000000-0000-0000-0000-' || lpad(id, 12, '0'))::uuid, $1, '', id, now(), '',
                             ('00000000-0000-0000-0000-' || lpad(maker, 12, '0'))::uuid, now() - make_interval(days => days)
                      FROM (VALUES ('1', NULL, NULL), ('2', '1', 31), ('3', '2', NULL), ('4', NULL, 31), ('5', '4', NULL),
                                   ('6', '1', 31)) AS key (id, maker, days)
                      RETURNING id)
                  SELECT count(*) FROM made";
    sqlx::query(insert).bind(ssd_id).execute(db).await.unwrap();
    let replica = auth.start_replica(&auth.secret).await;
    eventually("the keys that connect nothing are deleted", || async {
        let left: Vec<(String, bool)> =
            sqlx::query_as("SELECT label, made_with IS NULL FROM auth.device_keys ORDER BY label")
                .fetch_all(db)
                .await
                .unwrap();
        let expected = [("1", true), ("2", false), ("3", false), ("5", true)];
        (left == expected.map(|(label, is_first)| (label.to_owned(), is_first))).then_some(())
    })
    .await;
    auth.world.end_after(vec![auth.service, replica], &[]).await;
}
