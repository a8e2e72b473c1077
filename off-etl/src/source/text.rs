//! Cuts text into chunks of whole records.

use super::{Chunk, Place, boundaries::Boundaries, chunk::Content};
use std::{
    io::{self, BufRead, Read},
    sync::mpsc::Receiver,
};

/// Size of a chunk, in bytes: small enough to stay in the processor's cache on its way to another thread.
const CHUNK_SIZE: usize = 256 * 1024;

/// Length of a record that is read, in bytes with its line feed; the longest real one is below 2 MiB.
const MAX_RECORD_SIZE: usize = 4 * 1024 * 1024;

/// Passes every chunk of `bytes`, which start at `start`, to `emit`, until they end or `emit` returns false.
/// `content` wraps the text of a chunk. `used_buffers` returns the buffers of earlier chunks.
pub(super) fn cut(
    mut bytes: impl BufRead,
    start: Place,
    boundaries: &impl Boundaries,
    content: impl Fn(Vec<u8>) -> Content,
    used_buffers: &Receiver<Vec<u8>>,
    mut emit: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    let mut place = start;
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut buffer = used_buffers.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(&rest);
        let read = fill(&mut bytes, &mut buffer, boundaries);
        let is_last = !matches!(read, Ok(true));
        let whole = whole_length(&buffer, &read, boundaries);
        rest.clear();
        rest.extend_from_slice(&buffer[whole..]);
        buffer.truncate(whole);
        if whole > 0 {
            let end = place_after(place, &buffer);
            if !emit(Chunk { start: place, end, content: content(buffer) }) {
                return Ok(());
            }
            place = end;
        }
        if is_last {
            return read.map(drop);
        }
        if rest.len() >= MAX_RECORD_SIZE {
            let lines = memchr::memchr_iter(b'\n', &rest).count() as u64 + 1;
            let length = rest.len() as u64 + skip_line(&mut bytes)?;
            rest.clear();
            let end = Place { offset: place.offset + length, line: place.line + lines };
            if !emit(Chunk { start: place, end, content: Content::TooLong }) {
                return Ok(());
            }
            place = end;
        }
    }
}

/// The length of the complete records in `text`. The last record of a source needs no line feed. Before damage, the
/// rest counts only if it is a complete record.
fn whole_length(text: &[u8], read: &io::Result<bool>, boundaries: &impl Boundaries) -> usize {
    let end = boundaries.last_end(text);
    let is_rest_complete = match read {
        Ok(is_more) => !is_more,
        Err(_) => boundaries.is_whole(&text[end..]),
    };
    if is_rest_complete { text.len() } else { end }
}

/// The place after `text`, which starts at `start`.
fn place_after(start: Place, text: &[u8]) -> Place {
    let lines = memchr::memchr_iter(b'\n', text).count() as u64 + u64::from(!text.ends_with(b"\n"));
    Place { offset: start.offset + text.len() as u64, line: start.line + lines }
}

/// Reads a whole chunk, or more if no record ends in it. Returns whether there may be more to read.
fn fill(bytes: &mut impl Read, buffer: &mut Vec<u8>, boundaries: &impl Boundaries) -> io::Result<bool> {
    let mut target = CHUNK_SIZE;
    loop {
        let before = buffer.len();
        let missing = target.saturating_sub(before).max(1);
        let read = bytes.take(missing as u64).read_to_end(buffer)?;
        if read < missing {
            return Ok(false);
        }
        if boundaries.last_end(buffer) > 0 || buffer.len() >= MAX_RECORD_SIZE {
            return Ok(true);
        }
        // Doubled each time, so that a long record is not searched again and again.
        target = MAX_RECORD_SIZE.min(2 * buffer.len());
    }
}

/// Skips what an earlier import has read. Fails if there are fewer bytes.
pub(super) fn skip(bytes: &mut impl BufRead, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut bytes.take(count), &mut io::sink())?;
    if skipped < count {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than when the import started"));
    }
    Ok(())
}

/// Skips to the next line. Returns the number of skipped bytes.
fn skip_line(bytes: &mut impl BufRead) -> io::Result<u64> {
    bytes.skip_until(b'\n').map(|skipped| skipped as u64)
}

#[cfg(test)]
mod tests {
    use super::{
        super::lines::{LineBoundaries, Lines},
        *,
    };
    use proptest::prelude::*;
    use std::sync::mpsc;

    fn chunks(bytes: &[u8], start: Place) -> Vec<Chunk> {
        let (_back, used_buffers) = mpsc::channel();
        let mut chunks = Vec::new();
        let rest = &bytes[usize::try_from(start.offset).unwrap()..];
        cut(
            rest,
            start,
            &LineBoundaries,
            |text| Content::Lines(Lines(text)),
            &used_buffers,
            |chunk| {
                chunks.push(chunk);
                true
            },
        )
        .unwrap();
        chunks
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_chunk_and_no_line_in_two(lengths in proptest::collection::vec(0usize..400_000, 0..12), ends in any::<bool>()) {
            let mut bytes = Vec::new();
            for length in &lengths {
                bytes.extend(std::iter::repeat_n(b'x', *length));
                bytes.push(b'\n');
            }
            if !ends { bytes.pop(); }
            let all = chunks(&bytes, Place::default());
            let mut place = Place::default();
            let mut together = Vec::new();
            for chunk in &all {
                prop_assert_eq!(chunk.start, place);
                let Content::Lines(lines) = &chunk.content else { panic!("not too long") };
                together.extend_from_slice(&lines.0);
                place = chunk.end;
            }
            prop_assert_eq!(&together, &bytes);
            prop_assert_eq!(place.offset, bytes.len() as u64);
            // Resuming after the first chunk yields the same rest.
            if let Some(first) = all.first() {
                let rest: Vec<Place> = chunks(&bytes, first.end).iter().map(|chunk| chunk.end).collect();
                prop_assert_eq!(rest.last().copied().unwrap_or(first.end), place);
            }
        }
    }

    #[test]
    fn an_overlong_line_is_one_chunk_without_text() {
        let mut bytes = b"{}\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 40 * 1024 * 1024));
        bytes.extend(b"\n{}\n");
        let all = chunks(&bytes, Place::default());
        assert_eq!(all.iter().filter(|chunk| matches!(chunk.content, Content::TooLong)).count(), 1);
        assert_eq!(all.last().unwrap().end, Place { offset: bytes.len() as u64, line: 3 });
    }
}
