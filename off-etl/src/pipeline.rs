//! One thread cuts a source into pieces, others judge them, and they come out in the order they were cut.

use crate::{
    filter::Filter,
    mend::{Mends, tag},
    product::{self, Product, Profile, Reject, Withdrawal},
    record::Record,
    source::{Broken, Content, Damage, Piece, Place, Source},
};
use anyhow::{anyhow, ensure};
use chrono::{DateTime, Utc};
use std::{
    sync::{Arc, Mutex, mpsc as threads},
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Pieces that may be judged and not taken yet; hardly more than their products are left of them.
const UNDER_WAY: usize = 64;

/// Pieces that wait for a thread to judge them: with them goes their text, 256 KiB and seldom up to 4 MiB.
const WAITING: usize = 4;

/// The largest room that is used again, in bytes.
const LARGEST_ROOM: usize = 1024 * 1024;

/// The longest barcode of a rejected record that is kept, in characters.
const LONGEST_CODE: usize = 40;

/// Parts of a piece that may wait until those before it were taken: lines are one part, a row group of Parquet is as many as it is long.
const PARTS: usize = 8;

/// What a record came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Product(Box<Judged>),
    Rejected(Rejected),
    PassedOver,
}

/// A record that is no product for the catalogue.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) reason: Reject,
    /// Its barcode as it was written, where it is wanted.
    pub(crate) code: Option<String>,
    /// What it says of a product that the catalogue may have all the same.
    pub(crate) withdrawal: Option<Withdrawal>,
}

/// A product on its way into the catalogue.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) product: Product,
    pub(crate) fingerprint: i64,
    pub(crate) mends: Mends,
}

/// A piece, or a part of one, whose records have been judged.
#[derive(Debug)]
pub(crate) struct JudgedPiece {
    /// Where the source goes on.
    pub(crate) end: Place,
    /// Each with its line.
    pub(crate) outcomes: Vec<(u64, Outcome)>,
    /// When that record changed that changed last, whatever became of it.
    pub(crate) newest: Option<DateTime<Utc>>,
}

impl JudgedPiece {
    /// One without records yet.
    pub(crate) fn until(end: Place) -> Self {
        Self { end, outcomes: Vec::new(), newest: None }
    }

    /// Judges the record in `line`.
    pub(crate) fn judge(&mut self, rules: &Rules, line: u64, record: Result<Record, Reject>) {
        // A time to come is a mistake, and says nothing of how fresh the source is.
        let changed = record.as_ref().ok().and_then(product::changed).filter(|changed| *changed <= rules.now);
        self.newest = self.newest.max(changed);
        self.outcomes.push((line, rules.judge(record)));
    }
}

/// By what a record is judged.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) profile: Profile,
    pub(crate) filter: Filter,
    /// Whether the barcode of what is rejected is wanted.
    pub(crate) name_rejects: bool,
    pub(crate) now: DateTime<Utc>,
}

impl Rules {
    fn judge(&self, record: Result<Record, Reject>) -> Outcome {
        let record = match record {
            Ok(record) if self.filter.lets_through(&record) => record,
            Ok(_) => return Outcome::PassedOver,
            Err(reason) => return Outcome::Rejected(Rejected { reason, code: None, withdrawal: None }),
        };
        match Product::from_record(&record, self.profile) {
            Ok((product, mends)) => {
                Outcome::Product(Box::new(Judged { fingerprint: product.fingerprint(), product, mends }))
            }
            Err(reason) => {
                let code = record.code.text().filter(|_| self.name_rejects);
                let code = code.map(|code| tag(&code, LONGEST_CODE, &mut Mends::default()));
                Outcome::Rejected(Rejected { reason, code, withdrawal: Withdrawal::of(&record) })
            }
        }
    }

    /// Gives what became of `piece`, part by part, and its room back.
    fn judge_piece(&self, piece: Piece, mut give: impl FnMut(Part) -> bool) -> Option<Vec<u8>> {
        let Piece { start, end, content } = piece;
        let mut judged = JudgedPiece::until(end);
        let room = match content {
            Content::Lines(bytes) => {
                for (line, number) in bytes.split(|&byte| byte == b'\n').zip(start.line + 1..) {
                    if !line.trim_ascii().is_empty() {
                        judged.judge(self, number, Record::read(line).map_err(|_| Reject::NotJson));
                    }
                }
                Some(bytes)
            }
            Content::TooLong => {
                judged.judge(self, start.line + 1, Err(Reject::TooLong));
                None
            }
            Content::Rows(header, bytes) => {
                header.read(&bytes, |line, record| {
                    judged.judge(self, start.line + 1 + line, record.ok_or(Reject::BadRow));
                });
                Some(bytes)
            }
            Content::Group(group) => {
                let mut row = start.line;
                let outcome = group.read(|records| {
                    let end = row + records.len() as u64;
                    let mut judged = JudgedPiece::until(Place { offset: end, line: end });
                    for record in records {
                        row += 1;
                        judged.judge(self, row, Ok(record));
                    }
                    give(Ok(judged))
                });
                if let Err(broken) = outcome {
                    give(Err(broken));
                }
                return None;
            }
        };
        give(Ok(judged));
        room.filter(|room| room.capacity() <= LARGEST_ROOM)
    }
}

/// What became of a part of a piece; or that it was broken, and what comes after it with it.
type Part = Result<JudgedPiece, Broken>;

/// The judged pieces of a source, in their order.
#[derive(Debug)]
pub(crate) struct Pipeline {
    name: String,
    unit: &'static str,
    /// The parts of each, and where it ends.
    pieces: mpsc::Receiver<(mpsc::Receiver<Part>, Place)>,
    /// Those that are being taken.
    parts: Option<(mpsc::Receiver<Part>, Place)>,
    reached: Place,
    broken: Option<Broken>,
    cutting: JoinHandle<Result<(), Broken>>,
}

impl Pipeline {
    /// Starts to read `source` from `start` on.
    pub(crate) fn start(source: Source, start: Place, rules: Rules) -> Self {
        let (ordered, pieces) = mpsc::channel(UNDER_WAY);
        let (work, waiting) = threads::sync_channel::<(Piece, mpsc::Sender<Part>)>(WAITING);
        let (give_back, used) = threads::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let rules = Arc::new(rules);
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            let (waiting, rules, give_back) = (waiting.clone(), rules.clone(), give_back.clone());
            thread::spawn(move || {
                loop {
                    // The lock is held while waiting: others wait for it as they would for a piece.
                    let next = waiting.lock().map(|waiting| waiting.recv());
                    let Ok(Ok((piece, parts))) = next else { return };
                    // Nobody takes them where the import has ended.
                    let room = rules.judge_piece(piece, |part| parts.blocking_send(part).is_ok());
                    if let Some(room) = room {
                        let _ = give_back.send(room);
                    }
                }
            });
        }
        let (name, unit) = (source.name.clone(), source.unit());
        let cutting = thread::spawn(move || {
            source.cut(start, &used, |piece| {
                let (parts, judged) = mpsc::channel(PARTS);
                ordered.blocking_send((judged, piece.end)).is_ok() && work.send((piece, parts)).is_ok()
            })
        });
        Self { name, unit, pieces, parts: None, reached: start, broken: None, cutting }
    }

    /// The next piece or part of one; `None` after the last.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<JudgedPiece>> {
        loop {
            let Some((parts, end)) = &mut self.parts else {
                self.parts = self.pieces.recv().await;
                if self.parts.is_none() {
                    return Ok(None);
                }
                continue;
            };
            match parts.recv().await {
                Some(Ok(piece)) => {
                    self.reached = piece.end;
                    return Ok(Some(piece));
                }
                Some(Err(broken)) => {
                    self.broken = Some(broken);
                    return Ok(None);
                }
                None => {
                    // What is missing is not passed over: the import would count as having read it.
                    ensure!(self.reached == *end, "a thread that judges records has panicked");
                    self.parts = None;
                }
            }
        }
    }

    /// Whether the source came to its end or broke off; to be asked after the last piece.
    pub(crate) fn end(self) -> anyhow::Result<Option<Damage>> {
        let Self { name, unit, pieces, reached, broken, cutting, .. } = self;
        // What comes after something broken is wanted by nobody.
        drop(pieces);
        let outcome = cutting.join().map_err(|_| anyhow!("the thread that reads the source has panicked"))?;
        let broken = broken.or_else(|| outcome.err());
        Ok(broken.map(|Broken { byte, cause }| Damage { name, byte, reached: reached.line, unit, cause }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, Read, Result};

    /// Two lines, and then what comes of `end`.
    struct Lines<F> {
        lines: &'static [u8],
        end: F,
    }

    impl<F: Fn() -> Result<usize>> Read for Lines<F> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let read = self.lines.read(buffer)?;
            if read > 0 { Ok(read) } else { (self.end)() }
        }
    }

    /// How many records come of it, and how it ends.
    async fn read(end: fn() -> Result<usize>) -> (usize, anyhow::Result<Option<Damage>>) {
        let source = Source::stream("it", Lines { lines: b"{}\n{}\n", end }).unwrap();
        let rules =
            Rules { profile: Profile::All, filter: Filter::default(), name_rejects: false, now: DateTime::default() };
        let mut pipeline = Pipeline::start(source, Place::default(), rules);
        let mut records = 0;
        while let Some(piece) = pipeline.next().await.unwrap() {
            records += piece.outcomes.len();
        }
        (records, pipeline.end())
    }

    #[tokio::test]
    async fn an_end_and_damage_and_a_panic_are_told_apart() {
        let (records, end) = read(|| Ok(0)).await;
        assert!(records == 2 && matches!(end, Ok(None)));
        let (records, end) = read(|| Err(Error::other("it broke"))).await;
        let damage = end.unwrap().unwrap().to_string();
        assert!(records == 2 && damage.contains("near byte 6, after line 2: it broke"), "{damage}");
        let (_, end) = read(|| panic!("as a reader of a strange file might")).await;
        assert!(end.unwrap_err().to_string().contains("panicked"));
    }
}
