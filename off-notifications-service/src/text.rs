//! The text of letters, from the templates in `templates/`.
//!
//! A template of a kind is plain text: the first line is the title, paragraphs are separated by empty lines. The HTML
//! form has the same words, escaped.

use crate::domain::{Letter, LetterKind, one_line};
use askama::Template;

/// The text of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// The title, on one line.
    pub(crate) title: String,
    /// The plain text.
    pub(crate) plain: String,
}

/// The values that the templates insert. Each is one line, so that no name begins a paragraph of its own.
#[derive(Debug)]
struct Values {
    name: String,
    product: String,
    quantity: i32,
    total: String,
    missing: String,
    order: String,
}

/// Declares a template that inserts [`Values`].
macro_rules! template {
    ($name:ident, $path:literal, $($value:ident),+) => {
        #[derive(Template)]
        #[template(path = $path)]
        struct $name<'a> {
            $($value: &'a dyn std::fmt::Display,)+
        }

        impl $name<'_> {
            fn of(values: &Values) -> askama::Result<String> {
                $name { $($value: &values.$value),+ }.render()
            }
        }
    };
}

template!(Welcome, "welcome.txt", name);
template!(Paid, "paid.txt", name, product, quantity, total, order);
template!(Refused, "refused.txt", name, product, quantity, total, missing, order);
template!(Cancelled, "cancelled.txt", name, product, quantity, total, order);
template!(Delivered, "delivered.txt", name, product, quantity, order);
template!(LowBalance, "low_balance.txt", name, total);

/// The HTML form of any letter.
#[derive(Template)]
#[template(path = "letter.html")]
struct Html<'a> {
    title: &'a str,
    paragraphs: Vec<&'a str>,
}

impl Text {
    /// Renders a letter.
    pub(crate) fn of(letter: &Letter) -> askama::Result<Self> {
        let facts = &letter.facts;
        let values = Values {
            name: one_line(&letter.first_name),
            product: one_line(letter.product.as_deref().or(facts.barcode.as_deref()).unwrap_or_default()),
            quantity: facts.quantity.unwrap_or_default(),
            total: facts.total.unwrap_or_default().to_string(),
            missing: facts.missing.unwrap_or_default().to_string(),
            order: letter.subject.to_string(),
        };
        let text = match letter.kind {
            LetterKind::Welcome => Welcome::of(&values),
            LetterKind::Paid => Paid::of(&values),
            LetterKind::Refused => Refused::of(&values),
            LetterKind::Cancelled => Cancelled::of(&values),
            LetterKind::Delivered => Delivered::of(&values),
            LetterKind::LowBalance => LowBalance::of(&values),
        }?;
        let (title, plain) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Self { title: title.to_owned(), plain: plain.trim_end().to_owned() })
    }

    /// The text as an HTML document.
    pub(crate) fn html(&self) -> askama::Result<String> {
        Html { title: &self.title, paragraphs: self.plain.split("\n\n").collect() }.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Facts;
    use chrono::DateTime;
    use off_events::Money;
    use uuid::Uuid;

    fn letter(kind: LetterKind) -> Letter {
        Letter {
            id: 1,
            subject: Uuid::nil(),
            kind,
            facts: Facts {
                barcode: Some("2000000000015".to_owned()),
                quantity: Some(3),
                total: Some(Money::from_euros(12)),
                missing: Some(Money::from_euros(5)),
            },
            first_name: "Ada".to_owned(),
            product: Some("Red lentils".to_owned()),
            written_at: DateTime::UNIX_EPOCH,
            is_read: false,
        }
    }

    #[test]
    fn every_kind_of_letter_has_a_text() {
        for kind in LetterKind::ALL {
            insta::assert_snapshot!(kind.as_str(), {
                let text = Text::of(&letter(kind)).unwrap();
                format!("{}\n----\n{}\n----\n{}", text.title, text.plain, text.html().unwrap())
            });
        }
    }

    #[test]
    fn a_product_without_a_name_is_called_by_its_barcode() {
        let text = Text::of(&Letter { product: None, ..letter(LetterKind::Delivered) }).unwrap();
        assert_eq!(text.title, "2000000000015 is on your shelf");
    }

    #[test]
    fn names_are_text_in_html_and_begin_no_paragraph() {
        let letter = Letter {
            first_name: "<b>Ada</b>\n\nPay me".to_owned(),
            product: Some("Tea & \"milk\"\u{2028}<script>".to_owned()),
            ..letter(LetterKind::Paid)
        };
        let text = Text::of(&letter).unwrap();
        assert!(text.plain.starts_with("Hello <b>Ada</b> Pay me,\n\n"), "{}", text.plain);
        let html = text.html().unwrap();
        assert!(!html.contains("<b>") && !html.contains("<script>"), "{html}");
        assert_eq!(html.matches("<p>").count(), 3);
    }
}
