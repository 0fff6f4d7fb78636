//! A backup that a drop overtakes: what is made after the drop is of after the drop.

use super::world::{Newest, World};
use keepfast_engine::api::Mode;
use keepfast_engine::{Cancel, Engine, EngineError, ProcessId, Processes};
use keepfast_objects::faulty::Script;
use std::sync::atomic::{AtomicBool, Ordering};

/// A rival drops the backup right after this process has opened its cut, and then it is asked to stop.
struct Overtaken {
    newest: Newest,
    rival: Engine,
    cancel: Cancel,
    over: AtomicBool,
}

impl std::fmt::Debug for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overtaken")
    }
}

impl Processes for Overtaken {
    /// A run asks this when its cut is open, to write it into its plan.
    fn this(&self) -> ProcessId {
        if !self.over.swap(true, Ordering::SeqCst) {
            let engine = self.rival.clone();
            let drops = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(engine.drop_backup("x")).unwrap();
            };
            std::thread::spawn(drops).join().unwrap();
            self.cancel.cancel();
        }
        self.newest.this()
    }

    fn may_run(&self, process: &ProcessId) -> bool {
        self.newest.may_run(process)
    }
}

#[tokio::test]
async fn a_cut_from_before_a_drop_is_not_gone_on_with_also_where_the_drop_came_before_the_plan() {
    let world = World::new();
    let running = world.sound();
    running.create("t").await.unwrap();
    let rows: Vec<_> = (0..300).map(|i| (i, format!("before {i}"))).collect();
    running.write("t", &rows, &[]).await.unwrap();
    running.backup("x", &["t"], Mode::Full).await.unwrap();
    let (cancel, rival) = (Cancel::default(), world.sound().engine);
    let overtaken = world.start_as(Script::none(), cancel.clone(), |newest| Overtaken {
        newest,
        rival,
        cancel,
        over: AtomicBool::new(false),
    });
    let stopped = overtaken.backup("x", &["t"], Mode::Full).await.unwrap_err();
    assert!(matches!(stopped, EngineError::Interrupted), "{stopped}");
    assert!(overtaken.points().await.is_empty(), "it was dropped");
    let running = world.sound();
    running.write("t", &[(1, "after".into())], &[2]).await.unwrap();
    running.backup("x", &["t"], Mode::Full).await.unwrap();
    running.restore("x", &["t"], "_back").await.unwrap();
    assert_eq!(running.live("t_back").await, running.live("t").await);
}
