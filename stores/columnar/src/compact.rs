//! Joining small neighbouring segments, so that a table written row by row is read as fast as one loaded at once.

use crate::build::{Parts, Prepared, all_segments, build};
use crate::rows;
use crate::sink::{Piece, SegmentSink, Target};
use crate::version::{PAGE_SEGMENTS, VersionFile};
use crate::{Result, fault, names};
use keepfast_format::{SegmentEntry, WriterProfile};
use keepfast_model::Digest;

/// Small segments at the end of a table after which the next write joins them.
const LAST_MOST: usize = 16;

/// Whether a segment is so small that joining it with its neighbour is worth the work.
fn is_small(target: &Target, segment: &SegmentEntry) -> bool {
    segment.rows < u64::from(target.target_rows) / 4
}

/// Joins the small segments at the end of a bag, once there are many: rows appended one by one make a segment each.
pub(crate) async fn join_last(
    target: &Target,
    profile: Option<&WriterProfile>,
    mut pieces: Vec<Piece>,
) -> Result<Vec<Piece>> {
    let at = pieces.iter().rposition(|p| matches!(p, Piece::Page(_)));
    if let Some(at) = at
        && let Piece::Page(page) = &pieces[at]
        && (page.segments as usize) < PAGE_SEGMENTS
    {
        let segments = target.shared.page(&target.table, page).await?;
        pieces.splice(at..=at, segments.iter().cloned().map(Piece::Kept));
    }
    let small = pieces
        .iter()
        .rev()
        .take_while(|p| match p {
            Piece::Page(_) => false,
            Piece::Kept(s) | Piece::New(s) => is_small(target, s),
        })
        .count();
    if small < LAST_MOST {
        return Ok(pieces);
    }
    let joined: Vec<SegmentEntry> = pieces
        .split_off(pieces.len() - small)
        .into_iter()
        .filter_map(|p| match p {
            Piece::Kept(s) | Piece::New(s) => Some(s),
            Piece::Page(_) => None,
        })
        .collect();
    let mut sink = SegmentSink::new(target.clone(), profile.cloned());
    rewrite(target, &joined, &mut sink).await?;
    pieces.extend(sink.finish().await?);
    Ok(pieces)
}

/// The version after `on` with the same rows in fewer segments; none where nothing is worth joining.
pub(crate) async fn compact(target: &Target, on: &VersionFile, on_file: &str) -> Result<Option<Prepared>> {
    let segments = all_segments(&target.shared, on).await?;
    let mut sink = SegmentSink::new(target.clone(), on.profile.clone());
    let mut joined = false;
    let mut at = 0;
    while at < segments.len() {
        let stretch = segments[at..].iter().take_while(|s| is_small(target, s)).count();
        let rows: u64 = segments[at..at + stretch].iter().map(|s| s.rows).sum();
        // Segments that end where their rows say are small by chance; then there are few of them in a row.
        if stretch >= 2 && rows / (stretch as u64) < u64::from(target.target_rows) / 16 {
            // The segment after them may have been cut short by its writer too.
            let end = (at + stretch + 1).min(segments.len());
            rewrite(target, &segments[at..end], &mut sink).await?;
            sink.end_segment().await?;
            joined = true;
            at = end;
        } else {
            let end = at + stretch.max(1);
            segments[at..end].iter().for_each(|s| sink.keep(Piece::Kept(s.clone())));
            at = end;
        }
    }
    if !joined {
        return Ok(None);
    }
    let pieces = sink.finish().await?;
    let written = pieces.iter().filter(|p| matches!(p, Piece::New(_))).count();
    let kept = pieces.len() - written;
    if written >= segments.len() - kept {
        // The same ends again; what was written is swept.
        return Ok(None);
    }
    let parts = Parts {
        pieces,
        profile: sink.profile().cloned(),
        added: Digest::default(),
        removed: Digest::default(),
        op: "compact".into(),
    };
    build(target, on, Some(on_file), parts).await.map(Some)
}

/// Reads segments and writes their rows anew.
///
/// # Errors
/// `Damaged` when the rows read are not those whose digest was recorded.
async fn rewrite(target: &Target, segments: &[SegmentEntry], sink: &mut SegmentSink) -> Result<()> {
    for segment in segments {
        let batches =
            rows::read(&target.shared, &target.table, &target.schema, segment, None, rows::BATCH_ROWS)
                .await?;
        let hasher = keepfast_model::RowHasher::new(&target.schema);
        let (digest, batches) = target
            .shared
            .compute(move || {
                let mut digest = Digest::default();
                for batch in &batches {
                    digest = digest.merge(hasher.digest(batch)?);
                }
                Ok((digest, batches))
            })
            .await?;
        if digest != segment.digest {
            let name = names::segment(&target.table, &segment.file_name());
            return Err(fault::damaged(
                target.shared.place.full(&name),
                format!("its rows make {digest}, and {} was recorded", segment.digest),
            ));
        }
        for batch in batches {
            sink.push(batch).await?;
        }
    }
    Ok(())
}
