//! What is read is what stands there: every type, every shard, one moment.

use crate::common::*;
use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use keepfast_model::TableName;
use keepfast_model::cut::Exactness;
use keepfast_store::{CutOptions, ProofRequest, Store};

#[tokio::test]
async fn values_of_every_type_are_read_exactly() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("types");
        every_type(&urls[0], &database).await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "every"));
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        assert_eq!(cut.cut().exactness, Exactness::Exact);
        let (batches, _) = read(cut.as_ref(), &table, 1).await;
        let rows = concat_batches(&batches[0].schema(), &batches).unwrap();
        let at = |name: &str| rows.column_by_name(name).unwrap().clone();
        assert_eq!(rows.num_rows(), 2);
        // In the order of the key: 1 first.
        assert_eq!(at("id").as_primitive::<Decimal128Type>().value(1), i128::from(u64::MAX));
        assert_eq!(at("b").as_primitive::<Int32Type>().value(1), 65535);
        assert_eq!(at("c").as_primitive::<Int32Type>().value(1), -8_388_608);
        assert_eq!(at("d").as_primitive::<Int64Type>().value(1), 4_294_967_295);
        assert_eq!(at("e").as_primitive::<Int64Type>().value(1), i64::MIN);
        assert_eq!(at("f").as_primitive::<Float32Type>().value(1).to_bits(), f32::MIN_POSITIVE.to_bits());
        assert_eq!(at("g").as_primitive::<Float64Type>().value(1).to_bits(), 1);
        assert_eq!(at("i").as_primitive::<Decimal128Type>().value(1), -123_456_789);
        assert_eq!(at("j").as_primitive::<Decimal128Type>().value(1), 0b1_0000_0000_0001);
        assert_eq!(at("k").as_primitive::<Int16Type>().value(1), 2155);
        assert_eq!(at("l").as_primitive::<Date32Type>().value(1), -354_285);
        assert_eq!(at("n").as_primitive::<TimestampMicrosecondType>().value(1), 253_402_300_799_999_999);
        assert_eq!(at("o").as_primitive::<TimestampMicrosecondType>().value(1), 2_147_483_647_999_999);
        assert_eq!(at("m").as_primitive::<Int64Type>().value(0), 45_000_500_000);
        for (name, text) in
            [("p", "ab"), ("q", "naïve ☃ 😀"), ("v", "y"), ("w", "p,q"), ("x", "é"), ("y", "中")]
        {
            assert_eq!(at(name).as_string::<i32>().value(1), text, "{name}");
        }
        assert_eq!(at("s").as_binary::<i32>().value(1), [0, 1, 0, 0]);
        assert!(at("u").as_binary::<i32>().value(1).is_empty());
        assert_eq!(at("z").as_primitive::<Int32Type>().value(1), -127);
        for name in ["h", "m"] {
            assert!(at(name).is_null(1), "{name} is beyond its column");
        }
        assert!(at("l").is_null(0) && at("n").is_null(0) && at("a").is_null(0));
        let exact = at("__keepfast_exact");
        let exact = exact.as_string::<i32>();
        assert_eq!(exact.value(0), r#"{"13":"0000-00-00","15":"2020-00-00 10:11:12.000000"}"#);
        assert_eq!(
            exact.value(1),
            r#"{"9":"12345678901234567890123456789012345.500000000000000000000000000000","14":"-838:59:58.999999"}"#
        );
        assert_eq!(cut.prove(&table, &ProofRequest::default()).await.unwrap().unwrap().rows, 2);
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_table_of_many_shards_is_read_whole_and_at_one_moment() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let prefix = fresh("shop");
        for (at, url) in urls.iter().take(2).enumerate() {
            let mut sql = vec![format!("CREATE DATABASE {prefix}_{at}")];
            for n in 0..3 {
                sql.push(format!("CREATE TABLE {prefix}_{at}.orders_{n} (id INT PRIMARY KEY, amount INT)"));
                let rows: Vec<String> =
                    (0..100).map(|i| format!("({}, 10)", at * 1000 + n * 100 + i)).collect();
                sql.push(format!("INSERT INTO {prefix}_{at}.orders_{n} VALUES {}", rows.join(",")));
            }
            run(url, &sql.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        let pattern = format!("{prefix}_{{0..1}}.orders_{{0..2}}");
        let (store, table) = (store(&urls[..2], &[("orders", &pattern)]), TableName::bare("orders"));
        let info = store.describe(&table).await.unwrap();
        assert_eq!(info.shards.len(), 6);
        assert!(store.list_tables(None).await.unwrap().contains(&table));
        let cut =
            store.open_cut(std::slice::from_ref(&table), &CutOptions { allow_fuzzy: true }).await.unwrap();
        // What is written after the cut is not in it.
        run(
            &urls[1],
            &[
                &format!("UPDATE {prefix}_1.orders_0 SET amount = 99"),
                &format!("DELETE FROM {prefix}_1.orders_2"),
            ],
        )
        .await;
        let (batches, partitions) = read(cut.as_ref(), &table, 6).await;
        let sum: i64 = batches
            .iter()
            .flat_map(|b| {
                b.column_by_name("amount")
                    .unwrap()
                    .as_primitive::<Int32Type>()
                    .iter()
                    .flatten()
                    .collect::<Vec<_>>()
            })
            .map(i64::from)
            .sum();
        assert_eq!((sum, partitions), (6000, 6));
        assert_eq!(cut.prove(&table, &ProofRequest::default()).await.unwrap().unwrap().rows, 600);
        assert!(matches!(cut.cut().exactness, Exactness::Bounded { ms: 1.. }), "{:?}", cut.cut());
        // A place in each server's log, and what tells whose log it is.
        assert_eq!(cut.cut().positions.len(), 4);
        cut.release().await.unwrap();
        // A shard that is missing, and one that differs, are errors that name it.
        let more =
            crate::common::store(&urls[..2], &[("orders", &format!("{prefix}_{{0..1}}.orders_{{0..3}}"))]);
        let error = more.describe(&table).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{prefix}_0.orders_3, {prefix}_1.orders_3")), "{error}");
        run(&urls[1], &[&format!("ALTER TABLE {prefix}_1.orders_1 MODIFY amount BIGINT")]).await;
        let error = store.describe(&table).await.unwrap_err().to_string();
        assert!(error.contains("column 'amount' is int") && error.contains("orders_1"), "{error}");
    }
}
