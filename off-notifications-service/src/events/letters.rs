//! Handlers that write letters. A repeated event writes nothing.

use crate::{
    App,
    domain::{LetterKind, NewLetter},
    store,
};
use metrics::counter;
use off_events::{LowBalance, Order, UserRegistered};
use off_kit::bus::{Batch, Failure};

/// `users.registered`: welcomes people.
pub(crate) async fn write_welcome(app: App, people: Batch<UserRegistered>) -> Result<(), Failure> {
    let letters: Vec<NewLetter> = people.iter().map(|received| NewLetter::welcome(&received.event)).collect();
    write(&app, &letters).await
}

/// `users.low_balance`: tells people that their balance is low.
pub(crate) async fn write_about_low_balance(app: App, low: Batch<LowBalance>) -> Result<(), Failure> {
    let letters: Vec<NewLetter> = low.iter().map(|received| NewLetter::about_low_balance(&received.event)).collect();
    write(&app, &letters).await
}

/// `orders.paid`: tells people that their order is paid.
pub(crate) async fn write_about_paid(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    write_about(&app, &orders, &[LetterKind::Paid]).await
}

/// `orders.refused`: tells people that they had too little money.
pub(crate) async fn write_about_refused(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    write_about(&app, &orders, &[LetterKind::Refused]).await
}

/// `orders.cancelled`: tells people that their order is cancelled.
pub(crate) async fn write_about_cancelled(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    write_about(&app, &orders, &[LetterKind::Cancelled]).await
}

/// `orders.completed`: tells people that their order was delivered. Writes the letter about the payment, too, if it is
/// missing: a broker that lost its disk lost `orders.paid`, and recovery announces only the current status.
pub(crate) async fn write_about_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    write_about(&app, &orders, &[LetterKind::Paid, LetterKind::Delivered]).await
}

async fn write_about(app: &App, orders: &Batch<Order>, kinds: &[LetterKind]) -> Result<(), Failure> {
    let mut letters = Vec::with_capacity(orders.len() * kinds.len());
    for received in orders.iter() {
        letters.extend(kinds.iter().map(|kind| NewLetter::about_order(*kind, &received.event)));
    }
    write(app, &letters).await
}

async fn write(app: &App, letters: &[NewLetter]) -> Result<(), Failure> {
    let written = store::insert_letters(&app.db, letters, app.clock.now(), app.mails_per_person);
    let written = written.await.map_err(Failure::of_database)?;
    for (kind, count) in written.kinds {
        counter!("off_letters_total", "kind" => kind.as_str()).increment(count);
    }
    if written.has_unknown {
        return Err(Failure::Reject("the person is not in Postgres".to_owned()));
    }
    Ok(())
}
