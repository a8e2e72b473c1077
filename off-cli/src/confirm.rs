//! Asks whether to continue.

use std::io::{self, Write};

/// Whether the answer on the terminal is yes.
pub(crate) fn confirm() -> anyhow::Result<bool> {
    write!(io::stdout(), "type yes to continue: ")?;
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
