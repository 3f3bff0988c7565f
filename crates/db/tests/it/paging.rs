//! Pages: every row once, in order, whatever is equal or NULL, forwards and backwards.

use db::{Db, Error, Filter, Order, Page, Test, Value, record, select};

use crate::{Volume, fresh, volume};

/// Twelve volumes with ties and NULLs in the columns that are sorted by.
async fn twelve(db: &Db) -> Vec<Volume> {
    let rows: Vec<Volume> = (0..12)
        .map(|n| Volume {
            name: [None, Some("b"), Some("a"), Some("B")][n % 4].map(String::from),
            size_gb: (n % 3) as i64,
            load: (n % 2 == 0).then_some(n as f64 / 4.0),
            ..volume(&format!("v{n:02}"))
        })
        .collect();
    db.insert_all(&rows).await.unwrap();
    rows
}

fn sorted_by(sort: &[(&str, Order)]) -> Page {
    Page { sort: sort.iter().map(|(column, order)| (column.to_string(), *order)).collect(), ..Page::default() }
}

fn ids(rows: &[Volume]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

/// The list as this program would sort it: NULL is the smallest.
fn expected(mut rows: Vec<Volume>, sort: &[(&str, Order)]) -> Vec<Volume> {
    let tail = sort.first().map_or(Order::Asc, |(_, order)| *order);
    rows.sort_by(|a, b| {
        let keys = sort.iter().copied().chain([("id", tail)]);
        keys.fold(std::cmp::Ordering::Equal, |sum, (column, order)| {
            let each = match column {
                "name" => a.name.cmp(&b.name),
                "size_gb" => a.size_gb.cmp(&b.size_gb),
                "load" => a.load.partial_cmp(&b.load).unwrap(),
                _ => a.id.cmp(&b.id),
            };
            sum.then(if order == Order::Asc { each } else { each.reverse() })
        })
    });
    rows
}

#[tokio::test]
async fn pages_joined_are_the_whole_list() {
    let (db, _guard) = fresh().await;
    let rows = twelve(&db).await;
    let (asc, desc) = (Order::Asc, Order::Desc);
    let sorts: [&[(&str, Order)]; 9] = [
        &[],
        &[("id", desc)],
        &[("name", asc)],
        &[("name", desc)],
        &[("load", asc), ("name", desc)],
        &[("load", desc), ("name", asc)],
        &[("size_gb", desc), ("name", desc), ("load", asc)],
        &[("size_gb", asc), ("id", desc)],
        &[("name", desc), ("load", desc), ("size_gb", asc)],
    ];
    for sort in sorts {
        let wanted = expected(rows.clone(), sort);
        for limit in [1, 5, 12, 50] {
            let mut page = Page { limit: Some(limit), ..sorted_by(sort) };
            let mut found: Vec<Volume> = Vec::new();
            loop {
                let part = db.page(select::<Volume>(""), &page).await.unwrap();
                let Some(last) = part.last() else { break };
                page.marker = Some(last.id.clone());
                found.extend(part);
            }
            assert_eq!(ids(&found), ids(&wanted), "{sort:?} by {limit}");

            let mut page = Page { marker: None, reverse: true, ..page };
            let mut found: Vec<Volume> = Vec::new();
            loop {
                let part = db.page(select::<Volume>(""), &page).await.unwrap();
                let Some(first) = part.first() else { break };
                page.marker = Some(first.id.clone());
                found.splice(0..0, part);
            }
            assert_eq!(ids(&found), ids(&wanted), "{sort:?} by {limit}, from the end");
        }
    }
}

#[tokio::test]
async fn a_page_without_a_limit_is_the_rest() {
    let (db, _guard) = fresh().await;
    twelve(&db).await;
    let page = Page { marker: Some("v08".into()), ..Page::default() };
    assert_eq!(ids(&db.page(select::<Volume>(""), &page).await.unwrap()), ["v09", "v10", "v11"]);
}

#[tokio::test]
async fn a_page_keeps_to_what_was_selected() {
    let (db, _guard) = fresh().await;
    twelve(&db).await;
    let some = || select::<Volume>("WHERE size_gb = ? OR size_gb = ?").bind(1_i64).bind(2_i64);
    let page = Page { limit: Some(2), marker: Some("v04".into()), ..Page::default() };
    assert_eq!(ids(&db.page(some(), &page).await.unwrap()), ["v05", "v07"]);
    let page = Page { marker: Some("v03".into()), ..page };
    assert!(matches!(db.page(some(), &page).await, Err(Error::MarkerNotFound)), "v03 was not selected");
    let page = Page { marker: Some("nothing".into()), ..page };
    assert!(matches!(db.page(some(), &page).await, Err(Error::MarkerNotFound)));
}

#[tokio::test]
async fn a_marker_may_be_unknown_to_the_filters() {
    let (db, _guard) = fresh().await;
    twelve(&db).await;
    let filters = vec![Filter { column: "size_gb".into(), test: Test::Equal(vec![Value::Int(0)]) }];
    let page = Page { marker: Some("v04".into()), filters, ..Page::default() };
    assert_eq!(ids(&db.page(select::<Volume>(""), &page).await.unwrap()), ["v06", "v09"]);
}

async fn filtered(db: &Db, column: &str, test: Test) -> Vec<String> {
    let page = Page { filters: vec![Filter { column: column.into(), test }], ..Page::default() };
    let rows = db.page(select::<Volume>(""), &page).await.unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[tokio::test]
async fn filters_compare() {
    let (db, _guard) = fresh().await;
    let names = [None, Some("a"), Some("A"), Some("a%"), Some("ab_"), Some("abc!")];
    for (n, name) in names.iter().enumerate() {
        let row =
            Volume { name: name.map(String::from), size_gb: n as i64, load: Some(n as f64), ..volume(&format!("{n}")) };
        db.insert(&row).await.unwrap();
    }
    let is = |test: Test| filtered(&db, "name", test);
    assert_eq!(is(Test::Equal(vec![text("a")])).await, ["1"]);
    assert_eq!(is(Test::Equal(vec![text("a"), text("A"), Value::Null])).await, ["0", "1", "2"]);
    assert_eq!(is(Test::Equal(vec![])).await, [""; 0]);
    assert_eq!(is(Test::NotEqual(text("a"))).await, ["2", "3", "4", "5"]);
    assert_eq!(is(Test::NotEqual(Value::Null)).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(is(Test::IsNull).await, ["0"]);
    assert_eq!(is(Test::NotNull).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(is(Test::Contains("%".into())).await, ["3"]);
    assert_eq!(is(Test::Contains("b".into())).await, ["4", "5"]);
    assert_eq!(is(Test::StartsWith("ab".into())).await, ["4", "5"]);
    assert_eq!(is(Test::EndsWith("_".into())).await, ["4"]);
    assert_eq!(is(Test::EndsWith("!".into())).await, ["5"]);
    assert_eq!(is(Test::Like("a_".into())).await, ["3"]);
    assert_eq!(is(Test::GreaterEqual(text("ab"))).await, ["4", "5"]);

    let is = |test: Test| filtered(&db, "size_gb", test);
    assert_eq!(is(Test::Greater(Value::Int(3))).await, ["4", "5"]);
    assert_eq!(is(Test::GreaterEqual(text("4"))).await, ["4", "5"]);
    assert_eq!(is(Test::Less(Value::Int(1))).await, ["0"]);
    assert_eq!(is(Test::LessEqual(text("1"))).await, ["0", "1"]);
    assert_eq!(is(Test::Equal(vec![text("2"), text("two")])).await, ["2"]);
    assert_eq!(is(Test::Equal(vec![text("two")])).await, [""; 0]);
    assert_eq!(is(Test::NotEqual(text("two"))).await.len(), 6);
    assert_eq!(filtered(&db, "load", Test::Less(Value::Int(2))).await, ["0", "1"]);
    assert_eq!(filtered(&db, "volumes.bootable", Test::Equal(vec![text("False")])).await.len(), 6);
}

#[tokio::test]
async fn a_marker_may_be_a_number() {
    record! {
        pub struct Counted in "volumes" {
            pub size_gb: i64,
            pub name: Option<String>,
        }
    }
    let (db, _guard) = fresh().await;
    for n in 0..4 {
        db.insert(&Volume { size_gb: n, ..volume(&format!("v{n}")) }).await.unwrap();
    }
    let page = Page { marker: Some("1".into()), marker_column: "size_gb", ..Page::default() };
    let rows = db.page(select::<Counted>(""), &page).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.size_gb).collect::<Vec<_>>(), [2, 3]);
    let page = Page { marker: Some("one".into()), ..page };
    assert!(matches!(db.page(select::<Counted>(""), &page).await, Err(Error::MarkerNotFound)));
}

#[tokio::test]
async fn a_transaction_pages_too() {
    let (db, _guard) = fresh().await;
    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    assert_eq!(tx.page(select::<Volume>(""), &Page::default()).await.unwrap().len(), 1);
}

#[tokio::test]
#[should_panic(expected = "is not the name of a column")]
async fn a_column_that_is_no_name_stops_the_program() {
    let (db, _guard) = fresh().await;
    let _ = db.page(select::<Volume>(""), &sorted_by(&[("id; --", Order::Asc)])).await;
}
