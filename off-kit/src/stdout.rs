//! Standard output, of which a reader may have enough: `off audit | head`.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    sync::Once,
};

/// Like `println!`, which panics where nobody reads any more.
#[macro_export]
macro_rules! print_line {
    ($($text:tt)*) => { $crate::stdout::write_line(format_args!($($text)*)) };
}

/// Writes a line to standard output. The work that it tells of goes on where it cannot be written; any other reason than a closed
/// pipe is told once on standard error.
pub fn write_line(line: fmt::Arguments<'_>) {
    static TOLD: Once = Once::new();
    let written = writeln!(io::stdout(), "{line}");
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Of a terminal that was closed this is gone, too.
        TOLD.call_once(|| drop(writeln!(io::stderr(), "warning: cannot write to standard output: {error}")));
    }
}
