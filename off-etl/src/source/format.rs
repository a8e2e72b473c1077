//! Recognizes the format of a source by its first bytes. Known other formats are refused with a hint.

use super::{Contents, parquet, table};
use anyhow::bail;

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON lines.
    Lines,
    /// A tab-separated table.
    Table,
    /// Parquet, which can be read only from a file.
    Parquet,
}

/// First bytes of other formats, and how to make an export of them.
const OTHER_FORMATS: [(&[u8], &str); 10] = [
    (b"PK\x03\x04", "it is a ZIP archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive: unpack it first"),
    (b"BZh", "it is compressed with bzip2: decompress it first"),
    (b"\xfd7zXZ\0", "it is compressed with xz: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard: decompress it first"),
    (b"\x04\x22\x4d\x18", "it is compressed with LZ4: decompress it first"),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
    (b"\x6d\xe2\x99\x81", "it is an archive of MongoDB: load it with `mongorestore` and export it with `mongoexport`"),
    (parquet::MAGIC, "it is Parquet, which can be read only from a plain file"),
];

/// The hint for text in UTF-16.
const UTF_16: &str = "it is text in UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`";

/// The format of a text that begins with `start`. Fails with a hint if it is not an export of `contents`.
pub(super) fn format_of(name: &str, start: &[u8], contents: Contents) -> anyhow::Result<Format> {
    let text = start.trim_ascii_start();
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let found = if let Some((_, other)) = OTHER_FORMATS.iter().find(|(magic, _)| start.starts_with(magic)) {
        other
    } else if table::is_header(line) {
        match contents {
            Contents::Products => return Ok(Format::Table),
            Contents::Prices => "it is a table of products",
        }
    } else if is_archive(start) {
        "it is a tar archive: unpack it first"
    } else if is_bson(start) {
        "it is a dump of MongoDB (BSON): convert it to JSON lines with `bsondump`"
    } else if text.first() != Some(&0) && text.get(1) == Some(&0) {
        UTF_16
    } else if is_separated_otherwise(line) {
        "its columns are not separated by tabs"
    } else if is_search_page(text) {
        "it is a page of search results: convert it to JSON lines with `jq -c '.products[]'`"
    } else if is_one_document(text) {
        "it is one JSON document over many lines: convert it to JSON lines with `jq -c .`"
    } else {
        match text.first() {
            None => "it holds no records",
            Some(b'<') => "it is a page of HTML or XML",
            Some(b'[') => "it is one JSON array: convert it to JSON lines with `jq -c '.[]'`",
            // A damaged first line is no reason to refuse a whole file.
            Some(_) if text.contains(&b'{') => return Ok(Format::Lines),
            Some(_) => "its format is not recognized",
        }
    };
    bail!("{name} is no export of {}: {found}. It should be {}", contents.project(), contents.formats())
}

/// Whether `start` is a POSIX tar archive, whose magic number comes at byte 257, after the first file name.
fn is_archive(start: &[u8]) -> bool {
    start.get(257..262).is_some_and(|magic| magic == b"ustar")
}

/// Whether `start` looks like BSON: a length up to MongoDB's 16 MiB, a type, and a field name (<https://bsonspec.org>).
fn is_bson(start: &[u8]) -> bool {
    let Some(([a, b, c, d, kind], name)) = start.split_first_chunk() else { return false };
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    (5..=16 * 1024 * 1024).contains(&u32::from_le_bytes([*a, *b, *c, *d]))
        && (1..=0x13).contains(kind)
        && !name.is_empty()
        && name.iter().all(u8::is_ascii_graphic)
}

/// Whether `line` is a header with commas or semicolons between the columns.
fn is_separated_otherwise(line: &[u8]) -> bool {
    [b',', b';'].iter().any(|separator| {
        let mut names = line.split(|byte| byte == separator).map(<[u8]>::trim_ascii);
        names.clone().count() > 1 && names.any(|name| name == b"code" || name == b"\"code\"")
    })
}

/// Whether a list `products` comes before any field of a product.
fn is_search_page(text: &[u8]) -> bool {
    let find = |name: &[u8]| memchr::memmem::find(text, name);
    let Some(products) = find(b"\"products\"").filter(|_| text.starts_with(b"{")) else { return false };
    let list = text[products + b"\"products\"".len()..].trim_ascii_start();
    let is_list = list.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"["));
    is_list && [&b"\"code\""[..], b"\"_id\""].iter().all(|field| find(field).is_none_or(|place| place > products))
}

/// Whether a document continues on its second line. After a damaged first line of an export comes another record.
fn is_one_document(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return false };
    first.starts_with(b"{") && !first.ends_with(b"}") && !second.starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_export_is_refused_with_its_format() {
        let archive = [&[b'x'; 257][..], b"ustar\0"].concat();
        for (start, name) in [
            (&b"PK\x03\x04\x14\0{"[..], "ZIP"),
            (b"BZh91AY&SY{", "bzip2"),
            (b"\xfd7zXZ\0\0{", "xz"),
            (b"\x28\xb5\x2f\xfd{", "Zstandard"),
            (b"\xff\xfe{\0\"\0", "UTF-16"),
            (b"{\0\"\0c\0", "UTF-16"),
            (b"\x2a\x01\0\0\x02_id\0\x0e\0\0\0{", "BSON"),
            (&archive, "tar"),
            (b"code,product_name\n1,Oat {drink}\n", "tabs"),
            (b"\"code\";\"name\"\n1;{}\n", "tabs"),
            (b"{\"count\": 1, \"products\": [{\"code\": \"1\"}]}", "search results"),
            (b"{\n  \"count\": 1,\n  \"products\" : [\n    {\"code\": \"1\"}]}", "search results"),
            (b"{\n  \"code\": \"1\",\n", "many lines"),
            (b"[{\"code\": \"1\"}]", "array"),
            (b"<!doctype html>", "HTML"),
            (b"PAR1", "plain file"),
            (b" \n ", "no records"),
            (b"hello\n", "not recognized"),
        ] {
            let refused = format_of("it", start, Contents::Products).unwrap_err().to_string();
            assert!(refused.contains(name), "{}: {refused}", start.escape_ascii());
        }
    }

    #[test]
    fn exports_with_a_damaged_first_line_are_recognized() {
        for (start, format) in [
            (&b"\n {\"code\": \"1\"}\n{\"code\": \"2\"}"[..], Format::Lines),
            (b"{\"code\": \"1\", \"products\": [1]}", Format::Lines),
            (b"{\"code\": \"1\", broken\n{\"code\": \"2\"}", Format::Lines),
            (b"dirt\n{\"code\": \"2\"}", Format::Lines),
            (b"code\tproduct_name\n", Format::Table),
            (b"\"code\"\t\"a,b\"\n", Format::Table),
        ] {
            assert_eq!(format_of("it", start, Contents::Products).unwrap(), format, "{}", start.escape_ascii());
        }
    }
}
