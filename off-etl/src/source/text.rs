//! Text, cut into pieces of whole records.

use super::{Content, Piece, Place};
use std::{
    io::{self, BufRead, Read},
    sync::mpsc::Receiver,
};

/// The size of a piece, in bytes: small enough to stay in a processor's cache on its way to another thread.
const PIECE: usize = 256 * 1024;

/// The longest record that is read, with its line feed; the longest real one is below 2 MiB.
const LONGEST: usize = 4 * 1024 * 1024;

/// How the records of a text are told apart.
pub(super) trait Records {
    /// Where the last record in `text` ends, its line feed included; 0 where none does. `text` begins with a record.
    fn last_end(&self, text: &[u8]) -> usize;

    /// Whether `rest`, after which the source breaks off, is a record all the same.
    fn is_whole(&self, rest: &[u8]) -> bool;

    fn content(&self, text: Vec<u8>) -> Content;
}

/// Gives every piece of `bytes`, which go on at `start`, until there are no more or nobody takes them. `used` brings back the room
/// of earlier ones.
pub(super) fn cut(
    mut bytes: impl BufRead,
    records: impl Records,
    start: Place,
    used: &Receiver<Vec<u8>>,
    mut give: impl FnMut(Piece) -> bool,
) -> io::Result<()> {
    let mut place = start;
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut room = used.try_recv().unwrap_or_default();
        room.clear();
        room.extend_from_slice(&rest);
        let read = fill(&mut bytes, &mut room, &records);
        let is_last = matches!(read, Ok(false)) || read.is_err();
        let begun = records.last_end(&room);
        // At the end the last record needs no line feed; before damage it does not where it is whole as it stands.
        let is_whole = match read {
            Ok(more) => !more,
            Err(_) => records.is_whole(&room[begun..]),
        };
        let whole = if is_whole { room.len() } else { begun };
        rest.clear();
        rest.extend_from_slice(&room[whole..]);
        room.truncate(whole);
        if whole > 0 {
            let lines = memchr::memchr_iter(b'\n', &room).count() as u64 + u64::from(!room.ends_with(b"\n"));
            let end = Place { offset: place.offset + whole as u64, line: place.line + lines };
            if !give(Piece { start: place, end, content: records.content(room) }) {
                return Ok(());
            }
            place = end;
        }
        if is_last {
            return read.map(drop);
        }
        if rest.len() >= LONGEST {
            let lines = memchr::memchr_iter(b'\n', &rest).count() as u64 + 1;
            let length = rest.len() as u64 + skip_line(&mut bytes)?;
            rest.clear();
            let end = Place { offset: place.offset + length, line: place.line + lines };
            if !give(Piece { start: place, end, content: Content::TooLong }) {
                return Ok(());
            }
            place = end;
        }
    }
}

/// Reads until there is a whole piece, and where no record ends in it until one does; whether there may be more.
fn fill(bytes: &mut impl Read, room: &mut Vec<u8>, records: &impl Records) -> io::Result<bool> {
    let mut wanted = PIECE;
    loop {
        let before = room.len();
        let missing = wanted.saturating_sub(before).max(1);
        let read = bytes.take(missing as u64).read_to_end(room)?;
        if read < missing {
            return Ok(false);
        }
        if records.last_end(room) > 0 || room.len() >= LONGEST {
            return Ok(true);
        }
        // Twice as much each time, so that what is long is not looked through again and again.
        wanted = LONGEST.min(2 * room.len());
    }
}

/// Passes over what was read by an earlier import.
pub(super) fn skip(bytes: &mut impl BufRead, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut bytes.take(count), &mut io::sink())?;
    if skipped < count {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was when the import began"));
    }
    Ok(())
}

/// Skips to the next line; says how many bytes that were.
fn skip_line(bytes: &mut impl BufRead) -> io::Result<u64> {
    bytes.skip_until(b'\n').map(|skipped| skipped as u64)
}

#[cfg(test)]
mod tests {
    use super::{super::lines::Lines, *};
    use proptest::prelude::*;
    use std::sync::mpsc;

    fn pieces(bytes: &[u8], start: Place) -> Vec<Piece> {
        let (_back, used) = mpsc::channel();
        let mut pieces = Vec::new();
        let rest = &bytes[usize::try_from(start.offset).unwrap()..];
        cut(rest, Lines, start, &used, |piece| {
            pieces.push(piece);
            true
        })
        .unwrap();
        pieces
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_piece_and_no_line_in_two(lengths in proptest::collection::vec(0usize..400_000, 0..12), ends in any::<bool>()) {
            let mut bytes = Vec::new();
            for length in &lengths {
                bytes.extend(std::iter::repeat_n(b'x', *length));
                bytes.push(b'\n');
            }
            if !ends { bytes.pop(); }
            let all = pieces(&bytes, Place::default());
            let mut place = Place::default();
            let mut together = Vec::new();
            for piece in &all {
                prop_assert_eq!(piece.start, place);
                let Content::Lines(lines) = &piece.content else { panic!("not too long") };
                together.extend_from_slice(lines);
                place = piece.end;
            }
            prop_assert_eq!(&together, &bytes);
            prop_assert_eq!(place.offset, bytes.len() as u64);
            // Going on after any piece gives the same rest.
            if let Some(first) = all.first() {
                let rest: Vec<Place> = pieces(&bytes, first.end).iter().map(|piece| piece.end).collect();
                prop_assert_eq!(rest.last().copied().unwrap_or(first.end), place);
            }
        }
    }

    #[test]
    fn a_line_without_end_is_one_piece_that_takes_no_room() {
        let mut bytes = b"{}\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 40 * 1024 * 1024));
        bytes.extend(b"\n{}\n");
        let all = pieces(&bytes, Place::default());
        assert_eq!(all.iter().filter(|piece| matches!(piece.content, Content::TooLong)).count(), 1);
        assert_eq!(all.last().unwrap().end, Place { offset: bytes.len() as u64, line: 3 });
    }
}
