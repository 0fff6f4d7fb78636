//! What tests ask of a Google server beyond objects: buckets.

use crate::{GCS_KEY, GCS_URL};
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use std::collections::BTreeMap;
use std::io::Write;

/// The Google server of this run.
#[derive(Debug)]
pub struct Google {
    url: String,
    key: String,
    http: HttpClient,
}

/// The server of this run. Without one the test says that it is skipped, and must end.
pub fn google_or_skip(test: &str) -> Option<Google> {
    let found = Google::from_env();
    if found.is_none() {
        // Not `print!`, which the test harness keeps for itself.
        let line = format!("\nSKIPPED {test}: no Google server; `cargo xtask test` starts one\n");
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
    found
}

impl Google {
    /// The server that the environment names.
    pub fn from_env() -> Option<Self> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let http = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).ok()?;
        Some(Self { url: var(GCS_URL)?, key: var(GCS_KEY)?, http })
    }

    /// Settings of a target on this server, as `keepfast_objects::open_target_with` takes them.
    pub fn settings(&self) -> BTreeMap<String, String> {
        [("google_base_url", &self.url), ("google_service_account", &self.key)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }

    /// Makes a bucket with a name of its own.
    ///
    /// # Panics
    /// When the server refuses: the test has failed then.
    pub async fn new_bucket(&self, name: &str) -> String {
        let bucket = format!("{name}-{}", std::process::id());
        let account = GoogleCloudStorageBuilder::new().with_service_account_path(&self.key);
        let account = account.with_bucket_name(&bucket).build().expect("a key");
        let token = account.credentials().get_credential().await.expect("a token");
        let mut http = HttpRequest::new(HttpRequestBody::from(Bytes::new()));
        *http.method_mut() = "PUT".parse().expect("a method");
        *http.uri_mut() = format!("{}/{bucket}", self.url).parse().expect("a URL");
        http.headers_mut().insert("content-length", "0".parse().expect("a header"));
        let bearer = format!("Bearer {}", token.bearer);
        http.headers_mut().insert("authorization", bearer.parse().expect("a header"));
        let response = self.http.execute(http).await.expect("the server answers");
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.expect("a body");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        bucket
    }
}
