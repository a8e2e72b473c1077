//! Rules: how long an order waits, what a letter says, and when an e-mail is tried again.

mod delay;
mod letter;
mod mail;
mod preferences;
mod recipient;

pub(crate) use delay::Delay;
pub(crate) use letter::{Facts, Letter, LetterKind, NewLetter};
pub(crate) use mail::{MAX_AGE, MailState, retry_after};
pub(crate) use preferences::{NewPreferences, Preferences};
pub(crate) use recipient::{Recipient, is_reserved, one_line};
