//! A footer that states more than it holds is an error, and takes no memory.

mod support;

use bytes::Bytes;
use keepfast_format::{WriterProfile, footer_fault, page_length, read_segment};
use keepfast_model::{ColumnType, ShardId};
use support::*;

/// A file with this footer and no rows.
fn framed(footer: &[u8]) -> Vec<u8> {
    [b"PAR1", footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// A footer up to its list of row groups: version 1, a schema of one root, no rows.
const BEFORE_ROW_GROUPS: &[u8] = &[0x15, 0x02, 0x19, 0x1c, 0x48, 0x01, b'r', 0x15, 0x00, 0x00, 0x16, 0x00];

#[test]
fn a_footer_that_states_more_row_groups_than_memory_holds_is_an_error() {
    let schema = schema_of(vec![(ColumnType::Int32, true)]);
    for largest in [&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0xff, 0xff, 0xff, 0x7f], &[0x80, 0x80, 0x04]] {
        let footer = [BEFORE_ROW_GROUPS, &[0x19, 0xfc], largest, &[0x00; 20]].concat();
        let file = framed(&footer);
        assert!(footer_fault(&file).is_some_and(|why| why.contains("more entries")), "{largest:?}");
        let error = read_segment(Bytes::from(file), &schema, None, 16).unwrap_err();
        assert!(error.to_string().contains("more entries"), "{error}");
    }
}

/// A footer with these elements in its schema: the bytes of each, without its end.
fn with_schema(elements: &[&[u8]]) -> Vec<u8> {
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    let mut length = elements.len();
    while length > 0x7f {
        footer.push(length as u8 | 0x80);
        length >>= 7;
    }
    footer.push(length as u8);
    elements.iter().for_each(|element| footer.extend([element, &[0][..]].concat()));
    footer.extend([0x16, 0x00, 0x19, 0x0c, 0x00]);
    framed(&footer)
}

#[test]
fn a_schema_that_states_more_children_than_it_has_or_nests_them_without_end_is_an_error() {
    let schema = schema_of(vec![(ColumnType::Int32, true)]);
    let refused = |file: Vec<u8>, reason: &str| {
        assert_eq!(footer_fault(&file), Some(reason));
        let error = read_segment(Bytes::from(file), &schema, None, 16).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    };
    let more = "its schema states more elements than there are";
    // Two thousand million children, as the decoder would make room for them; one less than none; one too many.
    refused(with_schema(&[&[0x48, 1, b'r', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f]]), more);
    refused(with_schema(&[&[0x48, 1, b'r', 0x15, 0x01]]), more);
    refused(with_schema(&[&[0x48, 1, b'r', 0x15, 0x04], &[0x15, 0x02, 0x25, 0x00, 0x18, 1, b'a']]), more);
    // Each the only child of the one before.
    let only: &[u8] = &[0x35, 0x00, 0x18, 1, b'g', 0x15, 0x02];
    let leaf: &[u8] = &[0x15, 0x02, 0x25, 0x00, 0x18, 1, b'a'];
    let chain = |groups: usize| with_schema(&[vec![only; groups], vec![leaf]].concat());
    refused(chain(20_000), "its schema is nested too deep");
    assert_eq!(footer_fault(&chain(100)), None);
    // A list by another kind: the decoder would read it as a list all the same.
    let hidden = [BEFORE_ROW_GROUPS, &[0x15, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00]].concat();
    refused(framed(&hidden), "a field of its metadata is of another kind");
    // And one inside what claims to be bytes.
    let hidden = [&[0x18, 0x08, 0x39, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00][..], &[0x00; 8]].concat();
    refused(framed(&hidden), "a field of its metadata is of another kind");
}

#[test]
fn footers_nested_without_end_or_cut_off_are_errors_and_real_ones_are_not() {
    let nested = [vec![0xac], vec![0x1c; 10_000], vec![0; 10_002]].concat();
    assert_eq!(footer_fault(&framed(&nested)), Some("its metadata is nested too deep"));
    assert_eq!(footer_fault(&framed(&[0x15])), Some("its metadata is cut off"));
    assert_eq!(footer_fault(&framed(&[0x15, 0xff, 0xff])), Some("its metadata is cut off"));
    assert_eq!(footer_fault(b"short"), None);
    let schema = schema_of(all_types().into_iter().map(|t| (t, true)).collect());
    let writer = writer(&schema, &WriterProfile::choose(&schema, &[], 8));
    let rows = vec![vec![Value::Null; schema.columns.len()]; 3];
    let chunk = chunk(&schema, vec![batch(&schema.physical(), &rows)]);
    let id = writer.identity(&chunk).unwrap();
    let bytes = writer.encode(id, &ShardId("0".into()), &chunk).unwrap().bytes;
    assert_eq!(footer_fault(&bytes), None);
}

/// A data page of 7 bytes, whose header's own structure holds these bytes.
fn page(inside: &[u8]) -> Vec<u8> {
    [&[0x15, 0x00, 0x15, 0x0e, 0x15, 0x0e, 0x2c][..], inside, &[0x00, 0x00], &[0xaa; 7]].concat()
}

#[test]
fn a_page_is_as_long_as_its_header_says_and_one_with_fields_of_other_kinds_has_no_length() {
    // Values, three encodings, statistics: a greatest value of three bytes, and how many nulls.
    let header =
        [0x15, 0x04, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x1c, 0x18, 3, b'a', b'b', b'c', 0x26, 0x00, 0x00];
    let whole = page(&header);
    assert_eq!(page_length(&whole), Ok(Some(whole.len() as u64)));
    let ends = whole.len() - 7;
    assert_eq!(page_length(&whole[..ends]), Ok(Some(whole.len() as u64)));
    assert!((0..ends).all(|cut| page_length(&whole[..cut]) == Ok(None)));
    let refused =
        |page: &[u8]| assert_eq!(page_length(page), Err("a field of its metadata is of another kind"));
    // Where the number of values stands, a list; where a number of the header stands, one of 2^31 nothings.
    refused(&page(&[0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]));
    refused(&[0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00]);
    // A known field by a number that stands apart, which a decoder may not look for.
    refused(&[0x05, 0x02, 0x00, 0x00]);
    assert!(page_length(&page(&[0xf9, 0x11])).is_err(), "booleans in a list of a field that nobody knows");
    assert!(page_length(&[0x00]).is_err(), "no length");
    // Bytes before compression: 1 GiB and a little, and the most that a header can state.
    assert_eq!(page_length(&[0x15, 0, 0x15, 0x80, 0x80, 0x80, 0x88, 0x08, 0x15, 2, 0]), Ok(Some(12)));
    assert_eq!(
        page_length(&[0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 2, 0]),
        Err("a page states more values than a page can hold")
    );
    assert!(page_length(&[0x15, 0, 0x15, 0x01, 0x15, 2, 0]).is_err(), "fewer bytes than none");
}
