//! Checking the key files that the log names.
//!
//! A record names what every copy of the vault has of a key file, and its code binds its recipients to that. So with the keys open a
//! recipient that was left out, put in or changed is found; and both copies of a file must have the same.

use super::{CheckReport, Damage, DamageKind, Touched, unreadable};
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::{self, FIRST_GENERATION, Keys};
use crate::log::Log;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use keepfast_model::Hash256;

impl Vault {
    pub(super) async fn check_keys(&self, log: &Log, report: &mut CheckReport) -> Result<()> {
        let recorded = log.keys();
        // Before the first commit no record names the first generation.
        let unrecorded = recorded.is_empty().then_some((FIRST_GENERATION, None));
        let first = recorded.get(&FIRST_GENERATION).map(|named| (FIRST_GENERATION, Some(*named)));
        if let Some((generation, named)) = first.or(unrecorded) {
            let name = layout::key_file(generation);
            if let Err(what) = self.checked_keys(&name, generation, named, report).await? {
                report.damage.push(Touched::all(log).damage(self.target().full(&name), what));
            }
        }
        let mut log = log.clone();
        loop {
            let damage = self.check_newest_keys(&log, report).await?;
            if damage.is_empty() {
                return Ok(());
            }
            // A change of keys meanwhile deletes the files before it; those that the log names by then count.
            match self.log().await {
                Ok(fresh) if fresh.keys().last_key_value() > log.keys().last_key_value() => log = fresh,
                _ => {
                    report.damage.extend(damage);
                    return Ok(());
                }
            }
        }
    }

    /// Both copies of the key file that the log names last. Those between it and the first are deleted once it stands.
    async fn check_newest_keys(&self, log: &Log, report: &mut CheckReport) -> Result<Vec<Damage>> {
        let newest = log.keys().last_key_value().filter(|(g, _)| **g > FIRST_GENERATION);
        let Some((generation, named)) = newest.map(|(g, named)| (*g, Some(*named))) else {
            return Ok(vec![]);
        };
        let names = keys::names(generation);
        let (mut whole, mut damage) = (vec![], vec![]);
        for name in &names {
            match self.checked_keys(name, generation, named, report).await? {
                Ok(bytes) => whole.push(bytes),
                Err(what) => damage.push(Touched::all(log).damage(self.target().full(name), what)),
            }
        }
        if whole.windows(2).any(|both| both[0] != both[1]) {
            for name in &names {
                let detail = "it and its other copy are both whole, and are for other recipients".to_owned();
                let what = DamageKind::Changed { detail };
                damage.push(Touched::all(log).damage(self.target().full(name), what));
            }
        }
        Ok(damage)
    }

    /// The bytes of a key file, or how it is damaged.
    async fn checked_keys(
        &self,
        name: &str,
        generation: u64,
        named: Option<Hash256>,
        report: &mut CheckReport,
    ) -> Result<Result<Bytes, DamageKind>> {
        let changed = |detail: &str| Ok(Err(DamageKind::Changed { detail: detail.to_owned() }));
        let bytes = match self.target().get(name).await {
            Ok(bytes) => bytes,
            Err(e) => return unreadable(e).map(Err),
        };
        report.objects += 1;
        report.bytes += bytes.len() as u64;
        let keys = match Keys::decode(&self.target().full(name), generation, &bytes) {
            Ok(keys) => keys,
            Err(VaultError::Damaged { reason, .. }) => return changed(&reason),
            Err(e) => return Err(e),
        };
        if named.is_some_and(|named| named != keys.named) {
            return changed("it is not the key file that the log names");
        }
        match self.key_state() {
            KeyState::Open(keyring)
                if generation == keyring.generation() && !keyring.has_made(&keys.file) =>
            {
                changed("its recipients are not those that somebody with the vault's keys gave it")
            }
            _ => Ok(Ok(bytes)),
        }
    }
}
