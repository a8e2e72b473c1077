//! Asks for a password.

use anyhow::{Context, ensure};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Write};

/// A line from standard input, without its end. On a terminal it shows `prompt`, and what is typed stays hidden.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    let _hidden = if stdin.is_terminal() {
        eprint!("{prompt}: ");
        let _ = io::stderr().flush();
        Some(HiddenInput::start().context("cannot hide the password")?)
    } else {
        None
    };
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "no password on standard input");
    Ok(password.to_owned())
}

/// A terminal that does not show what is typed, until it is dropped.
struct HiddenInput(Termios);

impl HiddenInput {
    fn start() -> nix::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
        eprintln!();
    }
}
