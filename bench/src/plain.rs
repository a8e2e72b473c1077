//! A plain HTTP handler to compare with: it stores an order and its event in one transaction per request. The relay of
//! an orders service that runs at the same time publishes the event.
//!
//! The orders are in a separate table with the same columns, so that recovery does not process them.

use crate::{Stage, stage};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use chrono::{DateTime, Utc};
use off_kit::Service;
use off_orders_service::OrdersService;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::net::SocketAddr;
use uuid::Uuid;

/// Table of the plain handler's orders.
pub const TABLE: &str = "bench.product_orders";

/// Creates the table of the plain handler's orders.
pub(crate) async fn create_table(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query("CREATE SCHEMA bench").execute(db).await?;
    sqlx::query("CREATE TABLE bench.product_orders (LIKE orders.product_orders INCLUDING ALL)").execute(db).await?;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct NewOrder {
    ssd_id: i64,
    barcode: String,
    quantity: i32,
}

#[derive(Debug, Serialize)]
struct Order {
    id: Uuid,
    ssd_id: i64,
    barcode: String,
    timestamp: DateTime<Utc>,
    quantity: i32,
    status: &'static str,
}

/// Serves `POST /api/orders` with the plain handler and 32 database connections; returns the address.
pub async fn start(stage: &Stage) -> anyhow::Result<SocketAddr> {
    let pool = PgPoolOptions::new().max_connections(32).connect(&stage.postgres.url).await?;
    stage::serve(Router::new().route("/api/orders", post(place)).with_state(pool)).await
}

async fn place(State(db): State<PgPool>, Json(new): Json<NewOrder>) -> Result<(StatusCode, Json<Order>), StatusCode> {
    let order = Order {
        id: Uuid::now_v7(),
        ssd_id: new.ssd_id,
        barcode: new.barcode,
        timestamp: DateTime::from(std::time::SystemTime::now()),
        quantity: new.quantity,
        status: "pending",
    };
    store(&db, &order).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, Json(order)))
}

async fn store(db: &PgPool, order: &Order) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO bench.product_orders (id, ssd_id, barcode, quantity, placed_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(order.id)
    .bind(order.ssd_id)
    .bind(&order.barcode)
    .bind(order.quantity)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
         VALUES ($1, 'orders.pending', $2, $3, $4)",
    )
    .bind(OrdersService::NAME)
    .bind(format!("{}:pending", order.id))
    .bind(serde_json::to_string(order)?)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}
