//! Signed requests to one bucket.

use bytes::Bytes;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{ClientOptions, Error, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const STORE: &str = "S3";

/// Tries of one request; it waits between them, twice as long each time.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Keeps the HTTP client that a store makes for itself, so that other requests use the same options and connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keep(Arc<Mutex<Option<HttpClient>>>);

impl HttpConnector for Keep {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        // The store's own client is the last one it asks for, after those for credentials.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

impl Keep {
    pub(crate) fn kept(&self) -> Option<HttpClient> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Signed requests to the bucket of a store.
#[derive(Debug)]
pub(crate) struct Client {
    store: AmazonS3,
    http: HttpClient,
    region: String,
}

/// What a request is about.
pub(super) struct Request<'a> {
    pub method: &'static str,
    /// The object; none means the bucket.
    pub path: Option<&'a Path>,
    /// Without the question mark; values are encoded.
    pub query: String,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: Bytes,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: Option<&'a Path>, query: impl Into<String>) -> Self {
        Self { method: "GET", path, query: query.into(), headers: &[], body: Bytes::new() }
    }
}

/// What the server said.
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
}

impl Answer {
    /// The code of an error, such as `NoSuchKey`.
    pub(super) fn code(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        super::xml::first(&body, "Code").unwrap_or_default().to_owned()
    }

    /// The body where it is one of success.
    pub(super) fn success(self, path: &str) -> object_store::Result<Bytes> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let code = self.code();
        let body = String::from_utf8_lossy(&self.body);
        let message = super::xml::first(&body, "Message").map(super::xml::text).unwrap_or_default();
        let source = format!("the server answered {} {code} {message}", self.status).trim_end().into();
        let path = path.to_owned();
        Err(match self.status {
            401 | 403 => Error::PermissionDenied { path, source },
            404 => Error::NotFound { path, source },
            _ => Error::Generic { store: STORE, source },
        })
    }
}

impl Client {
    pub(crate) fn new(store: AmazonS3, http: HttpClient, region: String) -> Self {
        Self { store, http, region }
    }

    /// Sends a request that may be repeated, again where the server is busy or the line breaks.
    pub(super) async fn send(&self, request: &Request<'_>) -> object_store::Result<Answer> {
        let mut wait = FIRST_WAIT;
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            match self.send_once(request).await {
                Ok(answer) if !last && (answer.status >= 500 || answer.status == 429) => {}
                Err(_) if !last => {}
                other => return other,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the last try returns")
    }

    async fn send_once(&self, request: &Request<'_>) -> object_store::Result<Answer> {
        let invalid =
            |e: &dyn std::fmt::Display| Error::Generic { store: STORE, source: e.to_string().into() };
        let url = format!("{}?{}", self.url(request.path).await?, request.query);
        let mut http = HttpRequest::new(HttpRequestBody::from(request.body.clone()));
        *http.method_mut() = request.method.parse().map_err(|e| invalid(&e))?;
        *http.uri_mut() = url.parse().map_err(|e| invalid(&e))?;
        if !request.body.is_empty() {
            // S3 takes a change of a lock only with a checksum.
            let sum = ring::digest::digest(&ring::digest::SHA256, &request.body);
            let sum = HeaderValue::from_str(&base64(sum.as_ref())).map_err(|e| invalid(&e))?;
            http.headers_mut().insert("x-amz-checksum-sha256", sum);
            http.headers_mut().insert("x-amz-sdk-checksum-algorithm", HeaderValue::from_static("SHA256"));
        }
        for (name, value) in request.headers {
            http.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        let credential = self.store.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).authorize(&mut http, None);
        let response = self.http.execute(http).await.map_err(|e| self.unreachable(e))?;
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.map_err(|e| self.unreachable(e))?;
        Ok(Answer { status, body })
    }

    fn unreachable(&self, e: object_store::client::HttpError) -> Error {
        Error::Generic { store: STORE, source: Box::new(e) }
    }

    /// The address of an object, or of the bucket, as the store itself uses it.
    async fn url(&self, path: Option<&Path>) -> object_store::Result<String> {
        let probe = Path::from("x");
        let get = "GET".parse().map_err(|_| Error::Generic { store: STORE, source: "no GET".into() })?;
        let mut url = self.store.signed_url(get, path.unwrap_or(&probe), Duration::from_secs(60)).await?;
        url.set_query(None);
        let url = String::from(url);
        Ok(match path {
            Some(_) => url,
            None => url.strip_suffix("/x").unwrap_or(&url).to_owned(),
        })
    }
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

/// A value of a query, encoded as signatures want it.
pub(super) fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_everybody_does() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn every_byte_that_is_not_plain_is_encoded() {
        assert_eq!(encoded("a/b c+d~é"), "a%2Fb%20c%2Bd~%C3%A9");
    }
}
