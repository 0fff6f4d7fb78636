//! Breadth-first search over all orders of steps; the first harm that is found is one of the nearest.
//!
//! States are told apart by 128 bits of hash, so that millions fit into memory.

use crate::world::{ACTORS, World};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

/// What a search found.
pub struct Outcome {
    pub states: usize,
    pub steps: usize,
    /// The harm; none means that there is none in any state.
    pub broken: Option<String>,
    /// The steps that lead to it.
    pub trace: Vec<String>,
    /// Whether each actor got its record into the log in some order.
    pub commits_of_all: bool,
}

/// Who moves: an actor, the clock, or a deletion that takes effect.
type Move = u8;
const TICK: Move = ACTORS as Move;
const EFFECT: Move = TICK + 1;

fn fingerprint(world: &World) -> u128 {
    let bytes = world.bytes();
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(&bytes);
        hasher.finish()
    };
    u128::from(hash(0)) << 64 | u128::from(hash(1))
}

/// The world after a move, what it is called, and the harm that it shows; none where the move is not possible.
fn after(world: &World, by: Move) -> Option<(World, &'static str, Option<String>)> {
    let mut next = world.clone();
    let (label, broken) = match by {
        TICK if world.time < world.end => {
            next.time += 1;
            ("the time passes", None)
        }
        TICK => return None,
        EFFECT.. => {
            let name = 1 << (by - EFFECT);
            if world.sent & world.present & name == 0 {
                return None;
            }
            next.present &= !name;
            ("a deletion takes effect", None)
        }
        who => {
            let step = next.step(who as usize)?;
            (step.label, step.broken)
        }
    };
    let broken = broken.or_else(|| next.broken());
    Some((next, label, broken))
}

pub fn search(start: &World) -> Outcome {
    let mut seen = HashSet::from([fingerprint(start)]);
    // By state: the state before it, and the move that led here.
    let mut from: Vec<(u32, Move)> = vec![(0, 0)];
    let mut frontier = vec![(0u32, start.clone())];
    let mut outcome =
        Outcome { states: 1, steps: 0, broken: start.broken(), trace: vec![], commits_of_all: false };
    let mut committed = [false; ACTORS];
    while !frontier.is_empty() && outcome.broken.is_none() {
        let mut next_frontier = vec![];
        'states: for (at, world) in frontier {
            for by in 0..EFFECT + 16 {
                let Some((next, _, broken)) = after(&world, by) else { continue };
                outcome.steps += 1;
                // Harm that a step shows counts also where it leads to a state that is known.
                if !seen.insert(fingerprint(&next)) && broken.is_none() {
                    continue;
                }
                from.push((at, by));
                let here = from.len() as u32 - 1;
                for (committed, actor) in committed.iter_mut().zip(&next.actors) {
                    *committed |= actor.is_none_or(|a| a.committed);
                }
                if broken.is_some() {
                    outcome.broken = broken;
                    outcome.trace = trace(start, &from, here);
                    break 'states;
                }
                next_frontier.push((here, next));
            }
        }
        frontier = next_frontier;
    }
    outcome.states = from.len();
    outcome.commits_of_all = committed.iter().all(|c| *c);
    outcome
}

fn trace(start: &World, from: &[(u32, Move)], mut at: u32) -> Vec<String> {
    let mut moves = vec![];
    while at != 0 {
        let (before, by) = from[at as usize];
        moves.push(by);
        at = before;
    }
    let mut world = start.clone();
    let mut labels = vec![];
    for by in moves.into_iter().rev() {
        let Some((next, label, _)) = after(&world, by) else { break };
        let who = world.actors.get(by as usize).copied().flatten();
        labels.push(who.map_or(label.to_owned(), |actor| format!("{:?}: {label}", actor.kind)));
        world = next;
    }
    labels
}
