//! What tests ask of an Azure server beyond objects: containers.

use crate::{AZURE_ACCOUNT, AZURE_KEY, AZURE_URL};
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use std::collections::BTreeMap;
use std::io::Write;

/// The Azure server of this run.
#[derive(Debug)]
pub struct Azure {
    url: String,
    account: String,
    key: String,
    http: HttpClient,
}

/// The server of this run. Without one the test says that it is skipped, and must end.
pub fn azure_or_skip(test: &str) -> Option<Azure> {
    let found = Azure::from_env();
    if found.is_none() {
        // Not `print!`, which the test harness keeps for itself.
        let line = format!("\nSKIPPED {test}: no Azure server; `cargo xtask test` starts one\n");
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
    found
}

impl Azure {
    /// The server that the environment names.
    pub fn from_env() -> Option<Self> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (url, account, key) = (var(AZURE_URL)?, var(AZURE_ACCOUNT)?, var(AZURE_KEY)?);
        let http = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).ok()?;
        Some(Self { url, account, key, http })
    }

    /// Settings of a target on this server, as `keepfast_objects::open_target_with` takes them.
    pub fn settings(&self) -> BTreeMap<String, String> {
        [
            ("azure_storage_account_name", &self.account),
            ("azure_storage_account_key", &self.key),
            ("azure_storage_endpoint", &self.url),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
    }

    /// Makes a container with a name of its own.
    ///
    /// # Panics
    /// When the server refuses: the test has failed then.
    pub async fn new_container(&self, name: &str) -> String {
        let container = format!("{name}-{}", std::process::id());
        let mut http = HttpRequest::new(HttpRequestBody::from(Bytes::new()));
        *http.method_mut() = "PUT".parse().expect("a method");
        *http.uri_mut() = format!("{}/{container}?restype=container", self.url).parse().expect("a URL");
        http.headers_mut().insert("content-length", "0".parse().expect("a header"));
        let key = AzureAccessKey::try_new(&self.key).expect("a key");
        let credential = AzureCredential::AccessKey(key);
        AzureAuthorizer::new(&credential, &self.account).authorize(&mut http);
        let response = self.http.execute(http).await.expect("the server answers");
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.expect("a body");
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&body));
        container
    }
}
