use keepfast_model::ColumnType;
use keepfast_sql::parse_column_type;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = ColumnType> {
    let length = 1..=u32::MAX;
    prop_oneof![
        Just(ColumnType::Boolean),
        Just(ColumnType::Int8),
        Just(ColumnType::Int16),
        Just(ColumnType::Int32),
        Just(ColumnType::Int64),
        Just(ColumnType::UInt8),
        Just(ColumnType::UInt16),
        Just(ColumnType::UInt32),
        Just(ColumnType::UInt64),
        Just(ColumnType::Float32),
        Just(ColumnType::Float64),
        (1..=38_u8)
            .prop_flat_map(|p| (Just(p), 0..=p))
            .prop_map(|(precision, scale)| ColumnType::Decimal { precision, scale }),
        length.clone().prop_map(|length| ColumnType::Char { length }),
        proptest::option::of(length.clone()).prop_map(|length| ColumnType::Varchar { length }),
        Just(ColumnType::Text),
        length.clone().prop_map(|length| ColumnType::Binary { length }),
        proptest::option::of(length).prop_map(|length| ColumnType::Varbinary { length }),
        Just(ColumnType::Blob),
        Just(ColumnType::Date),
        Just(ColumnType::Time),
        any::<bool>().prop_map(|zone| ColumnType::Timestamp { zone }),
        Just(ColumnType::Json),
        Just(ColumnType::Uuid),
    ]
}

fn any_type() -> impl Strategy<Value = ColumnType> {
    (scalar(), 0..6)
        .prop_map(|(scalar, lists)| (0..lists).fold(scalar, |item, _| ColumnType::List(Box::new(item))))
}

proptest! {
    #[test]
    fn the_sql_of_every_type_reads_back_as_that_type(column_type in any_type()) {
        prop_assert_eq!(parse_column_type(&column_type.sql()).unwrap(), column_type.clone());
        prop_assert_eq!(parse_column_type(&column_type.sql().to_lowercase()).unwrap(), column_type);
    }
}

#[test]
fn usual_spellings_of_other_systems_map_on_a_type() {
    for (spellings, expected) in [
        (&["bool", "BOOLEAN"][..], "boolean"),
        (&["TINYINT", "tinyint(4)", "TINYINT SIGNED"], "int8"),
        (&["SMALLINT", "int2"], "int16"),
        (&["INT", "INTEGER", "INT4", "MEDIUMINT", "int(11)"], "int32"),
        (&["BIGINT", "INT8", "bigint(20)"], "int64"),
        (&["TINYINT UNSIGNED", "tinyint(3) unsigned"], "uint8"),
        (&["SMALLINT UNSIGNED", "INT2 UNSIGNED"], "uint16"),
        (&["INT UNSIGNED", "INTEGER UNSIGNED", "mediumint unsigned", "int(10) unsigned"], "uint32"),
        (&["BIGINT UNSIGNED", "INT8 UNSIGNED"], "uint64"),
        (&["REAL", "FLOAT", "FLOAT4", "FLOAT(24)"], "float32"),
        (&["DOUBLE", "DOUBLE PRECISION", "FLOAT8", "FLOAT(53)"], "float64"),
        (&["DECIMAL", "NUMERIC", "DEC"], "decimal(38,10)"),
        (&["DECIMAL(10)", "NUMERIC(10,0)"], "decimal(10,0)"),
        (&["DECIMAL(38,38)"], "decimal(38,38)"),
        (&["CHAR", "CHARACTER(1)", "NCHAR"], "char(1)"),
        (&["VARCHAR", "CHARACTER VARYING", "CHAR VARYING", "NVARCHAR"], "varchar"),
        (&["VARCHAR(255)", "CHARACTER VARYING(255)"], "varchar(255)"),
        (&["TEXT", "STRING", "CLOB", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"], "text"),
        (&["BINARY", "BINARY(1)"], "binary(1)"),
        (&["VARBINARY", "BINARY VARYING"], "varbinary"),
        (&["VARBINARY(16)"], "varbinary(16)"),
        (&["BLOB", "BYTEA", "BYTES", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"], "blob"),
        (&["DATE"], "date"),
        (&["TIME", "TIME(6)", "TIME WITHOUT TIME ZONE"], "time"),
        (
            &["TIMESTAMP", "TIMESTAMP(3)", "TIMESTAMP WITHOUT TIME ZONE", "DATETIME", "DATETIME(6)"],
            "timestamp",
        ),
        (
            &["TIMESTAMP WITH TIME ZONE", "TIMESTAMP(6) WITH TIME ZONE", "TIMESTAMPTZ", "TIMESTAMPTZ(0)"],
            "timestamptz",
        ),
        (&["JSON", "JSONB"], "json"),
        (&["UUID"], "uuid"),
        (&["INT[]", "ARRAY<INT>", "ARRAY(INT)", "INT ARRAY"], "list(int32)"),
        (&["INT UNSIGNED[][]", "ARRAY<ARRAY<INT UNSIGNED>>", "ARRAY(INT UNSIGNED[])"], "list(list(uint32))"),
        (&["ARRAY<ARRAY<ARRAY<VARCHAR(3)>>>"], "list(list(list(varchar(3))))"),
        (&["TIMESTAMP WITH TIME ZONE[]"], "list(timestamptz)"),
    ] {
        for text in spellings {
            assert_eq!(parse_column_type(text).unwrap().to_string(), expected, "{text}");
        }
    }
}

#[test]
fn a_type_that_cannot_be_kept_is_refused_by_name() {
    for (text, part) in [
        ("FROB", "column type FROB is unknown"),
        ("VARCHAR(0)", "column type VARCHAR(0) takes a number from 1 to 4294967295"),
        ("VARCHAR(5000000000)", "takes a number from 1 to"),
        ("DECIMAL(39,2)", "column type DECIMAL(39,2) takes 1 to 38 digits"),
        ("DECIMAL(5,6)", "takes 1 to 38 digits"),
        ("DECIMAL(0)", "takes 1 to 38 digits"),
        ("DECIMAL(5,-1)", "expected the digits after the point, found '-'"),
        ("TIMESTAMP(9)", "column type TIMESTAMP(9) takes a number from 0 to 6"),
        ("FLOAT(54)", "takes a number from 1 to 53"),
        ("FLOAT(7,3)", "expected ')' after the number"),
        ("DECIMAL(5,2) UNSIGNED", "DECIMAL(5,2) UNSIGNED is not supported"),
        ("DOUBLE UNSIGNED", "DOUBLE UNSIGNED is not supported"),
        ("INT ZEROFILL", "ZEROFILL is not supported"),
        ("TEXT(100)", "a length of TEXT is not supported"),
        ("TIME WITH TIME ZONE", "TIME WITH TIME ZONE is not supported"),
        ("TIMESTAMP WITH LOCAL TIME ZONE", "WITH LOCAL TIME ZONE is not supported"),
        ("ENUM('a', 'b')", "column type ENUM is not supported"),
        ("SERIAL", "column type SERIAL is not supported"),
        ("STRUCT<a INT>", "column type STRUCT is not supported"),
        ("INT[3]", "expected ']': lists have no fixed length"),
        ("ARRAY", "expected '<' or '(' after ARRAY"),
        ("ARRAY<INT", "expected '>' after the type of the list"),
        ("ARRAY<INT>>", "expected one '>' for each '<' before it"),
        ("INT INT", "expected the end of the statement, found 'INT'"),
        ("", "expected one column type"),
        ("'INT'", "expected a column type, found the string 'INT'"),
        ("DATE(3)", "expected the end of the statement"),
    ] {
        let message = parse_column_type(text).unwrap_err().to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
    let deep = format!("INT{}", "[]".repeat(17));
    assert!(parse_column_type(&deep).unwrap_err().to_string().contains("more than 16 lists"));
}
