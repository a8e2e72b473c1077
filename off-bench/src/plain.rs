//! A plain HTTP handler to compare with: it stores an order and its event in one transaction per request. The relay of
//! an orders service that runs at the same time publishes the event.
//!
//! The orders are in a separate table with the same columns, so that recovery does not process them.

use crate::{
    Stage, stage,
    store::{PlainOrder, insert_plain_order},
};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use chrono::DateTime;
use off_events::OrderStatus;
use serde::Deserialize;
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{net::SocketAddr, time::SystemTime};
use uuid::Uuid;

#[derive(Debug, Deserialize)]
struct NewOrder {
    ssd_id: i64,
    barcode: String,
    quantity: i32,
}

/// Serves `POST /api/orders` with the plain handler and 32 database connections; returns the address.
pub async fn start(stage: &Stage) -> anyhow::Result<SocketAddr> {
    let pool = PgPoolOptions::new().max_connections(32).connect(&stage.postgres.url).await?;
    stage::serve(Router::new().route("/api/orders", post(place)).with_state(pool)).await
}

async fn place(
    State(db): State<PgPool>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<PlainOrder>), StatusCode> {
    let order = PlainOrder {
        id: Uuid::now_v7(),
        ssd_id: new.ssd_id,
        barcode: new.barcode,
        timestamp: DateTime::from(SystemTime::now()),
        quantity: new.quantity,
        status: OrderStatus::Pending,
    };
    insert_plain_order(&db, &order).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, Json(order)))
}
