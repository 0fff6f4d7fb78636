//! Retention by example, and against the same rules said another way.

use jiff::{SignedDuration, Timestamp};
use keepfast_model::retention::{Candidate, KeepsNothing, Reason, parse_duration};
use keepfast_model::{LogSeq, Period, RetentionPolicy};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn candidates(cuts: &[&str]) -> Vec<Candidate> {
    let point = |(i, cut): (usize, &&str)| Candidate {
        seq: LogSeq(i as u64 + 1),
        cut: at(cut),
        held: false,
        locked: false,
    };
    cuts.iter().enumerate().map(point).collect()
}

fn policy(last: u32, periods: &[(Period, u32)], within: Option<&str>) -> RetentionPolicy {
    RetentionPolicy {
        last,
        periods: periods.iter().copied().collect(),
        within: within.map(|w| parse_duration(w).unwrap()),
    }
}

fn kept(policy: &RetentionPolicy, points: &[Candidate], now: &str) -> Vec<u64> {
    let verdicts = policy.judge(points, at(now)).unwrap();
    verdicts.iter().filter(|v| v.stays()).map(|v| v.seq.0).collect()
}

const NOW: &str = "2026-06-15T12:00:00Z";

#[test]
fn the_last_point_of_each_of_the_newest_periods_stays() {
    let points = candidates(&[
        "2024-12-30T10:00:00Z",
        "2025-01-01T10:00:00Z",
        "2026-05-31T23:59:59Z",
        "2026-06-01T00:00:00Z",
        "2026-06-14T08:00:00Z",
        "2026-06-14T09:00:00Z",
        "2026-06-15T09:10:00Z",
        "2026-06-15T09:50:00Z",
    ]);
    assert_eq!(kept(&policy(3, &[], None), &points, NOW), [6, 7, 8]);
    assert_eq!(kept(&policy(0, &[(Period::Hourly, 2)], None), &points, NOW), [6, 8]);
    assert_eq!(kept(&policy(0, &[(Period::Daily, 3)], None), &points, NOW), [4, 6, 8]);
    // 2026-06-15 is a Monday; 31 May is the Sunday of the week before 1 June.
    assert_eq!(kept(&policy(0, &[(Period::Weekly, 3)], None), &points, NOW), [4, 6, 8]);
    assert_eq!(kept(&policy(0, &[(Period::Monthly, 2)], None), &points, NOW), [3, 8]);
    assert_eq!(kept(&policy(0, &[(Period::Yearly, 9)], None), &points, NOW), [1, 2, 8]);
    // The week of 30 December 2024 is the first of 2025: both points are in it.
    assert_eq!(kept(&policy(0, &[(Period::Weekly, 9)], None), &points, NOW), [2, 3, 4, 6, 8]);
    assert_eq!(kept(&policy(0, &[], Some("36h")), &points, NOW), [5, 6, 7, 8]);
}

#[test]
fn a_point_stays_for_all_its_reasons() {
    let mut points = candidates(&["2026-06-14T08:00:00Z", "2026-06-15T09:00:00Z"]);
    (points[0].held, points[0].locked) = (true, true);
    let verdicts =
        policy(1, &[(Period::Daily, 2), (Period::Yearly, 1)], Some("1h")).judge(&points, at(NOW)).unwrap();
    let texts: Vec<String> = verdicts
        .iter()
        .map(|v| v.reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(texts, ["held locked daily", "newest last within daily yearly"]);
    assert_eq!(
        serde_json::to_string(&verdicts[1].reasons).unwrap(),
        r#"["newest","last","within","daily","yearly"]"#
    );
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let points = candidates(&["2026-06-14T08:00:00Z"]);
    for policy in [policy(0, &[], None), policy(0, &[(Period::Daily, 0), (Period::Yearly, 0)], None)] {
        assert_eq!(policy.judge(&points, at(NOW)), Err(KeepsNothing));
    }
    // Zero time keeps the moment of the newest cut: that is a rule.
    assert!(policy(0, &[], Some("0s")).judge(&points, at(NOW)).is_ok());
}

#[test]
fn clocks_that_jump_lose_no_recent_point() {
    // The clock stood in 2099 for the third backup and was set right for the fourth.
    let points = candidates(&[
        "2026-06-13T10:00:00Z",
        "2026-06-14T10:00:00Z",
        "2099-01-01T00:00:00Z",
        "2026-06-15T10:00:00Z",
    ]);
    assert_eq!(kept(&policy(0, &[], Some("2d")), &points, NOW), [2, 3, 4]);
    assert_eq!(kept(&policy(2, &[], None), &points, NOW), [3, 4], "the log's order is the order");
    // The pruner's own clock runs years ahead: what is recent follows from the backup then.
    assert_eq!(kept(&policy(0, &[], Some("2d")), &points[..2], "2080-01-01T00:00:00Z"), [1, 2]);
    // Equal times: the one that was committed later is the later one.
    let equal = candidates(&["2026-06-15T10:00:00Z", "2026-06-15T10:00:00Z", "2026-06-14T10:00:00Z"]);
    assert_eq!(kept(&policy(0, &[(Period::Daily, 1)], None), &equal, NOW), [2, 3]);
}

#[test]
fn durations_are_read() {
    for (text, seconds) in [
        ("36h", 129_600),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        ("90m", 5_400),
        ("0s", 0),
        ("1y", 31_536_000),
    ] {
        assert_eq!(parse_duration(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
    }
    for text in
        ["", " ", "5", "d", "-1d", "1.5h", "1x", "1d x", "99999999999999999999d", "999999999999w", "1д"]
    {
        assert!(parse_duration(text).is_err(), "{text:?}");
    }
}

fn moments() -> impl Strategy<Value = Timestamp> {
    let near = 1_750_000_000i64..1_850_000_000;
    let far = -300_000_000_000i64..250_000_000_000;
    prop_oneof![8 => near, 1 => far].prop_map(|s| Timestamp::from_second(s / 1800 * 1800).unwrap())
}

fn any_points() -> impl Strategy<Value = Vec<Candidate>> {
    let rarely = || prop::bool::weighted(0.1);
    prop::collection::vec((moments(), rarely(), rarely()), 0..40).prop_map(|all| {
        let point = |(i, (cut, held, locked)): (usize, (Timestamp, bool, bool))| Candidate {
            seq: LogSeq(3 * i as u64 + 1),
            cut,
            held,
            locked,
        };
        all.into_iter().enumerate().map(point).collect()
    })
}

fn any_policy() -> impl Strategy<Value = RetentionPolicy> {
    let count = || prop_oneof![2 => Just(0u32), 3 => 0u32..6];
    let within = proptest::option::weighted(0.3, 0i64..400_000_000);
    (count(), [count(), count(), count(), count(), count()], within).prop_map(|(last, counts, within)| {
        RetentionPolicy {
            last,
            periods: Period::ALL.into_iter().zip(counts).collect(),
            within: within.map(SignedDuration::from_secs),
        }
    })
}

/// The same rules, said another way: a point is judged alone, by counting what beats it.
fn stays_by_counting(
    policy: &RetentionPolicy,
    points: &[Candidate],
    now: Timestamp,
    p: &Candidate,
) -> BTreeSet<Reason> {
    let mut reasons = BTreeSet::new();
    let later = points.iter().filter(|o| o.seq > p.seq).count();
    if later == 0 {
        reasons.insert(Reason::Newest);
    }
    if p.held {
        reasons.insert(Reason::Held);
    }
    if p.locked {
        reasons.insert(Reason::Locked);
    }
    if later < policy.last as usize {
        reasons.insert(Reason::Last);
    }
    if let Some(within) = policy.within {
        let newest = points.iter().map(|o| o.cut).max().unwrap().min(now);
        if newest.duration_since(p.cut) <= within {
            reasons.insert(Reason::Within);
        }
    }
    for (period, count) in &policy.periods {
        let mine = period.start(p.cut);
        let beaten = points.iter().any(|o| period.start(o.cut) == mine && (o.cut, o.seq) > (p.cut, p.seq));
        let newer: BTreeSet<_> = points.iter().map(|o| period.start(o.cut)).filter(|s| *s > mine).collect();
        if !beaten && newer.len() < *count as usize {
            reasons.insert(Reason::Period(*period));
        }
    }
    reasons
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn verdicts_are_those_of_counting(policy in any_policy(), mut points in any_points(), now in moments(), turn in 0usize..40) {
        let verdicts = policy.judge(&points, now);
        prop_assume!(!policy.keeps_nothing());
        let verdicts = verdicts.unwrap();
        prop_assert_eq!(verdicts.len(), points.len());
        for (verdict, point) in verdicts.iter().zip(&points) {
            prop_assert_eq!(verdict.seq, point.seq);
            let expected = stays_by_counting(&policy, &points, now, point);
            prop_assert_eq!(verdict.reasons.iter().copied().collect::<BTreeSet<_>>(), expected);
        }
        if let Some(newest) = verdicts.last() {
            prop_assert!(newest.stays());
        }
        // The order in which points are told does not matter.
        let middle = turn.min(points.len());
        points.rotate_left(middle);
        prop_assert_eq!(policy.judge(&points, now).unwrap(), verdicts);
    }

    #[test]
    fn what_a_policy_keeps_it_keeps_again(policy in any_policy(), points in any_points(), now in moments()) {
        prop_assume!(!policy.keeps_nothing());
        let stays = |points: &[Candidate]| -> Vec<Candidate> {
            let verdicts = policy.judge(points, now).unwrap();
            points.iter().zip(verdicts).filter(|(_, v)| v.stays()).map(|(p, _)| *p).collect()
        };
        let once = stays(&points);
        prop_assert_eq!(stays(&once), once);
    }
}
