//! From a location text to a target: folders and URLs of object stores.
//!
//! Credentials and endpoints come from the environment, never from the location: what is shown is what was given,
//! without a password or a query.

use crate::error::ObjectsError;
use crate::folder::FolderStore;
use crate::target::Target;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::sync::Arc;
use url::Url;

/// Time limit of one request, body included; large segments over slow lines need more than the library's 30 s.
const REQUEST_TIMEOUT: &str = "300 seconds";

/// The place that a location names, without touching it.
///
/// A path or `file://` URL is a folder with durable writes, made at the first write. `s3://bucket/prefix`,
/// `gs://…`, `az://…`, `abfs://…`, `abfss://…` take credentials and endpoints from the environment as the vendors'
/// tools do; `oss://bucket/prefix` reads `OSS_ENDPOINT`, `OSS_REGION`, `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET`
/// and `OSS_SESSION_TOKEN`. `memory:` is a new, empty place in this process.
///
/// # Errors
/// [`ObjectsError::Location`] for anything else, and where the environment lacks what the place needs.
pub fn open_target(location: &str) -> Result<Target, ObjectsError> {
    if location.trim().is_empty() {
        return refuse(location, "it is empty");
    }
    if location == "memory:" || location == "memory://" {
        return Ok(Target::new(Arc::new(InMemory::new()), Path::default(), "memory:"));
    }
    if !location.contains("://") && !location.starts_with("file:") {
        return folder(std::path::Path::new(location), location);
    }
    let Ok(url) = Url::parse(location) else {
        return refuse(&without_secrets(location), "it is not a URL");
    };
    let shown = display(&url);
    if url.query().is_some() || url.fragment().is_some() {
        return refuse(&shown, "a query or fragment has no meaning here");
    }
    let prefix = || {
        Path::from_url_path(url.path())
            .map_err(|e| ObjectsError::Location { location: display(&url), reason: e.to_string() })
    };
    let cloud = |store: object_store::Result<Arc<dyn ObjectStore>>| match store {
        Ok(store) => Ok(Target::new(store, prefix()?, shown.trim_end_matches('/'))),
        Err(e) => refuse(&shown, &e.to_string()),
    };
    match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) => folder(&path, &path.to_string_lossy()),
            Err(()) => refuse(&shown, "a file URL has the form file:///path"),
        },
        "s3" | "s3a" => cloud(s3(AmazonS3Builder::from_env().with_url(bare(&url)))),
        "oss" => cloud(s3(oss(&url))),
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(bare(&url));
            let key = GoogleConfigKey::Client(ClientConfigKey::Timeout);
            let builder = match builder.get_config_value(&key) {
                None => builder.with_config(key, REQUEST_TIMEOUT),
                Some(_) => builder,
            };
            cloud(builder.build().map(|s| Arc::new(s) as _))
        }
        "az" | "azure" | "adl" | "abfs" | "abfss" => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
            let key = AzureConfigKey::Client(ClientConfigKey::Timeout);
            let builder = match builder.get_config_value(&key) {
                None => builder.with_config(key, REQUEST_TIMEOUT),
                Some(_) => builder,
            };
            cloud(builder.build().map(|s| Arc::new(s) as _))
        }
        "http" | "https" => refuse(
            &shown,
            "plain HTTP cannot create an object only when it is absent; name the store as s3://, gs:// or az://",
        ),
        other => refuse(&shown, &format!("the scheme '{other}' is unknown")),
    }
}

fn folder(path: &std::path::Path, location: &str) -> Result<Target, ObjectsError> {
    let root = std::path::absolute(path)
        .map_err(|e| ObjectsError::Location { location: location.to_owned(), reason: e.to_string() })?;
    let shown = root.to_string_lossy().into_owned();
    let store = Arc::new(FolderStore::new(root));
    Ok(Target::with_barrier(store.clone(), Path::default(), shown, store))
}

fn s3(builder: AmazonS3Builder) -> object_store::Result<Arc<dyn ObjectStore>> {
    let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let builder = match builder.get_config_value(&key) {
        None => builder.with_config(key, REQUEST_TIMEOUT),
        Some(_) => builder,
    };
    builder.build().map(|s| Arc::new(s) as _)
}

/// Alibaba Cloud OSS speaks S3; the bucket's own host name is how it wants to be addressed.
fn oss(url: &Url) -> AmazonS3Builder {
    let bucket = url.host_str().unwrap_or_default();
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let variables = [
        ("OSS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
        ("OSS_ACCESS_KEY_SECRET", AmazonS3ConfigKey::SecretAccessKey),
        ("OSS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
        ("OSS_REGION", AmazonS3ConfigKey::Region),
    ];
    for (variable, key) in variables {
        if let Ok(value) = std::env::var(variable) {
            builder = builder.with_config(key, value);
        }
    }
    let Ok(endpoint) = std::env::var("OSS_ENDPOINT") else { return builder };
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint.as_str()));
    let host = host.trim_end_matches('/');
    let own =
        if host.starts_with(&format!("{bucket}.")) { host.to_owned() } else { format!("{bucket}.{host}") };
    builder
        .with_endpoint(format!("{scheme}://{own}"))
        .with_virtual_hosted_style_request(true)
        .with_allow_http(scheme == "http")
}

/// The URL without user and password, as builders want it.
fn bare(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs without a host, which hold neither.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.into()
}

/// The URL as it may be shown. A user stays where it is an address (`abfss://container@account…`).
fn display(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_password(None);
    if !matches!(url.scheme(), "abfs" | "abfss") {
        let _ = shown.set_username("");
    }
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

/// A text that is no URL, without what may be a password.
fn without_secrets(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

fn refuse<T>(location: &str, reason: &str) -> Result<T, ObjectsError> {
    Err(ObjectsError::Location { location: location.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_that_cannot_be_used_are_refused_and_never_show_a_secret() {
        for location in [
            "",
            "http://host/x",
            "https://u:geheim@host/x",
            "ftp://u:geheim@host",
            "://",
            "s3://b?key=geheim",
            "x://u:geheim@ h",
        ] {
            let error = open_target(location).expect_err(location);
            assert!(matches!(error, ObjectsError::Location { .. }), "{location}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn a_bucket_url_keeps_its_prefix_and_loses_its_password() {
        let target = open_target("s3://user:geheim@bucket/a/b/").expect("valid");
        assert_eq!(target.url(), "s3://bucket/a/b");
        assert_eq!(target.prefix.as_ref(), "a/b");
    }

    #[test]
    fn a_relative_folder_is_shown_as_an_absolute_path() {
        let target = open_target("some/vault").expect("valid");
        assert!(std::path::Path::new(target.url()).is_absolute());
        let target = open_target("file:///some/va%20ult").expect("valid");
        assert_eq!(target.url(), "/some/va ult");
    }
}
