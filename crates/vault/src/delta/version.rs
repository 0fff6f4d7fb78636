//! One version of a table's Delta log: as it is written, and as it is read back.
//!
//! Invariant: a version that is read is byte for byte what Keepfast writes for what it says. So nothing can be put in that
//! readers obey and Keepfast does not look at. Its `commitInfo` has a checksum of its name and text: a version that was changed, or
//! stands under another name, is found by itself.

use keepfast_model::Hash256;
use serde::Deserialize;
use serde_json::{Value, json};

/// A version of a Delta table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaVersion(pub u64);

/// A file of a base, as the log states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub bytes: u64,
    pub rows: u64,
}

/// What a log says of its table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Metadata {
    pub id: String,
    pub name: String,
    #[serde(rename = "schemaString")]
    pub schema: String,
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Milliseconds since 1970.
    pub at: i64,
    pub operation: String,
    pub engine: String,
    /// Whether readers must know timestamps without zone; none where it was said before.
    pub without_zone: Option<bool>,
    pub metadata: Option<Metadata>,
    /// Paths and sizes.
    pub removes: Vec<(String, u64)>,
    pub adds: Vec<(String, File)>,
}

impl Version {
    /// The bytes of this version under this name.
    pub fn encode(&self, name: &str) -> String {
        let sum = Hash256::of([name, "\n", &self.text(Some(""))].concat().as_bytes());
        self.text(Some(&sum.to_string()))
    }

    /// The version of this name that has these bytes, or what is wrong with them.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let mut version = Self::default();
        let mut has_sum = false;
        for line in text.lines() {
            let action: Action = serde_json::from_str(line).map_err(|e| e.to_string())?;
            if let Some(info) = action.commit_info {
                (version.at, version.operation, version.engine) =
                    (info.timestamp, info.operation, info.engine);
                has_sum = info.sum.is_some();
            }
            if let Some(protocol) = action.protocol {
                version.without_zone = Some(protocol.reader >= WITHOUT_ZONE);
            }
            version.metadata = action.metadata.or(version.metadata);
            if let Some(file) = action.remove {
                version.removes.push((file.path, file.size));
            }
            if let Some(file) = action.add {
                let stats: Stats =
                    serde_json::from_str(&file.stats.unwrap_or_default()).map_err(|e| e.to_string())?;
                version.adds.push((file.path, File { bytes: file.size, rows: stats.rows }));
            }
        }
        // Vaults may hold versions without one; those are held to the rest.
        let expected = if has_sum { version.encode(name) } else { version.text(None) };
        match expected == text {
            true => Ok(version),
            false => Err("it is not what Keepfast wrote there".into()),
        }
    }

    fn text(&self, sum: Option<&str>) -> String {
        let mut info = json!({
            "timestamp": self.at, "operation": self.operation, "operationParameters": {}, "engineInfo": self.engine,
        });
        if let Some(sum) = sum {
            info["sum"] = sum.into();
        }
        let mut actions = vec![json!({"commitInfo": info})];
        actions.extend(self.without_zone.map(|without_zone| match without_zone {
            true => json!({"protocol": {
                "minReaderVersion": WITHOUT_ZONE, "minWriterVersion": 7,
                "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
            }}),
            false => json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        }));
        actions.extend(self.metadata.as_ref().map(|metadata| {
            json!({"metaData": {
                "id": metadata.id, "name": metadata.name, "format": {"provider": "parquet", "options": {}},
                "schemaString": metadata.schema, "partitionColumns": [], "configuration": {}, "createdTime": self.at,
            }})
        }));
        actions.extend(self.removes.iter().map(|(path, bytes)| {
            json!({"remove": {
                "path": path, "deletionTimestamp": self.at, "dataChange": true, "extendedFileMetadata": true,
                "partitionValues": {}, "size": bytes,
            }})
        }));
        actions.extend(self.adds.iter().map(|(path, file)| {
            json!({"add": {
                "path": path, "partitionValues": {}, "size": file.bytes, "modificationTime": self.at,
                "dataChange": true, "stats": json!({"numRecords": file.rows}).to_string(),
            }})
        }));
        actions.iter().map(|action: &Value| format!("{action}\n")).collect()
    }
}

/// The version of the protocol in which readers are told of timestamps without zone.
const WITHOUT_ZONE: u64 = 3;

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "commitInfo")]
    commit_info: Option<CommitInfo>,
    protocol: Option<Protocol>,
    #[serde(rename = "metaData")]
    metadata: Option<Metadata>,
    remove: Option<NamedFile>,
    add: Option<NamedFile>,
}

#[derive(Deserialize)]
struct CommitInfo {
    timestamp: i64,
    operation: String,
    #[serde(rename = "engineInfo")]
    engine: String,
    sum: Option<String>,
}

#[derive(Deserialize)]
struct Protocol {
    #[serde(rename = "minReaderVersion")]
    reader: u64,
}

#[derive(Deserialize)]
struct NamedFile {
    path: String,
    size: u64,
    stats: Option<String>,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(rename = "numRecords")]
    rows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version() -> Version {
        Version {
            at: 1,
            operation: "CREATE TABLE".into(),
            engine: "keepfast 0".into(),
            without_zone: Some(false),
            metadata: Some(Metadata { id: "i".into(), name: "n \"q\"".into(), schema: "{}".into() }),
            removes: vec![("segments/a".into(), 3)],
            adds: vec![("segments/b".into(), File { bytes: 4, rows: 5 })],
        }
    }

    #[test]
    fn a_version_is_read_under_its_own_name_and_whole_or_not_at_all() {
        let text = version().encode("t/0");
        assert_eq!(Version::decode("t/0", text.as_bytes()), Ok(version()));
        assert!(Version::decode("t/1", text.as_bytes()).is_err());
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(Version::decode("t/0", &changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Version::decode("t/0", &text.as_bytes()[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn what_keepfast_does_not_write_is_refused_also_without_a_checksum() {
        let text = version().text(None);
        assert_eq!(Version::decode("t/0", text.as_bytes()), Ok(version()));
        for (of, instead) in [
            ("\"dataChange\":true,\"stats\"", "\"dataChange\":true,\"deletionVector\":{},\"stats\""),
            ("\"configuration\":{}", "\"configuration\":{\"delta.columnMapping.mode\":\"name\"}"),
            ("\"size\":4", "\"size\":9,\"size\":4"),
            ("}}\n{\"add\"", "}}\n\n{\"add\""),
            ("\"sum\"", "\"sun\""),
        ] {
            let source = if of == "\"sum\"" { version().encode("t/0") } else { text.clone() };
            let changed = source.replacen(of, instead, 1);
            assert_ne!(changed, source, "{of}");
            assert!(Version::decode("t/0", changed.as_bytes()).is_err(), "{instead}");
        }
    }
}
