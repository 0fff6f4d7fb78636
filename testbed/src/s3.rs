//! What tests ask of an S3 server beyond objects: buckets, temporary credentials, versions.

use crate::{S3_PASSWORD, S3_URL, S3_USER};
use bytes::Bytes;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::{ClientOptions, HeaderValue};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

const REGION: &str = "us-east-1";

/// Settings of a target by name, as `keepfast_objects::open_target_with` takes them.
pub type Settings = BTreeMap<String, String>;

/// The S3 server of this run, with the rights of its owner.
#[derive(Debug)]
pub struct S3 {
    url: String,
    credential: AwsCredential,
    http: HttpClient,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The texts of all elements of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.body.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
    }

    /// The text of the first element of this name; empty where there is none.
    pub fn first(&self, name: &str) -> &str {
        self.all(name).into_iter().next().unwrap_or_default()
    }
}

/// What temporary credentials may do with one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read, list and add; neither delete nor lock.
    Append,
    /// Read, list, add and lock; not delete.
    AppendAndLock,
    /// Read and list.
    Read,
}

impl Rights {
    /// The policy, as the documentation shows it.
    pub fn policy(self, bucket: &str) -> String {
        let mut objects = vec!["s3:GetObject"];
        let mut buckets = vec!["s3:ListBucket"];
        if self != Self::Read {
            objects.push("s3:PutObject");
        }
        if self == Self::AppendAndLock {
            objects.extend(["s3:PutObjectRetention", "s3:GetObjectRetention", "s3:GetObjectVersion"]);
            buckets.extend(["s3:GetBucketObjectLockConfiguration", "s3:ListBucketVersions"]);
        }
        let list =
            |actions: &[&str]| actions.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(",");
        format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[\
             {{\"Effect\":\"Allow\",\"Action\":[{}],\"Resource\":[\"arn:aws:s3:::{bucket}\"]}},\
             {{\"Effect\":\"Allow\",\"Action\":[{}],\"Resource\":[\"arn:aws:s3:::{bucket}/*\"]}}]}}",
            list(&buckets),
            list(&objects)
        )
    }
}

/// The server of this run. Without one the test says that it is skipped, and must end.
pub fn server_or_skip(test: &str) -> Option<S3> {
    match S3::from_env() {
        Some(server) => Some(server),
        None => {
            // Not `print!`, which the test harness keeps for itself.
            let line = format!("\nSKIPPED {test}: no S3 server; `cargo xtask test` starts one\n");
            let _ = std::io::stdout().write_all(line.as_bytes());
            None
        }
    }
}

impl S3 {
    /// The server that the environment names.
    pub fn from_env() -> Option<Self> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (url, key_id, secret_key) = (var(S3_URL)?, var(S3_USER)?, var(S3_PASSWORD)?);
        let http = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).ok()?;
        Some(Self { url, credential: AwsCredential { key_id, secret_key, token: None }, http })
    }

    /// Settings of a target on this server with the owner's rights.
    pub fn settings(&self) -> Settings {
        self.settings_of(&self.credential)
    }

    fn settings_of(&self, credential: &AwsCredential) -> Settings {
        let mut settings: Settings = [
            ("aws_endpoint", self.url.as_str()),
            ("aws_region", REGION),
            ("aws_access_key_id", &credential.key_id),
            ("aws_secret_access_key", &credential.secret_key),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        settings.extend(credential.token.clone().map(|token| ("aws_session_token".to_owned(), token)));
        settings
    }

    /// Environment variables of a program that uses this server with these settings.
    pub fn variables(settings: &Settings) -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| (name.to_ascii_uppercase(), value.clone())).collect()
    }

    /// Makes a bucket with a name of its own, with object lock or without.
    ///
    /// # Panics
    /// When the server refuses: the test has failed then.
    pub async fn new_bucket(&self, name: &str, lock: bool) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("{name}-{}-{number}", std::process::id());
        let headers: &[_] = if lock { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
        let made = self.request("PUT", &format!("/{bucket}"), headers, Bytes::new()).await;
        assert_eq!(made.status, 200, "{made:?}");
        bucket
    }

    /// Lets the bucket lock every new object by itself.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn set_default_retention(&self, bucket: &str, mode: &str, days: u32) {
        let body = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>{mode}</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let set = self.request("PUT", &format!("/{bucket}?object-lock="), &[], body.into()).await;
        assert_eq!(set.status, 200, "{set:?}");
    }

    /// Settings of a target with temporary credentials that may do only this.
    ///
    /// # Panics
    /// When the server gives none.
    pub async fn limited(&self, bucket: &str, rights: Rights) -> Settings {
        let body = format!(
            "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={}",
            encoded(&rights.policy(bucket))
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.signed("sts", "POST", "/", &headers, body.into()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.settings_of(&AwsCredential {
            key_id: answer.first("AccessKeyId").to_owned(),
            secret_key: answer.first("SecretAccessKey").to_owned(),
            token: Some(answer.first("SessionToken").to_owned()),
        })
    }

    /// Tries to remove one version of an object for good, as a thief with all rights would.
    pub async fn delete_version(&self, bucket: &str, key: &str, version: &str) -> Answer {
        let headers = [("x-amz-bypass-governance-retention", "true")];
        self.request("DELETE", &format!("/{bucket}/{key}?versionId={version}"), &headers, Bytes::new()).await
    }

    /// Replaces an object, whether it is there or not, as a thief would.
    pub async fn overwrite(&self, bucket: &str, key: &str, bytes: Bytes) -> Answer {
        self.request("PUT", &format!("/{bucket}/{key}"), &[], bytes).await
    }

    /// One request with the owner's rights; it is not repeated. The path is encoded.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Answer {
        self.signed("s3", method, path, headers, body).await
    }

    async fn signed(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut http = HttpRequest::new(HttpRequestBody::from(body));
        *http.method_mut() = method.parse().expect("a method");
        *http.uri_mut() = format!("{}{path}", self.url).parse().expect("a URL");
        for (name, value) in headers {
            http.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
        }
        AwsAuthorizer::new(&self.credential, service, REGION).authorize(&mut http, None);
        let response = self.http.execute(http).await.expect("the server answers");
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.expect("a body");
        Answer { status, body: String::from_utf8_lossy(&body).into_owned() }
    }
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
