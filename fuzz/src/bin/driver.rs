//! libFuzzer around one target of `keepfast-fuzz`; start it with `cargo xtask fuzz`.
//!
//! The target is named by the variable `KEEPFAST_FUZZ`. With `KEEPFAST_FUZZ_SEEDS` set to a folder, the target's seeds
//! are written there first.

#![no_main]

use cap::Cap;
use keepfast_fuzz::Target;
use std::alloc::System;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// More than a target may take is an allocation that fails, and so an abort that the fuzzer reports.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("KEEPFAST_FUZZ").unwrap_or_default();
    let Some(target) = keepfast_fuzz::target(&name) else {
        let known: Vec<_> = keepfast_fuzz::TARGETS.iter().map(|t| t.name).collect();
        eprintln!("set KEEPFAST_FUZZ to one of {}", known.join(", "));
        std::process::exit(2);
    };
    target
});

thread_local! {
    /// What the last panic said.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

libfuzzer_sys::fuzz_target!(init: {
    LazyLock::force(&TARGET);
    if let Some(folder) = std::env::var_os("KEEPFAST_FUZZ_SEEDS") {
        for (i, seed) in (TARGET.seeds)().iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{i}"));
            std::fs::write(path, seed).expect("a folder for seeds");
        }
    }
    // Readers catch what their decoders assert. The fuzzer's own hook would end the process before they can.
    std::panic::set_hook(Box::new(|info| LAST.with_borrow_mut(|last| *last = info.to_string())));
}, |data: &[u8]| {
    let target = *TARGET;
    let limit = MEMORY.allocated() + target.memory(data.len());
    MEMORY.set_limit(limit).expect("more than is allocated");
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    MEMORY.set_limit(usize::MAX).expect("no limit");
    if outcome.is_err() {
        eprintln!("{}", LAST.take());
        std::process::abort();
    }
});
