//! Cuts an opened source into chunks, each with whole records.

use super::{
    Broken, Chunk, Place,
    chunk::Content,
    format::Format,
    lines::{LineBoundaries, Lines},
    meter::Meter,
    open::{Origin, Source},
    parquet,
    table::{Header, RowBoundaries, Rows},
    text,
    unpack::unpack,
};
use std::{
    fs::File,
    io::{self, BufRead},
    sync::{Arc, mpsc::Receiver},
};

impl Source {
    /// Passes every chunk from `start` on to `emit`, until the source ends or `emit` returns false. `used_buffers`
    /// returns the buffers of earlier chunks.
    pub(crate) fn cut(
        self,
        start: Place,
        used_buffers: &Receiver<Vec<u8>>,
        emit: impl FnMut(Chunk) -> bool,
    ) -> Result<(), Broken> {
        let Self { total_bytes, meter, format, origin, .. } = self;
        let in_text = |cause| Broken { byte: meter.bytes(), cause };
        match format {
            Format::Lines => {
                let text = text_of(origin, &meter).map_err(in_text)?;
                cut_lines(text, start, used_buffers, emit).map_err(in_text)
            }
            Format::Table => {
                let text = text_of(origin, &meter).map_err(in_text)?;
                cut_table(text, start, used_buffers, emit).map_err(in_text)
            }
            Format::Parquet => {
                let total_bytes = total_bytes.unwrap_or(0);
                let on_rows = |rows, all_rows| meter.set(share(total_bytes, rows, all_rows));
                let cut = file_of(origin).and_then(|file| cut_parquet(file, start, on_rows, emit));
                // Damage in a row group is reported by its reader; any other is in the metadata at the end of the file.
                cut.map_err(|cause| Broken { byte: total_bytes, cause })
            }
        }
    }
}

fn cut_lines(
    mut text: impl BufRead,
    start: Place,
    used_buffers: &Receiver<Vec<u8>>,
    emit: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    text::skip(&mut text, start.offset)?;
    let content = |text| Content::Lines(Lines(text));
    text::cut(text, start, &LineBoundaries, content, used_buffers, emit)
}

fn cut_table(
    mut text: impl BufRead,
    start: Place,
    used_buffers: &Receiver<Vec<u8>>,
    emit: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    let (header, end) = Header::read(&mut text)?;
    let header = Arc::new(header);
    let start = if start == Place::default() { end } else { start };
    text::skip(&mut text, start.offset - end.offset)?;
    let content = |text| Content::Rows(Rows { header: header.clone(), text });
    text::cut(text, start, &RowBoundaries(header.clone()), content, used_buffers, emit)
}

fn cut_parquet(
    file: File,
    start: Place,
    on_rows: impl Fn(u64, u64),
    mut emit: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    parquet::cut(file, start, on_rows, |start, end, group| emit(Chunk { start, end, content: Content::Group(group) }))
}

/// The decompressed text of a source, from its beginning.
fn text_of(origin: Origin, meter: &Meter) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(match origin {
        Origin::Memory(bytes) => unpack(bytes, meter)?.bytes,
        Origin::Input(text) => text,
        Origin::File(path) => unpack(File::open(path)?, meter)?.bytes,
    })
}

/// The file of a source. Only a file is recognized as Parquet.
fn file_of(origin: Origin) -> io::Result<File> {
    match origin {
        Origin::File(path) => File::open(path),
        Origin::Memory(_) | Origin::Input(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Estimates the bytes that were read from the rows that were read, because a row group is stored column by column.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn share(total_bytes: u64, rows: u64, all_rows: u64) -> u64 {
    (total_bytes as f64 * (rows as f64 / all_rows.max(1) as f64)) as u64
}
