//! What is put into a column comes out of it.

use std::collections::BTreeMap;

use base::{Time, json};
use db::{Bind, Column, Error, Row, Value, select, sql};

use crate::{Volume, fresh, volume};

#[tokio::test]
async fn a_record_comes_back_as_it_was() {
    let (db, _guard) = fresh().await;
    let full = Volume {
        name: Some("käse 🧀 \\ ' \" %".into()),
        size_gb: i64::MAX,
        bootable: true,
        load: Some(-0.125),
        created_at: Time(-1_795_241_710_123_456),
        metadata: json!({"a": [1, 2.5, null, "x"], "b": {"c": true}}),
        seal: Some(vec![0, 255, 1, 254]),
        r#type: String::new(),
        ..volume("full")
    };
    let empty = Volume { name: None, load: None, seal: None, ..volume("empty") };
    db.insert(&full).await.unwrap();
    db.insert(&empty).await.unwrap();
    assert_eq!(db.one(select::<Volume>("WHERE id = ?").bind("full")).await.unwrap(), full);
    assert_eq!(db.one(select::<Volume>("WHERE id = ?").bind("empty")).await.unwrap(), empty);
}

#[tokio::test]
async fn the_same_insert_takes_a_value_where_it_took_none_before() {
    let (db, _guard) = fresh().await;
    for round in 0..4 {
        let some = round % 2 == 1;
        let row = Volume {
            name: some.then(|| "n".into()),
            load: some.then_some(1.5),
            seal: some.then(|| vec![1]),
            ..volume(&format!("v{round}"))
        };
        db.insert(&row).await.unwrap();
        assert_eq!(db.one(select::<Volume>("WHERE id = ?").bind(&row.id)).await.unwrap(), row);
    }
}

#[tokio::test]
async fn a_large_document_fits() {
    let (db, _guard) = fresh().await;
    let row = Volume { metadata: json!({"big": "x".repeat(1 << 20)}), ..volume("v") };
    db.insert(&row).await.unwrap();
    assert_eq!(db.one(select::<Volume>("")).await.unwrap().metadata, row.metadata);
}

#[tokio::test]
async fn sums_are_whole_numbers_everywhere() {
    let (db, _guard) = fresh().await;
    let sum = || sql("SELECT SUM(size_gb) FROM volumes");
    assert_eq!(db.count(sum()).await.unwrap(), 0);
    for (id, size_gb) in [("a", 70_000), ("b", 5_000_000_000_000), ("c", -1), ("d", 30_001)] {
        db.insert(&Volume { size_gb, ..volume(id) }).await.unwrap();
    }
    assert_eq!(db.count(sum()).await.unwrap(), 5_000_000_100_000);
    let minus = sql("SELECT SUM(size_gb) FROM volumes WHERE size_gb < 0");
    assert_eq!(db.count(minus).await.unwrap(), -1);
    let rows = db.rows(sql("SELECT AVG(size_gb) AS mean, MAX(size_gb) FROM volumes WHERE size_gb > 40000")).await;
    let row = &rows.unwrap()[0];
    assert_eq!(row.get::<f64>("mean").unwrap(), 2_500_000_035_000.0);
    assert_eq!(row.get::<i64>(1).unwrap(), 5_000_000_000_000);
}

#[tokio::test]
async fn a_fraction_is_averaged() {
    let (db, _guard) = fresh().await;
    for (id, size_gb) in [("a", 1), ("b", 2)] {
        db.insert(&Volume { size_gb, load: Some(0.1), ..volume(id) }).await.unwrap();
    }
    let rows: Vec<Row> = db.rows(sql("SELECT AVG(size_gb), SUM(\"load\") FROM volumes")).await.unwrap();
    assert_eq!(rows[0].get::<f64>(0).unwrap(), 1.5);
    assert!((rows[0].get::<f64>(1).unwrap() - 0.2).abs() < 1e-9);
    let error = rows[0].get::<i64>(0).unwrap_err();
    assert!(matches!(&error, Error::Column { why, .. } if why == "a fraction, not a whole number"), "{error}");
}

#[tokio::test]
async fn a_column_that_holds_something_else_is_named() {
    let (db, _guard) = fresh().await;
    db.insert(&Volume { name: None, ..volume("a") }).await.unwrap();
    let rows = db.rows(sql("SELECT name, size_gb FROM volumes")).await.unwrap();
    assert_eq!(rows[0].get::<String>(0).unwrap_err().to_string(), "column name holds NULL, not text");
    let error = rows[0].get::<String>("size_gb").unwrap_err().to_string();
    assert_eq!(error, "column size_gb holds a whole number, not text");
    let error = rows[0].get::<String>("colour").unwrap_err().to_string();
    assert_eq!(error, "column colour holds nothing: the answer has no such column");
}

#[tokio::test]
async fn a_select_that_names_no_column_fails() {
    db::record! {
        pub struct Wrong in "volumes" {
            pub id: String,
            pub colour: String,
        }
    }
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    assert!(db.all(select::<Wrong>("")).await.is_err());
}

#[tokio::test]
async fn text_tells_cases_and_trailing_spaces_apart() {
    let (db, _guard) = fresh().await;
    for id in ["a", "A", "a ", "ä", "Ä"] {
        db.insert(&Volume { name: Some(id.into()), ..volume(id) }).await.unwrap();
    }
    for id in ["a", "A", "a ", "ä", "Ä"] {
        let found = db.all(select::<Volume>("WHERE name = ?").bind(id)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [id]);
    }
    let like = db.all(select::<Volume>("WHERE name LIKE ?").bind("A%")).await.unwrap();
    assert_eq!(like.len(), 1);
    let all = db.all(select::<Volume>("ORDER BY name")).await.unwrap();
    let names: Vec<_> = all.iter().filter_map(|row| row.name.as_deref()).collect();
    assert_eq!(names, ["A", "a", "a ", "Ä", "ä"]);
}

#[tokio::test]
async fn quotes_bars_and_backslashes_mean_the_same() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    let statement = sql("SELECT '\\' || \"volumes\".\"type\" || '''' AS x FROM volumes");
    assert_eq!(db.rows(statement).await.unwrap()[0].get::<String>("x").unwrap(), "\\fast'");
}

#[tokio::test]
#[should_panic(expected = "\"key\" is a keyword of a database")]
async fn a_keyword_that_is_not_quoted_stops_a_test_on_every_database() {
    let (db, _guard) = fresh().await;
    let _ = db.rows(sql("SELECT key FROM volumes")).await;
}

#[test]
fn rust_types_become_values_and_back() {
    fn round<T: Column + PartialEq + std::fmt::Debug>(value: T, kept: Value) {
        assert_eq!(value.to_value(), kept);
        assert_eq!(T::from_value(kept), Ok(value));
    }
    round("x".to_string(), Value::Text("x".into()));
    round(-7_i32, Value::Int(-7));
    round(7_u32, Value::Int(7));
    round(7_u64, Value::Int(7));
    round(true, Value::Int(1));
    round(Time(9), Value::Int(9));
    round(0.5, Value::Real(0.5));
    round(vec![1_u8], Value::Blob(vec![1]));
    round(json!({"a": 1}), Value::Text("{\"a\":1}".into()));
    round(vec!["a".to_string()], Value::Text("[\"a\"]".into()));
    round(BTreeMap::from([("a".to_string(), "b".to_string())]), Value::Text("{\"a\":\"b\"}".into()));
    round(None::<String>, Value::Null);
    round(Some(3_i64), Value::Int(3));
    assert_eq!(Some("x").into_value(), Value::Text("x".into()));
    assert_eq!(u32::from_value(Value::Int(-1)), Err("-1, which does not fit u32".into()));
    assert!(base::Json::from_value(Value::Text("{".into())).is_err());
}
