//! The kinds of the fields that Parquet's metadata has, after the format's `parquet.thrift`.

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Bytes,
    List(&'static Shape),
    /// A structure or union: its fields from number 1 on.
    Fields(&'static [Shape]),
    /// A number that no field has yet.
    Free,
}

use Shape::{Bool, Byte, Bytes, Double, Fields, Free, I16, I32, I64, List};

const EMPTY: Shape = Fields(&[]);
const TIME: Shape = Fields(&[Bool, Fields(&[EMPTY; 3])]);

const LOGICAL_TYPE: Shape = Fields(&[
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Fields(&[I32, I32]),
    EMPTY,
    TIME,
    TIME,
    Free,
    Fields(&[Byte, Bool]),
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Fields(&[Byte]),
    Fields(&[Bytes]),
    Fields(&[Bytes, I32]),
]);

pub(super) const SCHEMA_ELEMENT: &[Shape] = &[I32, I32, I32, Bytes, I32, I32, I32, I32, I32, LOGICAL_TYPE];

const KEY_VALUE: Shape = Fields(&[Bytes, Bytes]);
const STATISTICS: Shape = Fields(&[Bytes, Bytes, I64, I64, Bytes, Bytes, Bool, Bool]);
const SIZE_STATISTICS: Shape = Fields(&[I64, List(&I64), List(&I64)]);
const GEOSPATIAL_STATISTICS: Shape = Fields(&[Fields(&[Double; 8]), List(&I32)]);

const COLUMN_METADATA: Shape = Fields(&[
    I32,
    List(&I32),
    List(&Bytes),
    I32,
    I64,
    I64,
    I64,
    List(&KEY_VALUE),
    I64,
    I64,
    I64,
    STATISTICS,
    List(&Fields(&[I32, I32, I32])),
    I64,
    I32,
    SIZE_STATISTICS,
    GEOSPATIAL_STATISTICS,
]);

const COLUMN_CRYPTO: Shape = Fields(&[EMPTY, Fields(&[List(&Bytes), Bytes])]);
const COLUMN_CHUNK: Shape = Fields(&[Bytes, I64, COLUMN_METADATA, I64, I32, I64, I32, COLUMN_CRYPTO, Bytes]);
const SORTING_COLUMN: Shape = Fields(&[I32, Bool, Bool]);
const ROW_GROUP: Shape = Fields(&[List(&COLUMN_CHUNK), I64, I64, List(&SORTING_COLUMN), I64, I64, I16]);
const ENCRYPTION: Shape = Fields(&[Fields(&[Bytes, Bytes, Bool]), Fields(&[Bytes, Bytes, Bool])]);

/// The footer.
pub(super) const FILE: &[Shape] = &[
    I32,
    List(&Fields(SCHEMA_ELEMENT)),
    I64,
    List(&ROW_GROUP),
    List(&KEY_VALUE),
    Bytes,
    List(&Fields(&[EMPTY])),
    ENCRYPTION,
    Bytes,
];

/// What stands before an encrypted footer.
pub(super) const FILE_CRYPTO: &[Shape] = &[ENCRYPTION, Bytes];

/// A page's header.
pub(super) const PAGE: &[Shape] = &[
    I32,
    I32,
    I32,
    I32,
    Fields(&[I32, I32, I32, I32, STATISTICS]),
    EMPTY,
    Fields(&[I32, I32, Bool]),
    Fields(&[I32, I32, I32, I32, I32, I32, Bool, STATISTICS]),
];
