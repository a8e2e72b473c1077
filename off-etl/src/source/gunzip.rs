//! What gzip has packed, in one member or several (RFC 1952). Unlike the readers of `flate2`, whose inflate it uses, this one gives
//! what comes before damage to the last byte, and tells garbage after the end from a member that is damaged.

use flate2::{Decompress, FlushDecompress, Status};
use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// What every member begins with.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The largest window that a member may ask for, as a power of two.
const WINDOW: u8 = 15;

/// A reader of what is packed in `packed`.
pub(super) struct Gunzip<R> {
    packed: R,
    /// `None` between two members.
    member: Option<Decompress>,
    damage: Option<Error>,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(packed: R) -> Self {
        Self { packed, member: Some(Decompress::new_gzip(WINDOW)), damage: None }
    }

    /// Whether there is another member.
    fn begin_member(&mut self) -> Result<bool> {
        loop {
            let packed = self.packed.fill_buf()?;
            match packed.first() {
                None => return Ok(false),
                // Tapes and some tools fill up their last block.
                Some(0) => {
                    let zeros = packed.iter().take_while(|&&byte| byte == 0).count();
                    self.packed.consume(zeros);
                }
                Some(&first) if first == MAGIC[0] => {
                    self.member = Some(Decompress::new_gzip(WINDOW));
                    return Ok(true);
                }
                Some(_) => return Err(Error::new(ErrorKind::InvalidData, "what follows is not packed with gzip")),
            }
        }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Some(damage) = self.damage.take() {
            return Err(damage);
        }
        while !buffer.is_empty() {
            let Some(member) = &mut self.member else {
                if self.begin_member()? {
                    continue;
                }
                break;
            };
            let packed = self.packed.fill_buf()?;
            let is_end = packed.is_empty();
            let (taken_before, given_before) = (member.total_in(), member.total_out());
            let outcome = member.decompress(packed, buffer, FlushDecompress::None);
            let since = |before: u64, now: u64| usize::try_from(now - before).unwrap_or(0);
            let (taken, given) = (since(taken_before, member.total_in()), since(given_before, member.total_out()));
            self.packed.consume(taken);
            match outcome {
                Ok(Status::StreamEnd) => self.member = None,
                Ok(_) if is_end && given == 0 => {
                    return Err(Error::new(ErrorKind::UnexpectedEof, "it ends in the middle of what is packed"));
                }
                Ok(_) => {}
                Err(error) if given == 0 => return Err(Error::new(ErrorKind::InvalidData, error)),
                Err(error) => self.damage = Some(Error::new(ErrorKind::InvalidData, error)),
            }
            if given > 0 {
                return Ok(given);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::{BufReader, Write};

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What is read of `packed`, in buffers of this size, and how it ends.
    fn unpack(packed: &[u8], buffer: usize) -> (Vec<u8>, Option<ErrorKind>) {
        let (mut reader, mut bytes) = (Gunzip::new(BufReader::with_capacity(buffer, packed)), Vec::new());
        let outcome = reader.read_to_end(&mut bytes);
        (bytes, outcome.err().map(|error| error.kind()))
    }

    /// Bytes that do not pack well, so that damage has something to hit.
    fn noise(length: usize) -> Vec<u8> {
        (0..length as u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
    }

    proptest! {
        #[test]
        fn members_of_any_size_come_one_after_the_other(
            members in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..5), buffer in 1usize..5000, zeros in 0usize..600
        ) {
            let mut packed: Vec<u8> = members.iter().flat_map(|member| pack(member)).collect();
            packed.extend(std::iter::repeat_n(0, zeros));
            prop_assert_eq!(unpack(&packed, buffer), (members.concat(), None));
        }

        #[test]
        fn of_damage_it_gives_all_that_is_given_byte_by_byte(
            words in proptest::collection::vec("[a-f]{1,8}", 1..1000), place in any::<prop::sample::Index>(), flips in any::<bool>()
        ) {
            let plain = words.join(" ").into_bytes();
            let mut packed = pack(&plain);
            // The flags of the header aside, which may ask for a name or a comment.
            let place = 10 + place.index(packed.len() - 10);
            if flips { packed[place] ^= 1 } else { packed.truncate(place) }
            let (read, end) = unpack(&packed, 4096);
            let (mut expected, mut byte_by_byte) = (Vec::new(), MultiGzDecoder::new(&packed[..]));
            let is_damaged = loop {
                let mut byte = [0];
                match byte_by_byte.read(&mut byte) {
                    Ok(0) => break false,
                    Ok(_) => expected.push(byte[0]),
                    Err(_) => break true,
                }
            };
            // Who reads byte by byte does not get what was unpacked together with the last one.
            prop_assert!(read.starts_with(&expected), "{} bytes of {}", read.len(), expected.len());
            prop_assert!(flips || plain.starts_with(&read));
            prop_assert_eq!(end.is_some(), is_damaged);
        }
    }

    #[test]
    fn what_comes_before_a_corrupt_block_is_given_to_the_last_byte() {
        let bytes = noise(200_000);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes[..150_000]).unwrap();
        // A block ends here, at a whole byte.
        encoder.flush().unwrap();
        let block = encoder.get_ref().len();
        encoder.write_all(&bytes[150_000..]).unwrap();
        let mut packed = encoder.finish().unwrap();
        // A kind of block that does not exist.
        packed[block] = 0xff;
        assert_eq!(unpack(&packed, 256 * 1024), (bytes[..150_000].to_vec(), Some(ErrorKind::InvalidData)));
    }

    #[test]
    fn a_wrong_checksum_and_garbage_after_the_end_are_told() {
        let bytes = noise(1000);
        let mut packed = pack(&bytes);
        let end = packed.len();
        packed[end - 8] ^= 1;
        assert_eq!(unpack(&packed, 4096), (bytes.clone(), Some(ErrorKind::InvalidData)));
        let mut packed = pack(&bytes);
        packed.extend(b"more");
        assert_eq!(unpack(&packed, 4096), (bytes, Some(ErrorKind::InvalidData)));
    }
}
