//! Reads the Parquet export, and only the columns that are needed.

mod columns;
mod footer;
mod row;
mod view;

pub(super) use footer::MAGIC;

use super::{Broken, Contents, Place};
use crate::{prices::PriceRecord, record::Record, reject::RejectReason};
use ::parquet::{
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::{ParquetStatisticsPolicy, RowGroupMetaData},
        reader::FileReader,
        serialized_reader::{ReadOptionsBuilder, SerializedFileReader},
    },
    record::Row,
};
use footer::{Footer, GroupPlace};
use std::{
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};
use view::View;

/// A row group, or the rest of it that an earlier import has not read.
#[derive(Debug)]
pub(super) struct Group {
    file: Arc<File>,
    footer: Arc<Footer>,
    place: GroupPlace,
    /// Rows that an earlier import has read.
    done: u64,
}

/// Passes every row group from `start` on to `emit`, with the places of its start and its end, until they end or `emit`
/// returns false. Calls `on_rows` with the number of rows before each group and the number of all rows.
pub(super) fn cut(
    file: File,
    start: Place,
    on_rows: impl Fn(u64, u64),
    mut emit: impl FnMut(Place, Place, Group) -> bool,
) -> io::Result<()> {
    let footer = Arc::new(Footer::read(&file)?);
    let file = Arc::new(file);
    let all = footer.groups.iter().fold(0, |all: u64, group| all.saturating_add(group.rows));
    let mut before = 0;
    for &place in &footer.groups {
        on_rows(before, all);
        let after = before.saturating_add(place.rows);
        // A group that an earlier import has read is not opened.
        if after > start.offset {
            let begin = start.offset.max(before);
            let group = Group { file: file.clone(), footer: footer.clone(), place, done: begin - before };
            let at = |row: u64| Place { offset: row, line: row };
            if !emit(at(begin), at(after), group) {
                return Ok(());
            }
        }
        before = after;
    }
    on_rows(all, all);
    Ok(())
}

/// Why an undamaged file cannot be read: it has no barcodes, or its compression is not compiled in. Damage is reported
/// later, where it is found.
pub(super) fn unreadable(file: &File, contents: Contents) -> Option<String> {
    let file = Arc::new(file.try_clone().ok()?);
    let footer = Footer::read(&file).ok()?;
    let view = View::of(&file, &footer, *footer.groups.first()?).ok()?;
    let reader = panic::catch_unwind(AssertUnwindSafe(|| SerializedFileReader::new(view))).ok()?.ok()?;
    let metadata = reader.metadata();
    let barcodes = columns::barcodes(contents);
    if !metadata.file_metadata().schema().get_fields().iter().any(|column| column.name() == barcodes) {
        return Some(format!("it is Parquet without a column `{barcodes}`"));
    }
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let mut read = columns
        .filter(|column| column.column_path().parts().first().is_some_and(|name| columns::is_read(name, contents)));
    let codec = read.find_map(|column| match column.compression() {
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZO => Some("LZO"),
        _ => None,
    })?;
    Some(format!(
        "it is Parquet compressed with {codec}, which is not supported: compress it in another way, such as zstd"
    ))
}

impl Group {
    /// Passes each record to `emit`, with its row counted from 0, until they end or `emit` returns false.
    ///
    /// Fails with the approximate place of damage, after the records before it.
    pub(super) fn read(&self, emit: impl FnMut(u64, Result<Record, RejectReason>) -> bool) -> Result<(), Broken> {
        self.read_with(Contents::Products, row::record, emit)
    }

    /// The same for prices.
    pub(super) fn read_prices(
        &self,
        emit: impl FnMut(u64, Result<PriceRecord, RejectReason>) -> bool,
    ) -> Result<(), Broken> {
        self.read_with(Contents::Prices, row::price, emit)
    }

    fn read_with<R>(
        &self,
        contents: Contents,
        record: fn(&Row) -> R,
        emit: impl FnMut(u64, Result<R, RejectReason>) -> bool,
    ) -> Result<(), Broken> {
        let mut near = self.place.start;
        let read = AssertUnwindSafe(|| self.read_rows(contents, record, &mut near, emit));
        // The reader of `parquet` does not check everything, and may panic on a damaged file.
        let outcome =
            panic::catch_unwind(read).unwrap_or_else(|_| Err(ParquetError::General("it is corrupt".to_owned())));
        outcome.map_err(|error| Broken { byte: near, cause: io::Error::other(error) })
    }

    /// Sets `near` to the first byte of the pages that are read.
    fn read_rows<R>(
        &self,
        contents: Contents,
        record: fn(&Row) -> R,
        near: &mut u64,
        mut emit: impl FnMut(u64, Result<R, RejectReason>) -> bool,
    ) -> Result<(), ParquetError> {
        // Statistics are not used.
        let options = ReadOptionsBuilder::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .build();
        let view = View::of(&self.file, &self.footer, self.place)?;
        let reader = SerializedFileReader::new_with_options(view, options)?;
        let metadata = reader.metadata();
        let pages = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
        *near = pages.filter_map(|column| column.data_page_offset().try_into().ok()).min().unwrap_or(*near);
        let wanted = columns::projection(metadata.file_metadata().schema(), contents);
        let mut read = 0;
        for row in reader.get_row_iter(Some(wanted))? {
            let row = row?;
            if read >= self.done && !emit(read - self.done, Ok(record(&row))) {
                return Ok(());
            }
            read += 1;
        }
        if read != self.place.rows {
            let missing = format!("a row group has {read} rows and should have {}", self.place.rows);
            return Err(ParquetError::General(missing));
        }
        Ok(())
    }
}
