//! From the parts of a new version to its pages and its file.

use crate::names::WriterId;
use crate::shared::Shared;
use crate::sink::{Piece, Target};
use crate::version::{ChangeNote, PAGE_SEGMENTS, PageRef, VersionFile};
use crate::{Result, fault, names};
use futures::stream::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use keepfast_format::{Manifest, ManifestKind, SegmentEntry, WriterProfile};
use keepfast_model::{Digest, TableId, TableSchema};
use std::sync::Arc;

/// Pages with fewer segments are joined with their neighbour.
const PAGE_SMALL: usize = PAGE_SEGMENTS / 4;

/// A version whose objects are written, and that no catalog entry names yet.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub file_name: String,
    pub file: Arc<VersionFile>,
}

/// What a new version is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub pieces: Vec<Piece>,
    pub profile: Option<WriterProfile>,
    /// Rows that came in and went out.
    pub added: Digest,
    pub removed: Digest,
    pub op: String,
}

/// Writes the pages and the file of the version after `on`.
///
/// # Errors
/// `Damaged` when the digest kept from the rows given is not that of the new segments.
pub(crate) async fn build(
    target: &Target,
    on: &VersionFile,
    on_file: Option<&str>,
    parts: Parts,
) -> Result<Prepared> {
    let digest = on.digest.without(parts.removed).merge(parts.added);
    let mut kept = 0;
    let mut new = 0;
    for piece in &parts.pieces {
        match piece {
            Piece::Page(page) => kept += u64::from(page.segments),
            Piece::Kept(_) => kept += 1,
            Piece::New(_) => new += 1,
        }
    }
    let profile = parts.profile.or_else(|| on.profile.clone());
    let pages = match &profile {
        None => vec![],
        Some(profile) => write_pages(target, profile, parts.pieces).await?,
    };
    let sum = pages.iter().fold(Digest::default(), |d, p| d.merge(p.digest));
    if sum != digest {
        return Err(fault::damaged(
            target.shared.place.full(&names::table(&target.table)),
            format!("its segments hold {sum}, and the rows written to it make {digest}"),
        ));
    }
    let file = VersionFile {
        format: crate::place::FORMAT,
        table: target.table.clone(),
        version: on.version + 1,
        parent: on_file.map(str::to_owned),
        writer: target.writer.clone(),
        at: Timestamp::now(),
        epoch: target.epoch,
        schema: target.schema.as_ref().clone(),
        target_rows: target.target_rows,
        profile,
        digest,
        bytes: pages.iter().map(|p| p.bytes).sum(),
        pages,
        change: ChangeNote {
            op: parts.op,
            rows_in: parts.added.rows,
            rows_out: parts.removed.rows,
            segments_in: new,
            segments_out: on.segments().saturating_sub(kept),
        },
    };
    let file_name = target.shared.put_version(&file).await?;
    Ok(Prepared { file_name, file: Arc::new(file) })
}

/// The state of a table before its first version: nothing in it.
pub(crate) fn nothing(table: &TableId, schema: &TableSchema, target_rows: u32) -> VersionFile {
    VersionFile {
        format: crate::place::FORMAT,
        table: table.clone(),
        version: 0,
        parent: None,
        writer: WriterId(String::new()),
        at: Timestamp::UNIX_EPOCH,
        epoch: 0,
        schema: schema.clone(),
        target_rows,
        profile: None,
        digest: Digest::default(),
        bytes: keepfast_model::ByteCount(0),
        pages: vec![],
        change: ChangeNote::default(),
    }
}

enum Group {
    Page(PageRef),
    Segments(Vec<SegmentEntry>),
}

async fn write_pages(target: &Target, profile: &WriterProfile, pieces: Vec<Piece>) -> Result<Vec<PageRef>> {
    let mut groups: Vec<Group> = vec![];
    for piece in pieces {
        match piece {
            Piece::Page(page) => {
                // A handful of loose segments goes into the page after them.
                let fits = |n: usize| n < PAGE_SMALL && n + page.segments as usize <= PAGE_SEGMENTS;
                match groups.last_mut() {
                    Some(Group::Segments(loose)) if fits(loose.len()) => {
                        loose.extend(load(target, &page).await?);
                    }
                    _ => groups.push(Group::Page(page)),
                }
            }
            Piece::Kept(segment) | Piece::New(segment) => match groups.last_mut() {
                Some(Group::Segments(loose)) => loose.push(segment),
                _ => groups.push(Group::Segments(vec![segment])),
            },
        }
    }
    // And at the end into the page before them.
    if let [.., Group::Page(page), Group::Segments(loose)] = groups.as_slice()
        && loose.len() < PAGE_SMALL
        && loose.len() + page.segments as usize <= PAGE_SEGMENTS
    {
        let mut joined = load(target, page).await?;
        joined.extend(loose.iter().cloned());
        groups.truncate(groups.len() - 2);
        groups.push(Group::Segments(joined));
    }
    let mut ready = vec![];
    for group in groups {
        match group {
            Group::Page(page) => ready.push(Err(page)),
            Group::Segments(loose) => {
                let pages = loose.len().div_ceil(PAGE_SEGMENTS);
                let each = loose.len().div_ceil(pages.max(1));
                ready.extend(loose.chunks(each.max(1)).map(|segments| Ok(segments.to_vec())));
            }
        }
    }
    futures::stream::iter(ready)
        .map(|page| async move {
            match page {
                Err(page) => Ok(page),
                Ok(segments) => write_page(target, profile, segments).await,
            }
        })
        .buffered(4)
        .try_collect()
        .await
}

async fn write_page(
    target: &Target,
    profile: &WriterProfile,
    segments: Vec<SegmentEntry>,
) -> Result<PageRef> {
    let manifest = Manifest {
        format: crate::place::FORMAT,
        kind: ManifestKind::Segments,
        table: target.table.clone(),
        schema: target.schema.as_ref().clone(),
        profile: profile.clone(),
        salt: None,
        parity: None,
        segments,
    };
    target.shared.put_page(&target.writer, manifest).await
}

async fn load(target: &Target, page: &PageRef) -> Result<Vec<SegmentEntry>> {
    Ok(target.shared.page(&target.table, page).await?.as_ref().clone())
}

/// All segments of a version, in order.
pub(crate) async fn all_segments(shared: &Shared, version: &VersionFile) -> Result<Vec<SegmentEntry>> {
    let mut all = Vec::with_capacity(version.segments() as usize);
    for page in &version.pages {
        all.extend(shared.page(&version.table, page).await?.iter().cloned());
    }
    Ok(all)
}
