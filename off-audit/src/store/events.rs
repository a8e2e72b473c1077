//! The query that compares the events of the broker with orders.

use off_events::Order;
use sqlx::PgConnection;
use std::fmt;
use uuid::Uuid;

/// Who pays for an order, and how much. Amounts are in cents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    user_id: i64,
    quantity: i64,
    unit_price: i64,
    total: i64,
}

impl From<&Order> for Terms {
    fn from(order: &Order) -> Self {
        Self {
            user_id: order.user_id.0,
            quantity: order.quantity.get().into(),
            unit_price: order.unit_price.cents(),
            total: order.total.cents(),
        }
    }
}

/// `5 × 299 cents = 1495 cents from person 1`
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user_id, quantity, unit_price, total } = self;
        write!(f, "{quantity} × {unit_price} cents = {total} cents from person {user_id}")
    }
}

/// What an event says about an order.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    /// `None` if it is not readable, as events of before there were prices.
    pub(crate) terms: Option<Terms>,
}

/// An event that contradicts the order.
#[derive(Debug)]
pub(crate) struct WrongEvent {
    pub(crate) id: Uuid,
    /// What the event says, and what the order says; `None` if the order is not stored.
    pub(crate) terms: Option<(Terms, Terms)>,
}

/// Finds the events whose order is not stored or has other terms.
pub(crate) async fn find_wrong_events(conn: &mut PgConnection, events: &[Event]) -> sqlx::Result<Vec<WrongEvent>> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let column = |field: fn(&Terms) -> i64| -> Vec<Option<i64>> {
        events.iter().map(|event| event.terms.as_ref().map(field)).collect()
    };
    let rows = sqlx::query!(
        r#"SELECT event.id AS "id!", event.user_id, event.quantity, event.unit_price, event.total,
                  coalesce(placed.user_id) AS placed_user_id, placed.quantity::bigint AS placed_quantity,
                  coalesce(placed.unit_price) AS placed_unit_price, placed.unit_price * placed.quantity AS placed_total
           FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                    AS event (id, user_id, quantity, unit_price, total)
                LEFT JOIN orders.product_orders AS placed ON placed.id = event.id
           WHERE placed.id IS NULL
              OR (event.user_id, event.quantity, event.unit_price, event.total)
                 <> (placed.user_id, placed.quantity, placed.unit_price, placed.unit_price * placed.quantity)"#,
        &ids,
        &column(|terms| terms.user_id) as &[Option<i64>],
        &column(|terms| terms.quantity) as &[Option<i64>],
        &column(|terms| terms.unit_price) as &[Option<i64>],
        &column(|terms| terms.total) as &[Option<i64>],
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let published = terms(row.user_id, row.quantity, row.unit_price, row.total);
        let placed = terms(row.placed_user_id, row.placed_quantity, row.placed_unit_price, row.placed_total);
        WrongEvent { id: row.id, terms: published.zip(placed) }
    });
    Ok(rows.collect())
}

fn terms(user_id: Option<i64>, quantity: Option<i64>, unit_price: Option<i64>, total: Option<i64>) -> Option<Terms> {
    Some(Terms { user_id: user_id?, quantity: quantity?, unit_price: unit_price?, total: total? })
}
