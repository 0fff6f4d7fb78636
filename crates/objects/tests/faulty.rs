//! Faults do what they say, to the place and to the caller.

use bytes::Bytes;
use futures::TryStreamExt;
use keepfast_objects::faulty::{Fault, Kind, Process, Script};
use keepfast_objects::{ObjectsError, Put, Target, open_target};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Arc;

fn place() -> Target {
    Target::new(Arc::new(InMemory::new()), Path::default(), "memory:place")
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What a place holds.
async fn holds(target: &Target) -> Vec<(String, String)> {
    let mut found = vec![];
    for object in target.list("").await.unwrap() {
        let bytes = target.get(&object.path).await.unwrap();
        found.push((object.path, String::from_utf8(bytes.to_vec()).unwrap()));
    }
    found
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Creates `a` and `b` in a process in which the second create goes wrong; says how that ended and what stands.
async fn second_create(fault: Fault) -> (Result<Put, ObjectsError>, Vec<(String, String)>, Process, Target) {
    let place = place();
    let process = Process::new(Script::at(1, fault));
    let seen = process.wrap(&place);
    assert_eq!(seen.put_new("a", bytes("1")).await.unwrap(), Put::Created);
    let second = seen.put_new("b", bytes("2")).await;
    let now = holds(&place).await;
    (second, now, process, place)
}

#[tokio::test]
async fn each_fault_of_a_create_has_its_effect_and_its_answer() {
    let only_a = pairs(&[("a", "1")]);
    let both = pairs(&[("a", "1"), ("b", "2")]);
    for (fault, stands, ends) in [
        (Fault::DiesBefore, &only_a, true),
        (Fault::DiesAfter, &both, true),
        (Fault::PowerFails { seed: 3 }, &only_a, true),
        (Fault::LosesRequest, &only_a, false),
        (Fault::LosesAnswer, &both, false),
        (Fault::Late { by: 100 }, &only_a, false),
        (Fault::Refused, &only_a, false),
        (Fault::Full, &only_a, false),
    ] {
        let (answer, now, process, place) = second_create(fault).await;
        assert!(answer.is_err(), "{fault}");
        assert_eq!(&now, stands, "{fault}");
        assert_eq!(process.has_ended(), ends, "{fault}");
        assert_eq!(process.fired().len(), 1, "{fault}");
        let later = process.wrap(&place).put_new("c", bytes("3")).await;
        assert_eq!(later.is_err(), ends || fault == Fault::Full, "{fault}");
        process.settle().await;
        assert_eq!(place.get("b").await.is_ok(), *stands == both || fault == Fault::Late { by: 100 });
    }
    for (fault, stands) in [
        (Fault::LosesAnswerAndRetries, &both),
        (Fault::Overtaken { by: 2 }, &both),
        (Fault::Swallowed, &only_a),
    ] {
        let (answer, now, process, _) = second_create(fault).await;
        assert_eq!(answer.unwrap(), Put::Created, "{fault}");
        assert_eq!(&now, stands, "{fault}");
        assert!(!process.has_ended());
    }
}

#[tokio::test]
async fn errors_say_what_the_caller_can_do() {
    let of = |fault| async move { second_create(fault).await.0.unwrap_err() };
    assert!(matches!(of(Fault::Refused).await, ObjectsError::Denied { .. }));
    assert!(matches!(of(Fault::Full).await, ObjectsError::Full { .. }));
    assert!(matches!(of(Fault::LosesRequest).await, ObjectsError::Unavailable { .. }));
    assert!(matches!(of(Fault::DiesBefore).await, ObjectsError::Unavailable { .. }));
}

#[tokio::test]
async fn a_power_failure_takes_only_what_no_barrier_made_durable() {
    let (mut torn, mut gone, mut whole, mut back) = (0, 0, 0, 0);
    for seed in 0..60 {
        let place = place();
        place.put_new("old", bytes("deleted")).await.unwrap();
        let process = Process::new(Script::at(5, Fault::PowerFails { seed }));
        let seen = process.wrap(&place);
        seen.put_deferred("safe", bytes("deferred and then made durable")).await.unwrap();
        seen.put_new("also safe", bytes("durable")).await.unwrap();
        seen.delete("old").await.unwrap();
        seen.put_deferred("x", bytes("deferred")).await.unwrap();
        seen.put_deferred("y", bytes("deferred")).await.unwrap();
        assert!(seen.sync().await.is_err());
        assert!(seen.get("safe").await.is_err(), "nothing works after it");
        let now = holds(&place).await;
        let text = |name: &str| now.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str());
        assert_eq!(text("safe"), Some("deferred and then made durable"));
        assert_eq!(text("also safe"), Some("durable"));
        match text("old") {
            None => {}
            Some(text) => {
                assert_eq!(text, "deleted");
                back += 1;
            }
        }
        for name in ["x", "y"] {
            match text(name) {
                None => gone += 1,
                Some("deferred") => whole += 1,
                Some(text) => {
                    assert!("deferred".starts_with(text));
                    torn += 1;
                }
            }
        }
    }
    assert!(torn > 5 && gone > 5 && whole > 5 && back > 5, "{torn} {gone} {whole} {back}");
}

#[tokio::test]
async fn a_stale_listing_misses_what_is_new_and_shows_what_was_deleted() {
    let place = place();
    place.put_new("d/old", bytes("1")).await.unwrap();
    place.put_new("d/kept", bytes("1")).await.unwrap();
    let process = Process::new(Script::at(3, Fault::Stale { by: 2 }));
    let seen = process.wrap(&place);
    let names = |target: Target| async move {
        target.list("d").await.unwrap().into_iter().map(|o| o.path).collect::<Vec<_>>()
    };
    seen.put_new("d/known", bytes("2")).await.unwrap();
    seen.put_new("d/unknown", bytes("3")).await.unwrap();
    seen.delete("d/old").await.unwrap();
    // The window is two operations: the create before the delete is outside of it.
    assert_eq!(names(seen.clone()).await, ["d/kept", "d/known", "d/old", "d/unknown"]);
    assert_eq!(names(seen.clone()).await, ["d/kept", "d/known", "d/unknown"], "the next one knows all");

    let process = Process::new(Script::always(Fault::Stale { by: 2 }));
    let seen = process.wrap(&place);
    seen.put_new("d/newest", bytes("4")).await.unwrap();
    assert_eq!(names(seen.clone()).await, ["d/kept", "d/known", "d/unknown"]);
    assert_eq!(names(seen.clone()).await, ["d/kept", "d/known", "d/newest", "d/unknown"]);
}

#[tokio::test]
async fn a_late_delete_arrives_after_others_have_gone_on() {
    let place = place();
    place.put_new("x", bytes("old")).await.unwrap();
    let process = Process::new(Script::at(0, Fault::Late { by: 3 }));
    let seen = process.wrap(&place);
    assert!(seen.delete("x").await.is_err());
    seen.delete("x").await.unwrap();
    seen.put_new("x", bytes("new")).await.unwrap();
    assert!(seen.get("x").await.is_err(), "the late delete came before the third operation after it");
}

#[tokio::test]
async fn operations_that_are_overtaken_come_after_later_ones() {
    let place = place();
    let process = Process::new(Script::at(0, Fault::Overtaken { by: 2 }));
    let seen = process.wrap(&place);
    let (slow, fast) = tokio::join!(seen.put_deferred("x", bytes("slow")), async {
        seen.size("other").await.unwrap();
        seen.put_deferred("x", bytes("fast")).await
    });
    assert_eq!((slow.unwrap(), fast.unwrap()), (Put::Existed, Put::Created));
    assert_eq!(place.get("x").await.unwrap(), bytes("fast"));
}

#[tokio::test]
async fn every_operation_is_listed_by_name_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let place = open_target(dir.path().to_str().unwrap()).unwrap();
    let process = Process::default();
    let (one, two) = (process.wrap(&place), process.wrap(&place.child("sub").unwrap()));
    one.put_new("a", bytes("123")).await.unwrap();
    two.put_deferred("b", bytes("45")).await.unwrap();
    two.sync().await.unwrap();
    one.get("a").await.unwrap();
    one.size("sub/b").await.unwrap();
    let _: Vec<_> = one.list_after("", "a").try_collect().await.unwrap();
    two.delete("b").await.unwrap();
    let seen: Vec<_> = process.trace().iter().map(|o| (o.kind, o.path.clone(), o.bytes)).collect();
    let expected = [
        (Kind::Put, "a", 3),
        (Kind::Put, "sub/b", 2),
        (Kind::Sync, "", 0),
        (Kind::Get, "a", 3),
        (Kind::Head, "sub/b", 0),
        (Kind::List, "", 0),
        (Kind::Delete, "sub/b", 0),
    ];
    assert_eq!(seen, expected.map(|(kind, path, bytes)| (kind, path.to_owned(), bytes)));
    assert_eq!(process.tally().get(Kind::Put).bytes, 5);
    assert_eq!(process.tally().operations(), process.operations());
    assert_eq!(
        process.tally().to_string(),
        "2 put (5 bytes), 1 get (3 bytes), 1 head, 1 list, 1 delete, 1 sync"
    );
}

#[tokio::test]
async fn a_folder_can_be_torn_too() {
    let mut torn = 0;
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let place = open_target(dir.path().to_str().unwrap()).unwrap();
        let process = Process::new(Script::at(1, Fault::PowerFails { seed }));
        let seen = process.wrap(&place);
        seen.put_content("x", bytes("content")).await.unwrap();
        assert!(seen.put_new("record", bytes("names x")).await.is_err());
        assert!(place.get("record").await.is_err(), "no record may be durable before what it names");
        torn += u32::from(place.get("x").await.is_ok_and(|found| found != bytes("content")));
        // Whatever is left, the next process puts it right.
        place.put_content("x", bytes("content")).await.unwrap();
        assert_eq!(place.get("x").await.unwrap(), bytes("content"));
    }
    assert!(torn > 3, "{torn}");
}
