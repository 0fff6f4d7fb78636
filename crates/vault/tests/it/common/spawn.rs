//! Every call of a vault can be spawned: this compiles, or it does not.

use keepfast_format::{EncodedSegment, Manifest, SegmentEntry};
use keepfast_model::*;
use keepfast_objects::Target;
use keepfast_vault::*;

fn spawnable<T: Send>(_: T) {}

pub fn all_calls_can_be_spawned(
    vault: &Vault,
    target: &Target,
    backup: &BackupName,
    (table, id, run): (&TablePoint, &TableId, &RunId),
    (segment, entry, manifest): (&EncodedSegment, &SegmentEntry, &Manifest),
) {
    spawnable(Vault::create(target.clone(), &CreateOptions::default()));
    spawnable(Vault::open(target.clone()));
    spawnable(Vault::open_or_create(target.clone()));
    spawnable(Vault::check_place(target.clone(), Environment::default(), &CheckOptions::default(), &()));
    spawnable(vault.log());
    spawnable(vault.resolve(backup, AsOf::Latest));
    spawnable(vault.commit(vec![], &[], &()));
    spawnable(vault.put_segment(id, segment));
    spawnable(vault.put_change_segment(id, segment));
    spawnable(vault.put_manifest(manifest, &Default::default()));
    spawnable(vault.read_manifest(&table.base[0]));
    spawnable(vault.read_manifests(table));
    spawnable(vault.read_segment(id, entry));
    spawnable(vault.read_change_segment(id, entry));
    spawnable(vault.drop_backup(backup, jiff::SignedDuration::ZERO));
    spawnable(vault.hold(backup, None, None, ""));
    spawnable(vault.release(""));
    spawnable(vault.delete_condemned());
    spawnable(async { vault.prune(&vault.plan_prune(&PruneOptions::default()).await?).await });
    spawnable(vault.under_hold(vec![], "", HoldTerms::default(), async {}));
    spawnable(vault.put_task_result(run, 0, &1));
    spawnable(vault.task_results::<u8>(run));
    spawnable(vault.put_plan(run, &1));
    spawnable(vault.plan::<u8>(run));
    spawnable(vault.sweep_run(run));
    spawnable(vault.sweep_staging(std::time::Duration::ZERO));
    spawnable(vault.check(&CheckOptions::default(), &()));
    spawnable(vault.project_delta(table, &[]));
    spawnable(vault.rebuild_projection(table, &[]));
    spawnable(target.list(""));
    spawnable(target.put_content("", bytes::Bytes::new()));
    spawnable(target.put_new("", bytes::Bytes::new()));
    spawnable(target.hash(""));
    spawnable(target.probe(""));
}
