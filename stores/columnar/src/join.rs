//! Segments of several parts brought into one key order.

use crate::sink::{Piece, SegmentSink, Target};
use crate::stage::Op;
use crate::walk::Walk;
use crate::{Result, apply, build, rows};
use keepfast_format::{SegmentEntry, WriterProfile};

/// The segments in key order. Those whose keys overlap are merged into new ones.
///
/// Parts whose rows come in key order have disjoint, ascending keys, and then nothing is read.
///
/// # Errors
/// `Row` when two parts have one key.
pub(crate) async fn in_key_order(
    target: &Target,
    mut segments: Vec<SegmentEntry>,
    profile: Option<&WriterProfile>,
) -> Result<Vec<Piece>> {
    segments.sort_by(|a, b| a.min.cmp(&b.min).then_with(|| a.max.cmp(&b.max)));
    // What lies beside what came before it stays; what overlaps goes through a sort, as rows inserted among the rest.
    let mut stay: Vec<SegmentEntry> = vec![];
    let mut overlap: Vec<SegmentEntry> = vec![];
    for segment in segments {
        match stay.last() {
            Some(last) if last.max >= segment.min => overlap.push(segment),
            _ => stay.push(segment),
        }
    }
    if overlap.is_empty() {
        return Ok(stay.into_iter().map(Piece::New).collect());
    }
    let mut inserts = target.shared.staging(&target.schema);
    for segment in &overlap {
        let batches =
            rows::read(&target.shared, &target.table, &target.schema, segment, None, rows::BATCH_ROWS)
                .await?;
        for batch in batches {
            inserts.add(Op::Insert, batch)?;
        }
    }
    let nothing = build::nothing(&target.table, &target.schema, target.target_rows);
    let walk = Walk::new(target.shared.clone(), &nothing, stay);
    let mut sink = SegmentSink::new(target.clone(), profile.cloned());
    let applied = apply::apply(target, walk, &mut inserts, &mut sink).await?;
    Ok(applied.pieces)
}
