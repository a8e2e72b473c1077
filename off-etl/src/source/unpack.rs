//! Decompresses a source if necessary, and reads its beginning, which decides its format.

use super::{
    gunzip::{Gunzip, MAGIC},
    meter::{Meter, Metered},
};
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Size of the read buffer, in bytes.
const BUFFER_SIZE: usize = 256 * 1024;

/// Some tools write it at the start of text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A text and its beginning, which decides the format.
pub(super) struct Text {
    /// At least the first two lines, if the text is long enough.
    pub(super) start: Vec<u8>,
    /// The whole text, including `start`.
    pub(super) bytes: Box<dyn BufRead + Send>,
}

/// The text in `bytes`, decompressed if necessary, without a byte order mark.
pub(super) fn unpack(bytes: impl Read + Send + 'static, meter: &Meter) -> io::Result<Text> {
    let mut bytes = Metered { inner: BufReader::with_capacity(BUFFER_SIZE, bytes), meter: meter.clone() };
    let mut magic = Vec::new();
    Read::by_ref(&mut bytes).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    let is_packed = magic.starts_with(&MAGIC);
    let bytes = Cursor::new(magic).chain(bytes);
    let mut text: Box<dyn BufRead + Send> =
        if is_packed { Box::new(BufReader::with_capacity(BUFFER_SIZE, Gunzip::new(bytes))) } else { Box::new(bytes) };
    // The second line is needed to recognize a JSON document over many lines.
    let is_enough = |start: &[u8]| {
        let line_feeds = memchr::memchr_iter(b'\n', start.trim_ascii_start()).count();
        line_feeds > 1 || start.len() >= BUFFER_SIZE || start.windows(2).any(|pair| pair == b"}\n")
    };
    let mut start = peek(&mut text, is_enough)?;
    if start.starts_with(BYTE_ORDER_MARK) {
        start.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Text { bytes: Box::new(Cursor::new(start.clone()).chain(text)), start })
}

/// Reads the first bytes of a source until they are enough or the source ends. A pipe may deliver them one by one.
fn peek(bytes: &mut impl BufRead, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    while !is_enough(&start) {
        let more = bytes.fill_buf()?;
        if more.is_empty() {
            break;
        }
        start.extend_from_slice(more);
        let length = more.len();
        bytes.consume(length);
    }
    Ok(start)
}
