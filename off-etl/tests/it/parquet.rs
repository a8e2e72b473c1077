//! The Parquet export yields the same products as JSON lines.

use crate::{count_products, counts, find_product, import_file};
use off_etl::Damage;
use off_testkit::Database;
use parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    column::writer::{ColumnWriter, ColumnWriterImpl},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::Type},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

const STATES: [&str; 5] = [
    "en:product-name-completed",
    "en:brands-completed",
    "en:quantity-completed",
    "en:front-photo-selected",
    "en:nutrition-facts-completed",
];

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Writes a Parquet file with the columns that the importer uses, and one that it does not.
pub(crate) fn write_parquet(path: &Path, products: &[(String, &str)]) {
    write_packed(path, products, Compression::UNCOMPRESSED, "int64 last_modified_t", 1_700_000_000);
}

/// The same with this compression and this column of times.
fn write_packed(path: &Path, products: &[(String, &str)], codec: Compression, times: &str, time: i64) {
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), Arc::new(schema(times)), properties).unwrap();
    // One row group per product, so that resuming in the middle is tested, too.
    for (code, name) in products {
        let mut group = writer.next_row_group().unwrap();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => write_texts(writer, index, &texts(code, name)[index]),
                ColumnWriter::Int64ColumnWriter(writer) => drop(writer.write_batch(&[time], Some(&[1]), None).unwrap()),
                other => write_value(other, index),
            }
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn schema(times: &str) -> Type {
    parse_message_type(&format!(
        "message schema {{
             optional binary code (UTF8);
             optional int32 additives_n;
             optional group product_name (LIST) {{ repeated group list {{ optional group element {{
                 optional binary lang (UTF8); optional binary text (UTF8); }} }} }}
             optional binary quantity (UTF8);
             optional group states_tags (LIST) {{ repeated group list {{ optional binary element (UTF8); }} }}
             optional int32 nova_group;
             optional int32 nutriscore_score;
             optional binary nutriscore_grade (UTF8);
             optional group images (LIST) {{ repeated group list {{ optional group element {{
                 optional binary key (UTF8); optional int32 rev; optional binary uploader (UTF8); }} }} }}
             optional group nutriments (LIST) {{ repeated group list {{ optional group element {{
                 optional binary name (UTF8); optional float 100g; optional float serving; optional binary unit (UTF8); }} }} }}
             optional group brands_tags (LIST) {{ repeated group list {{ optional binary element (UTF8); }} }}
             optional boolean obsolete;
             optional {times};
         }}",
    ))
    .unwrap()
}

/// The texts of each column of the schema; none in a column with another type.
fn texts<'a>(code: &'a str, name: &'a str) -> [Vec<&'a str>; 18] {
    [
        vec![code],
        vec![],
        vec!["main", "en"],
        vec![name, "Other"],
        vec!["500 g"],
        STATES.to_vec(),
        vec![],
        vec![],
        vec!["a"],
        vec!["front_en", "1"],
        vec![],
        vec!["somebody", "somebody"],
        vec!["energy-kcal", "fat"],
        vec![],
        vec![],
        vec!["kcal", "g"],
        vec!["xx:hollow-oak", "mill-lane"],
        vec![],
    ]
}

/// The definition levels of `count` present values: a present value has the deepest level.
fn deepest(count: usize, level: i16) -> Vec<i16> {
    vec![level; count]
}

/// The repetition levels of a list with `count` values: all values but the first have one.
fn repeats(count: usize) -> Vec<i16> {
    (0..count).map(|number| i16::from(number > 0)).collect()
}

fn write_texts(writer: &mut ColumnWriterImpl<'_, ByteArrayType>, index: usize, texts: &[&str]) {
    let texts: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
    let level = match index {
        0 | 4 | 8 => 1,
        5 | 16 => 3,
        _ => 4,
    };
    let repetition = (level > 1).then(|| repeats(texts.len()));
    writer.write_batch(&texts, Some(&deepest(texts.len(), level)), repetition.as_deref()).unwrap();
}

/// Writes a column that has the same values in every product.
fn write_value(column: &mut ColumnWriter<'_>, index: usize) {
    match column {
        ColumnWriter::Int32ColumnWriter(writer) if index == 10 => {
            writer.write_batch(&[7, 1], Some(&deepest(2, 4)), Some(&repeats(2))).unwrap();
        }
        ColumnWriter::Int32ColumnWriter(writer) => {
            let value = match index {
                6 => 1,
                7 => -3,
                _ => 0,
            };
            writer.write_batch(&[value], Some(&[1]), None).unwrap();
        }
        ColumnWriter::FloatColumnWriter(writer) => {
            writer.write_batch(&[345.5, 1.1], Some(&deepest(2, 4)), Some(&repeats(2))).unwrap();
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            writer.write_batch(&[true], Some(&[1]), None).unwrap();
        }
        _ => unreachable!("a column of another type"),
    }
}

#[tokio::test]
async fn parquet_yields_the_same_products() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("food.parquet");
    let products = [("2000000000015", "6\" lentils"), ("2000000000022", "Tea"), ("2-KG", "No barcode")];
    write_parquet(&path, &products.map(|(code, name)| (code.to_owned(), name)));
    let report = import_file(&db, &path).await.unwrap();
    assert_eq!(counts(&report), [3, 2, 0, 0, 1]);
    assert_eq!(report.rejected.values().next().unwrap().first, 3);
    insta::assert_json_snapshot!(find_product(&db.pool, "2000000000015").await, @r#"
    {
      "name": "6\" lentils",
      "quantity": "500 g",
      "kcal_100g": 345.5,
      "nova_group": 1,
      "nutriscore_score": -3,
      "nutriscore_grade": "a",
      "fat": null,
      "saturated_fat": null,
      "sugars": null,
      "salt": null,
      "brands": [
        "hollow-oak",
        "mill-lane"
      ],
      "categories": [],
      "image_url": "https://images.openfoodfacts.org/images/products/200/000/000/0015/front_en.7.400.jpg",
      "obsolete": true
    }
    "#);
}

#[tokio::test]
async fn parquet_may_have_any_common_compression_and_timestamps() {
    let folder = tempfile::tempdir().unwrap();
    let seconds: i64 = 1_700_000_000;
    for (codec, times, time) in [
        (Compression::SNAPPY, "int64 last_modified_t", seconds),
        (Compression::GZIP(GzipLevel::default()), "int64 last_modified_t (TIMESTAMP(MILLIS,true))", seconds * 1000),
        (Compression::LZ4_RAW, "int64 last_modified_t (TIMESTAMP(MICROS,true))", seconds * 1_000_000),
        (
            Compression::ZSTD(ZstdLevel::default()),
            "int64 last_modified_t (TIMESTAMP(NANOS,true))",
            seconds * 1_000_000_000,
        ),
    ] {
        let (db, path) = (Database::new().await, folder.path().join("food.parquet"));
        write_packed(&path, &[("2000000000015".to_owned(), "Lentils")], codec, times, time);
        assert_eq!(counts(&import_file(&db, &path).await.unwrap()), [1, 1, 0, 0, 0], "{codec:?}");
        let found: i64 = sqlx::query_scalar("SELECT extract(epoch FROM last_modified)::bigint FROM catalog.products")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(found, seconds, "{times}");
    }
}

#[tokio::test]
async fn parquet_of_something_else_is_refused() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("trees.parquet");
    let schema = parse_message_type("message schema { required int64 height; }").unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), Arc::new(schema), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[12], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let refused = import_file(&db, &path).await.unwrap_err().to_string();
    assert!(refused.contains("trees.parquet") && refused.contains("without a column `code`"), "{refused}");
}

#[tokio::test]
async fn records_before_damage_in_parquet_are_kept() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("food.parquet");
    write_parquet(&path, &[0, 1, 2].map(|number| (format!("200000000000{number}"), "Lentils")));
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let page = reader.metadata().row_group(1).column(0).byte_range().0;
    let undamaged = std::fs::read(&path).unwrap();

    let mut bytes = undamaged.clone();
    bytes[usize::try_from(page).unwrap()..][..8].fill(0xff);
    let error = import_file(&db, &write(&folder, "corrupt.parquet", &bytes)).await.unwrap_err();
    assert!(error.is::<Damage>() && format!("{error:#}").contains("corrupt.parquet is damaged"), "{error:#}");
    assert!(format!("{error:#}").contains("after row 1: "), "{error:#}");
    assert_eq!(count_products(&db.pool).await, 1);

    // Damage in a column that is not needed has no effect.
    let page = reader.metadata().row_group(1).column(1).byte_range().0;
    let mut bytes = undamaged.clone();
    bytes[usize::try_from(page).unwrap()..][..8].fill(0xff);
    let report = import_file(&db, &write(&folder, "additives.parquet", &bytes)).await.unwrap();
    assert_eq!(counts(&report), [3, 2, 0, 1, 0]);

    // The metadata is at the end of the file: without it nothing can be read.
    let half = write(&folder, "half.parquet", &undamaged[..undamaged.len() / 2]);
    let error = import_file(&db, &half).await.unwrap_err();
    assert!(error.is::<Damage>() && format!("{error:#}").contains("half.parquet is damaged"), "{error:#}");
}
