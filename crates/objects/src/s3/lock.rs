//! Object lock: retention of objects, and their versions.
//!
//! Requests and answers follow the S3 API reference: GetObjectLockConfiguration, PutObjectRetention,
//! GetObjectRetention, ListObjectVersions and GetObject with a version.

use super::client::{Client, Request, encoded};
use super::xml::{all, first, text};
use crate::immutability::{Immutability, Locking, ObjectVersion};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use keepfast_model::LockMode;
use object_store::Error;
use object_store::path::Path;

fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "COMPLIANCE",
        LockMode::Governance => "GOVERNANCE",
    }
}

fn strange(what: &str) -> Error {
    Error::Generic { store: "S3", source: format!("the server's answer to {what} is not understood").into() }
}

#[async_trait]
impl Immutability for Client {
    async fn locking(&self) -> object_store::Result<Option<Locking>> {
        let answer = self.send(&Request::get(None, "object-lock=")).await?;
        // Servers without the feature answer that they lack it, those with it that the bucket has none.
        if matches!(answer.code().as_str(), "ObjectLockConfigurationNotFoundError" | "NotImplemented") {
            return Ok(None);
        }
        let body = answer.success("the bucket")?;
        let body = String::from_utf8_lossy(&body);
        if first(&body, "ObjectLockEnabled") != Some("Enabled") {
            return Ok(None);
        }
        let default = first(&body, "DefaultRetention").and_then(|rule| {
            let mode = first(rule, "Mode")?.to_ascii_lowercase();
            let time = match (first(rule, "Days"), first(rule, "Years")) {
                (Some(days), _) => format!("{} days", text(days)),
                (_, Some(years)) => format!("{} years", text(years)),
                _ => return None,
            };
            Some(format!("{mode} for {time}"))
        });
        Ok(Some(Locking { default }))
    }

    async fn lock(&self, path: &Path, mode: LockMode, until: Timestamp) -> object_store::Result<()> {
        self.retain(path, mode, until, false).await
    }

    async fn harden(&self, path: &Path, until: Timestamp) -> object_store::Result<()> {
        self.retain(path, LockMode::Compliance, until, true).await
    }

    async fn locked(&self, path: &Path) -> object_store::Result<Option<(LockMode, Timestamp)>> {
        let answer = self.send(&Request::get(Some(path), "retention=")).await?;
        if answer.code() == "NoSuchObjectLockConfiguration" {
            return Ok(None);
        }
        let body = answer.success(path.as_ref())?;
        let body = String::from_utf8_lossy(&body);
        let lock = (|| {
            let mode = first(&body, "Mode")?.parse().ok()?;
            Some((mode, first(&body, "RetainUntilDate")?.parse().ok()?))
        })();
        lock.map(Some).ok_or_else(|| strange("a question about a lock"))
    }

    async fn versions(&self, prefix: &str) -> object_store::Result<Vec<ObjectVersion>> {
        let mut found = vec![];
        let mut from = String::new();
        loop {
            let query = format!("versions=&prefix={}{from}", encoded(prefix));
            let body = self.send(&Request::get(None, query)).await?.success("the bucket")?;
            let body = String::from_utf8_lossy(&body);
            for (name, deletion) in [("Version", false), ("DeleteMarker", true)] {
                for entry in all(&body, name) {
                    found.push(version(entry, deletion).ok_or_else(|| strange("a list of versions"))?);
                }
            }
            if first(&body, "IsTruncated") != Some("true") {
                break;
            }
            let next = |name| first(&body, name).map(text).unwrap_or_default();
            let (key, id) = (next("NextKeyMarker"), next("NextVersionIdMarker"));
            let marker = format!("&key-marker={}&version-id-marker={}", encoded(&key), encoded(&id));
            // A server that does not move on would never end.
            if key.is_empty() || marker == from {
                return Err(strange("a list of versions"));
            }
            from = marker;
        }
        found.sort_by(|a, b| {
            a.path.cmp(&b.path).then(b.latest.cmp(&a.latest)).then(b.modified.cmp(&a.modified))
        });
        Ok(found)
    }

    async fn read_version(&self, path: &Path, version: &str) -> object_store::Result<Bytes> {
        let request = Request::get(Some(path), format!("versionId={}", encoded(version)));
        self.send(&request).await?.success(path.as_ref())
    }
}

impl Client {
    /// Asks for a retention; with `bypass` also where one of governance stands, by the right to end it.
    async fn retain(
        &self,
        path: &Path,
        mode: LockMode,
        until: Timestamp,
        bypass: bool,
    ) -> object_store::Result<()> {
        // Whole seconds, never earlier than asked for.
        let seconds = until.as_second() + i64::from(until.subsec_nanosecond() > 0);
        let until = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>",
            word(mode)
        );
        let headers: &[_] = if bypass { &[("x-amz-bypass-governance-retention", "true")] } else { &[] };
        let query = "retention=".into();
        let request = Request { method: "PUT", path: Some(path), query, headers, body: body.into() };
        self.send(&request).await?.success(path.as_ref())?;
        Ok(())
    }
}

fn version(entry: &str, deletion: bool) -> Option<ObjectVersion> {
    Some(ObjectVersion {
        path: Path::parse(text(first(entry, "Key")?)).ok()?,
        id: text(first(entry, "VersionId")?),
        latest: first(entry, "IsLatest")? == "true",
        deletion,
        bytes: if deletion { 0 } else { first(entry, "Size")?.parse().ok()? },
        modified: first(entry, "LastModified")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_list_of_versions_is_read_and_a_broken_one_is_not() {
        let entry = "<Key>v/log/1.json</Key><VersionId>abc</VersionId><IsLatest>false</IsLatest>\
            <LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size>";
        let read = version(entry, false).expect("an entry");
        assert_eq!(
            (read.path.as_ref(), read.id.as_str(), read.bytes, read.latest),
            ("v/log/1.json", "abc", 7, false)
        );
        assert!(version(&entry.replace("<Size>7</Size>", ""), false).is_none());
        assert!(version(&entry.replace("<Size>7</Size>", ""), true).is_some());
    }
}
