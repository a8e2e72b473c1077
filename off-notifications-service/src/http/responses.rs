//! The bodies of responses.

use crate::{
    domain::{self, LetterKind},
    text::Text,
};
use chrono::{DateTime, Utc};
use off_kit::http::cut_page;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letter {
    id: i64,
    kind: LetterKind,
    /// The order that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<Uuid>,
    /// The title, one line.
    subject: String,
    /// The text. Paragraphs are separated by empty lines.
    text: String,
    written_at: DateTime<Utc>,
    is_read: bool,
}

/// A letter with its HTML form.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LetterWithHtml {
    #[serde(flatten)]
    letter: Letter,
    /// The text as an HTML document.
    html: String,
}

/// A page of letters, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LetterPage {
    letters: Vec<Letter>,
    /// Unread letters of all kinds, at most 1000.
    unread: i64,
    /// The `cursor` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
}

impl LetterPage {
    /// The first `limit` of `letters`, which have one more than that if there is another page.
    pub(super) fn new(mut letters: Vec<domain::Letter>, limit: u32, unread: i64) -> askama::Result<Self> {
        let next_cursor = cut_page(&mut letters, limit, |letter| letter.id);
        let letters: askama::Result<Vec<Letter>> =
            letters.iter().map(|letter| Ok(Letter::new(letter, Text::of(letter)?))).collect();
        Ok(Self { letters: letters?, unread, next_cursor })
    }
}

impl Letter {
    fn new(letter: &domain::Letter, text: Text) -> Self {
        Self {
            id: letter.id,
            kind: letter.kind,
            order_id: (letter.kind != LetterKind::Welcome).then_some(letter.subject),
            subject: text.title,
            text: text.plain,
            written_at: letter.written_at,
            is_read: letter.is_read,
        }
    }
}

impl LetterWithHtml {
    /// `letter` in both forms.
    pub(super) fn new(letter: &domain::Letter) -> askama::Result<Self> {
        let text = Text::of(letter)?;
        let html = text.html()?;
        Ok(Self { letter: Letter::new(letter, text), html })
    }
}
