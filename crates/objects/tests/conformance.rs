//! The suite that every target passes, and that it notices what breaks it.

use keepfast_objects::conformance::{ConformanceError, check_target};
use keepfast_objects::{ObjectsError, Target, open_target, open_target_with};
use keepfast_testbed::azure::azure_or_skip;
use keepfast_testbed::google::google_or_skip;
use keepfast_testbed::s3::server_or_skip;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Arc;

mod common;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_keeps_every_promise_of_a_target() {
    let dir = tempfile::tempdir().unwrap();
    let target = open_target(dir.path().join("place").to_str().unwrap()).unwrap();
    assert_eq!(check_target(&target, "suite").await.unwrap(), 11);
}

#[tokio::test]
async fn memory_keeps_every_promise_of_a_target() {
    let target = Target::new(Arc::new(InMemory::new()), Path::from("a/b"), "memory:a/b");
    assert_eq!(check_target(&target, "suite").await.unwrap(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_keeps_every_promise_of_a_target() {
    let Some(s3) = server_or_skip("s3_keeps_every_promise_of_a_target") else { return };
    for lock in [false, true] {
        let bucket = s3.new_bucket("conformance", lock).await;
        for prefix in ["", "/deep/prefix"] {
            let target = open_target_with(&format!("s3://{bucket}{prefix}"), &s3.settings()).unwrap();
            assert_eq!(check_target(&target, "suite").await.unwrap(), 11, "{target}, lock {lock}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azure_keeps_every_promise_of_a_target() {
    let Some(azure) = azure_or_skip("azure_keeps_every_promise_of_a_target") else { return };
    let container = azure.new_container("conformance").await;
    let target = open_target_with(&format!("az://{container}/a/b"), &azure.settings()).unwrap();
    assert_eq!(check_target(&target, "suite").await.unwrap(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn google_keeps_every_promise_of_a_target() {
    let Some(google) = google_or_skip("google_keeps_every_promise_of_a_target") else { return };
    let bucket = google.new_bucket("conformance").await;
    for prefix in ["", "/deep/prefix"] {
        let target = open_target_with(&format!("gs://{bucket}{prefix}"), &google.settings()).unwrap();
        assert_eq!(check_target(&target, "suite").await.unwrap(), 11, "{target}");
    }
}

#[tokio::test]
async fn a_google_bucket_is_closed_without_the_key_of_its_account() {
    let Some(google) = google_or_skip("a_google_bucket_is_closed_without_the_key_of_its_account") else {
        return;
    };
    let bucket = google.new_bucket("closed").await;
    let mut settings = google.settings();
    settings.remove("google_service_account");
    let key = r#"{"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": true}"#;
    settings.insert("google_service_account_key".to_owned(), key.to_owned());
    let stranger = open_target_with(&format!("gs://{bucket}"), &settings).unwrap();
    let refused = stranger.put_new("x", "mine".into()).await.unwrap_err();
    assert!(matches!(refused, ObjectsError::Denied { .. }), "{refused:?}");
    let owner = open_target_with(&format!("gs://{bucket}"), &google.settings()).unwrap();
    assert_eq!(owner.size("x").await.unwrap(), None);
}

#[tokio::test]
async fn the_suite_notices_a_store_that_overwrites() {
    let target = Target::new(Arc::new(common::Overwriting::default()), Path::default(), "memory:overwriting");
    let error = check_target(&target, "suite").await.unwrap_err();
    assert!(matches!(error, ConformanceError::Broken { .. }), "{error}");
}
