//! Reads gzip data of one or several members (RFC 1952). It uses the inflate of `flate2`. Unlike the readers of
//! `flate2`, it returns every byte before the damage, and distinguishes garbage after the end from a damaged member.

use flate2::{Decompress, FlushDecompress, Status};
use std::io::{BufRead, Error, ErrorKind, Read, Result};

/// First bytes of every member.
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Largest window of a member, as a power of two.
const WINDOW: u8 = 15;

/// Decompresses `packed`.
pub(super) struct Gunzip<R> {
    packed: R,
    /// `None` between two members.
    member: Option<Decompress>,
    damage: Option<Error>,
}

impl<R: BufRead> Gunzip<R> {
    /// A reader of the decompressed data.
    pub(super) fn new(packed: R) -> Self {
        Self { packed, member: Some(Decompress::new_gzip(WINDOW)), damage: None }
    }

    /// Starts the next member; false at the end of the data.
    fn begin_member(&mut self) -> Result<bool> {
        loop {
            let packed = self.packed.fill_buf()?;
            match packed.first() {
                None => return Ok(false),
                // Tapes and some tools pad their last block with zeros.
                Some(0) => {
                    let zeros = packed.iter().take_while(|&&byte| byte == 0).count();
                    self.packed.consume(zeros);
                }
                Some(&first) if first == MAGIC[0] => {
                    self.member = Some(Decompress::new_gzip(WINDOW));
                    return Ok(true);
                }
                Some(_) => return Err(Error::new(ErrorKind::InvalidData, "the data that follows is not gzip")),
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
            let (consumed_before, produced_before) = (member.total_in(), member.total_out());
            let outcome = member.decompress(packed, buffer, FlushDecompress::None);
            let since = |before: u64, now: u64| usize::try_from(now - before).unwrap_or(0);
            let (consumed, produced) =
                (since(consumed_before, member.total_in()), since(produced_before, member.total_out()));
            self.packed.consume(consumed);
            match outcome {
                Ok(Status::StreamEnd) => self.member = None,
                Ok(_) if is_end && produced == 0 => {
                    return Err(Error::new(ErrorKind::UnexpectedEof, "it ends in the middle of the compressed data"));
                }
                Ok(_) => {}
                Err(error) if produced == 0 => return Err(Error::new(ErrorKind::InvalidData, error)),
                Err(error) => self.damage = Some(Error::new(ErrorKind::InvalidData, error)),
            }
            if produced > 0 {
                return Ok(produced);
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

    /// Reads `packed` with buffers of this size. Returns the bytes and the kind of the error, if any.
    fn unpack(packed: &[u8], buffer: usize) -> (Vec<u8>, Option<ErrorKind>) {
        let (mut reader, mut bytes) = (Gunzip::new(BufReader::with_capacity(buffer, packed)), Vec::new());
        let outcome = reader.read_to_end(&mut bytes);
        (bytes, outcome.err().map(|error| error.kind()))
    }

    /// Bytes that compress badly, so that the compressed data is long enough to damage.
    fn noise(length: usize) -> Vec<u8> {
        (0..length as u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
    }

    proptest! {
        #[test]
        fn members_of_any_size_are_concatenated(
            members in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..5), buffer in 1usize..5000, zeros in 0usize..600
        ) {
            let mut packed: Vec<u8> = members.iter().flat_map(|member| pack(member)).collect();
            packed.extend(std::iter::repeat_n(0, zeros));
            prop_assert_eq!(unpack(&packed, buffer), (members.concat(), None));
        }

        #[test]
        fn everything_before_damage_is_returned(
            words in proptest::collection::vec("[a-f]{1,8}", 1..1000), place in any::<prop::sample::Index>(), flips in any::<bool>()
        ) {
            let plain = words.join(" ").into_bytes();
            let mut packed = pack(&plain);
            // Not in the header, whose flags could announce a name or a comment.
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
            // A reader of single bytes loses what was decompressed together with the damaged part.
            prop_assert!(read.starts_with(&expected), "{} bytes of {}", read.len(), expected.len());
            prop_assert!(flips || plain.starts_with(&read));
            prop_assert_eq!(end.is_some(), is_damaged);
        }
    }

    #[test]
    fn everything_before_a_corrupt_block_is_returned() {
        let bytes = noise(200_000);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&bytes[..150_000]).unwrap();
        // Ends a deflate block at a byte boundary.
        encoder.flush().unwrap();
        let block = encoder.get_ref().len();
        encoder.write_all(&bytes[150_000..]).unwrap();
        let mut packed = encoder.finish().unwrap();
        // An invalid block type.
        packed[block] = 0xff;
        assert_eq!(unpack(&packed, 256 * 1024), (bytes[..150_000].to_vec(), Some(ErrorKind::InvalidData)));
    }

    #[test]
    fn a_wrong_checksum_and_trailing_garbage_are_errors() {
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
