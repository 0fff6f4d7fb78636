//! From a location text to a target: folders and URLs of object stores.
//!
//! Credentials and endpoints come from the environment, never from the location: what is shown is what was given,
//! without a password or a query.

use crate::error::ObjectsError;
use crate::folder::FolderStore;
use crate::immutability::Immutability;
use crate::s3;
use crate::target::Target;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeMap;
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
    open_target_with(location, &Settings::new())
}

/// Settings of an object store by name, such as `aws_access_key_id`; they count before the environment.
pub type Settings = BTreeMap<String, String>;

/// As [`open_target`], with settings that the environment does not hold. A folder needs none.
///
/// # Errors
/// As [`open_target`], and for a setting that the kind of place does not know.
pub fn open_target_with(location: &str, settings: &Settings) -> Result<Target, ObjectsError> {
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
    let cloud = |store: Result<Arc<dyn ObjectStore>, String>| match store {
        Ok(store) => Ok(Target::new(store, prefix()?, shown.trim_end_matches('/'))),
        Err(reason) => refuse(&shown, &reason),
    };
    match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) => folder(&path, &path.to_string_lossy()),
            Err(()) => refuse(&shown, "a file URL has the form file:///path"),
        },
        "s3" | "s3a" => match amazon(AmazonS3Builder::from_env().with_url(bare(&url)), settings) {
            Ok((store, locks)) => Ok(cloud(Ok(store))?.with_immutability(locks)),
            Err(e) => refuse(&shown, &e),
        },
        // Its locks are on whole buckets and of another kind.
        "oss" => cloud(amazon(oss(&url), settings).map(|(store, _)| store)),
        "gs" => cloud(google(&url, settings)),
        "az" | "azure" | "adl" | "abfs" | "abfss" => cloud(azure(&url, settings)),
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

/// A store, and its locks.
type Lockable = (Arc<dyn ObjectStore>, Arc<dyn Immutability>);

fn amazon(mut builder: AmazonS3Builder, settings: &Settings) -> Result<Lockable, String> {
    for (name, value) in settings {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| unknown(name))?;
        builder = builder.with_config(key, value);
    }
    let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let builder = match builder.get_config_value(&key) {
        None => builder.with_config(key, REQUEST_TIMEOUT),
        Some(_) => builder,
    };
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint);
    let builder = match endpoint.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint)) {
        Some(endpoint) => {
            let asked_for = asks_for_http(&builder);
            builder.with_allow_http(allows_http(&endpoint, asked_for)?)
        }
        None => builder,
    };
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let kept = s3::Keep::default();
    let store = builder.with_http_connector(kept.clone()).build().map_err(|e| e.to_string())?;
    let http = kept.kept().ok_or("the store uses no HTTP client")?;
    // The region that the store takes where none is set.
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let locks = s3::Client::new(store.clone(), http, region);
    Ok((Arc::new(store), Arc::new(locks)))
}

fn google(url: &Url, settings: &Settings) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_url(bare(url));
    for (name, value) in settings {
        let key: GoogleConfigKey = name.parse().map_err(|_| unknown(name))?;
        builder = builder.with_config(key, value);
    }
    // The library's own answer is yes, so that what it holds does not tell what somebody said.
    let allow_http = GoogleConfigKey::Client(ClientConfigKey::AllowHttp);
    let set =
        settings.iter().find(|(name, _)| name.parse().ok() == Some(allow_http)).map(|(_, said)| said.clone());
    let said = set.or_else(|| std::env::var("GOOGLE_ALLOW_HTTP").ok());
    let asked_for = said.is_some_and(|said| said.eq_ignore_ascii_case("true"));
    let allowed = match builder.get_config_value(&GoogleConfigKey::BaseUrl) {
        Some(endpoint) => allows_http(&endpoint, asked_for)?,
        None => asked_for,
    };
    builder = builder.with_config(allow_http, allowed.to_string());
    let key = GoogleConfigKey::Client(ClientConfigKey::Timeout);
    if builder.get_config_value(&key).is_none() {
        builder = builder.with_config(key, REQUEST_TIMEOUT);
    }
    Ok(Arc::new(builder.build().map_err(|e| e.to_string())?))
}

fn azure(url: &Url, settings: &Settings) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
    for (name, value) in settings {
        let key: AzureConfigKey = name.parse().map_err(|_| unknown(name))?;
        builder = builder.with_config(key, value);
    }
    if let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) {
        let asked_for = builder
            .get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp))
            .is_some_and(|v| v.eq_ignore_ascii_case("true"));
        builder = builder.with_allow_http(allows_http(&endpoint, asked_for)?);
    }
    let key = AzureConfigKey::Client(ClientConfigKey::Timeout);
    if builder.get_config_value(&key).is_none() {
        builder = builder.with_config(key, REQUEST_TIMEOUT);
    }
    Ok(Arc::new(builder.build().map_err(|e| e.to_string())?))
}

fn unknown(setting: &str) -> String {
    format!("there is no setting '{setting}'")
}

fn asks_for_http(builder: &AmazonS3Builder) -> bool {
    builder
        .get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp))
        .is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// Whether requests may go out unencrypted: to this machine, or where it was said so.
fn allows_http(endpoint: &str, asked_for: bool) -> Result<bool, String> {
    let Ok(url) = Url::parse(endpoint) else { return Ok(asked_for) };
    if url.scheme() != "http" {
        return Ok(asked_for);
    }
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match here || asked_for {
        true => Ok(true),
        false => Err(format!(
            "the endpoint {} is not encrypted; use https://, or allow it with AWS_ALLOW_HTTP=true, \
             AZURE_ALLOW_HTTP=true or GOOGLE_ALLOW_HTTP=true",
            display(&url)
        )),
    }
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
    fn unencrypted_endpoints_are_used_on_this_machine_or_when_allowed() {
        for here in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            assert_eq!(allows_http(here, false), Ok(true), "{here}");
        }
        assert_eq!(allows_http("http://u:geheim@s3.example.org", true), Ok(true));
        let refused = allows_http("http://u:geheim@s3.example.org", false).expect_err("unencrypted");
        assert!(refused.contains("AWS_ALLOW_HTTP") && !refused.contains("geheim"), "{refused}");
        assert_eq!(allows_http("https://s3.example.org", false), Ok(false));
        assert!(allows_http("http://127.0.0.1.example.org", false).is_err());
    }

    #[test]
    fn a_google_endpoint_is_encrypted_or_on_this_machine_or_allowed() {
        // A key file that asks for no token, so that nothing else is needed.
        let key = r#"{"client_email": "a", "private_key": "", "private_key_id": "", "disable_oauth": true}"#;
        let open = |endpoint: &str, more: &[(&str, &str)]| {
            let all = [("google_service_account_key", key), ("google_base_url", endpoint)];
            let settings = all.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string()));
            open_target_with("gs://bucket/a", &settings.collect())
        };
        let refused = open("http://gcs.example.org", &[]).expect_err("unencrypted").to_string();
        assert!(
            refused.contains("http://gcs.example.org") && refused.contains("GOOGLE_ALLOW_HTTP"),
            "{refused}"
        );
        let denied = open("http://gcs.example.org", &[("google_allow_http", "false")]);
        assert!(denied.is_err());
        open("http://gcs.example.org", &[("google_allow_http", "true")]).expect("allowed");
        open("http://127.0.0.1:4443", &[]).expect("this machine");
        open("https://gcs.example.org", &[]).expect("encrypted");
    }

    #[test]
    fn locks_are_a_capability_of_s3_and_of_nothing_else() {
        assert!(open_target("s3://bucket/a").expect("valid").immutability().is_some());
        for other in ["oss://bucket/a", "memory:", "some/folder"] {
            assert!(open_target(other).expect("valid").immutability().is_none(), "{other}");
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
