//! Healing of key files.
//!
//! Copies of a vault may be for other recipients, so a key file that somebody must open is healed from its other copy at the same
//! place first: it alone is certain to be for the same ones. Only a file that the given credentials open, and whose code is of the
//! vault key, is ever put anywhere. Nothing here needs the log to be authenticated, since that needs the keys.

use super::{HealedBy, Round};
use crate::Result;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::log::read_all;
use bytes::Bytes;
use keepfast_keys::Keyring;
use keepfast_model::Hash256;
use keepfast_objects::Target;
use std::collections::BTreeMap;

impl Round<'_> {
    pub(super) async fn heal_keys(&mut self) -> Result<()> {
        let lines = read_all(self.vault).await?.lines;
        let recorded: BTreeMap<u64, Hash256> = lines.iter().flat_map(|line| line.keys()).collect();
        // Those between were deleted on purpose: whoever was removed may open them.
        let newest = recorded.last_key_value().map(|(generation, _)| *generation);
        let counts = |generation: u64| generation == FIRST_GENERATION || Some(generation) == newest;
        for (generation, named) in recorded.into_iter().filter(|(g, _)| counts(*g)) {
            let names = keys::names(generation);
            if generation == FIRST_GENERATION {
                self.heal_copies(names, named).await?;
            } else if names.iter().any(|name| self.damaged.contains_key(name)) {
                self.heal_opened(names, generation, named).await;
            }
        }
        Ok(())
    }

    async fn heal_opened(&mut self, names: [String; 2], generation: u64, named: Hash256) {
        let here = self.openable(self.vault.target(), generation, named).await;
        let source = match here.as_slice() {
            [first, other] if first != other => {
                return self.refuse_all(&names, "both copies of it are whole, and are for other recipients");
            }
            [first, ..] => Some((first.clone(), HealedBy::Copy)),
            [] if self.has_own_recipients(&names).await => {
                let why =
                    "it was for recipients of this copy alone: copy the vault here again, and name them";
                return self.refuse_all(&names, why);
            }
            [] => match self.from {
                Some(from) => {
                    let found = self.openable(from, generation, named).await.into_iter().next();
                    found.map(|bytes| (bytes, HealedBy::Vault(from.url().to_owned())))
                }
                None => None,
            },
        };
        let Some((bytes, by)) = source else {
            return self.refuse_all(&names, "no copy of it is whole");
        };
        for name in names {
            if self.damaged.contains_key(&name) {
                self.replace(name, bytes.clone(), by.clone()).await;
            }
        }
    }

    /// The copies of a key file at a place that the credentials open.
    async fn openable(&self, target: &Target, generation: u64, named: Hash256) -> Vec<Bytes> {
        let (owner, credentials) = (&self.vault.id().0, &self.vault.environment().credentials);
        let open = |keys: &Keys| Keyring::open(&keys.file, owner, credentials).is_ok();
        let both = Keys::read_both(target, generation, named).await;
        both.into_iter().flatten().filter(open).map(|keys| keys.bytes).collect()
    }

    /// Whether what is left of a key file says that it is a copy's own.
    async fn has_own_recipients(&self, names: &[String; 2]) -> bool {
        const MARK: &[u8] = b",\"copy\":true,";
        for name in names {
            if let Ok(bytes) = self.vault.target().get(name).await
                && bytes.windows(MARK.len()).any(|w| w == MARK)
            {
                return true;
            }
        }
        false
    }

    fn refuse_all(&mut self, names: &[String; 2], why: &str) {
        for name in names.iter().filter(|name| self.damaged.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            self.refuse(&name, why);
        }
    }
}
