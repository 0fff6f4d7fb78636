//! The written model of `docs/retention.md`, checked exhaustively: writers, compactors, pruners, droppers, deleters and
//! readers over one log and a few objects, in every order of their steps.
//!
//! Steps carry the names of the code that they stand for. An actor may stop for ever after any step (a crash): every
//! prefix of every order is a state that is checked. Deletions that were sent take effect at any later time, in any
//! order, several times. Clocks differ between actors by fixed amounts.

mod actors;
mod search;
mod world;

use actors::{Actor, Kind};
use search::search;
use world::{Protocol, Record, World};

/// Names that identities give: what a writer of the same rows puts again.
const A: u16 = 1;
const B: u16 = 2;
const C: u16 = 4;
const D: u16 = 8;

/// A vault with a point of A and B and one of B and C, and an object that a dead run left.
fn vault(protocol: Protocol, grace: u8, actors: &[Actor]) -> World {
    let mut world = World::new(protocol, grace, actors);
    world.present = A | B | C | D;
    world.append(Record::Point { names: A | B, cut: 1 });
    world.append(Record::Point { names: B | C, cut: 2 });
    world
}

fn actor(kind: Kind) -> Actor {
    Actor::new(kind, 0)
}

fn ahead(kind: Kind) -> Actor {
    Actor::new(kind, 1)
}

/// What is checked: who is there, and how long the grace is. The first two points are those of [`vault`].
fn worlds(protocol: Protocol) -> Vec<(&'static str, World)> {
    use Kind::*;
    let grace = if protocol == Protocol::NoGrace { 0 } else { 1 };
    let of = |actors: &[Actor]| {
        let reads = actors.iter().any(|a| a.kind == Reader);
        World { end: if reads { 3 } else { 2 }, ..vault(protocol, grace, actors) }
    };
    vec![
        (
            "a full and an incremental backup beside a prune",
            of(&[
                actor(Writer { puts: A | D }),
                actor(Incremental { puts: D }),
                actor(Pruner),
                actor(Deleter),
            ]),
        ),
        (
            "two backups of equal rows beside a prune",
            of(&[actor(Writer { puts: A }), actor(Writer { puts: A | D }), actor(Pruner), actor(Deleter)]),
        ),
        (
            "a backup beside a drop",
            of(&[
                actor(Writer { puts: B | D }),
                actor(Incremental { puts: A }),
                actor(Dropper),
                actor(Deleter),
            ]),
        ),
        (
            "a backup beside two prunes",
            of(&[actor(Writer { puts: A | D }), actor(Pruner), ahead(Pruner), actor(Deleter)]),
        ),
        (
            "a compaction beside a backup and a prune",
            of(&[actor(Compactor { puts: D }), actor(Writer { puts: A }), actor(Pruner), actor(Deleter)]),
        ),
        (
            "a reader beside a backup and a prune whose clock runs ahead",
            of(&[actor(Reader), actor(Writer { puts: A }), ahead(Pruner), ahead(Deleter)]),
        ),
        (
            "a reader beside a compaction and a drop",
            of(&[actor(Reader), actor(Compactor { puts: D }), ahead(Dropper), ahead(Deleter)]),
        ),
        (
            "a backup and a compaction beside a prune and a drop",
            of(&[
                actor(Writer { puts: A | D }),
                actor(Compactor { puts: D }),
                actor(Pruner),
                ahead(Dropper),
                actor(Deleter),
            ]),
        ),
        (
            "a reader beside two backups and a prune",
            of(&[
                actor(Reader),
                actor(Writer { puts: A }),
                actor(Incremental { puts: D }),
                ahead(Pruner),
                ahead(Deleter),
            ]),
        ),
    ]
}

#[test]
fn nothing_visible_and_nothing_held_is_ever_missed_in_any_order() {
    let (mut states, mut steps) = (0, 0);
    for (name, world) in worlds(Protocol::Sound) {
        let started = std::time::Instant::now();
        let outcome = search(&world);
        if let Some(broken) = &outcome.broken {
            panic!("{name}: {broken}");
        }
        eprintln!("{name}: {} states, {} steps, {:?}", outcome.states, outcome.steps, started.elapsed());
        assert!(outcome.commits_of_all, "{name}: some actor never gets anywhere");
        states += outcome.states;
        steps += outcome.steps;
    }
    eprintln!("COUNT {states} states of the model, {steps} steps of the model");
}

/// Each protocol is wrong in one way; the search must find it in this world, and find this harm.
#[test]
fn every_known_way_to_break_the_protocol_is_found() {
    for (protocol, world, harm) in [
        (Protocol::DeletesBeforeLogging, 0, "misses"),
        (Protocol::WriterSkipsRevalidation, 0, "misses"),
        (Protocol::PrunerSkipsRevalidation, 0, "misses"),
        (Protocol::ReusesNames, 1, "misses"),
        (Protocol::CompactorSkipsRevalidation, 4, "hides"),
        (Protocol::NoGrace, 5, "reader"),
        (Protocol::NoHold, 5, "reader"),
        (Protocol::PrunerIgnoresHolds, 5, "reader"),
    ] {
        let (name, world) = &worlds(protocol)[world];
        let outcome = search(world);
        let broken = outcome.broken.unwrap_or_else(|| panic!("{protocol:?} breaks nothing"));
        eprintln!(
            "{protocol:?}: {broken}, after {} states in {} steps: {name}",
            outcome.states,
            outcome.trace.len()
        );
        outcome.trace.iter().for_each(|step| eprintln!("    {step}"));
        assert!(broken.contains(harm), "{protocol:?}: {broken}");
    }
}
