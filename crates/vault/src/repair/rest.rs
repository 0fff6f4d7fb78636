//! Healing of what follows from the rest of the vault: Delta logs, and checkpoints of the log.

use super::{HealedBy, Round};
use crate::check::Newest;
use crate::layout;
use crate::log::Log;
use keepfast_model::TableId;
use std::collections::BTreeMap;

impl Round<'_> {
    /// Writes damaged Delta logs anew.
    pub(super) async fn heal_projections(&mut self, log: &Log) {
        let mut tables: BTreeMap<TableId, Vec<String>> = BTreeMap::new();
        for name in self.damaged.keys().filter(|name| layout::is_delta(name)) {
            if let Some(id) = layout::table_of(name) {
                tables.entry(TableId(id.to_owned())).or_default().push(name.clone());
            }
        }
        for (id, names) in tables {
            let rebuilt = match Newest::of(log, &id) {
                Some(newest) => match self.vault.read_manifests(newest.table()).await {
                    Ok(manifests) => {
                        self.vault.rebuild_projection(newest.table(), &manifests.base).await.map(|_| ())
                    }
                    Err(e) => Err(e),
                },
                None => self.vault.remove_projection(&id).await,
            };
            for name in names {
                match &rebuilt {
                    Ok(()) => drop(self.healed.insert(name, HealedBy::Base)),
                    Err(e) => self.refuse(&name, &e.to_string()),
                }
            }
        }
    }

    /// Deletes damaged checkpoints, and writes one anew if one is due.
    pub(super) async fn heal_checkpoints(&mut self, log: &Log) {
        let damaged = self.damaged.keys().filter(|name| layout::checkpoint_of(name).is_some());
        let mut deleted = false;
        for name in damaged.cloned().collect::<Vec<_>>() {
            match self.vault.target().delete(&name).await {
                Ok(()) => drop(self.healed.insert(name, HealedBy::Log)),
                Err(e) => self.refuse(&name, &format!("it could not be deleted: {e}")),
            }
            deleted = true;
        }
        if deleted {
            self.vault.checkpoint_if_due(log).await;
        }
    }
}
