//! Standard output whose reader may close it early, as in `off audit | head`.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::Once,
};

/// Like `println!`, but does not panic when standard output is closed.
#[macro_export]
macro_rules! print_line {
    ($($text:tt)*) => { $crate::stdout::write_line(format_args!($($text)*)) };
}

/// Writes a line to standard output. Ignores a closed pipe, and reports the first of any other errors on standard
/// error.
pub fn write_line(line: fmt::Arguments<'_>) {
    static WARNED: Once = Once::new();
    let written = writeln!(io::stdout(), "{line}");
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // If a closed terminal was both, this write fails, too.
        WARNED.call_once(|| drop(writeln!(io::stderr(), "warning: cannot write to standard output: {error}")));
    }
}
