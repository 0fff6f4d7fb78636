//! A vault with three tables and ten points, plain or with keys: what is damaged in every way.

use super::*;
use keepfast_keys::Credentials;
use keepfast_vault::{CheckOptions, CheckReport, Log, RepairReport};

/// Whether the vault has keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    No,
    /// `orders` is encrypted whole, of `items` one column, `customers` not at all; the keys were rotated once.
    Yes,
}

pub struct Made {
    pub store: Arc<InMemory>,
    keys: Keys,
}

/// Full, three increments, full, three increments, a compaction, an increment. Tables that are not encrypted have Delta logs.
pub async fn ten_points(parity: Option<Parity>, keys: Keys) -> Made {
    let made = Made { store: Arc::new(InMemory::new()), keys };
    let options = CreateOptions { environment: made.environment(9), ..CreateOptions::default() };
    let vault = Vault::create(memory(made.store.clone()), &options).await.unwrap();
    let to = backup("shop");
    if keys == Keys::Yes {
        let id = |table| Vault::table_id(&to, "columnar", &TableName::bare(table), &Selection::default());
        let columns = vec![schema().columns[1].id];
        vault.encrypt_table(&id("orders"), &Encryption::Full).await.unwrap();
        vault.encrypt_table(&id("items"), &Encryption::Columns { columns }).await.unwrap();
    }
    let text = |n: usize| format!("{n:02} {}", "row ".repeat(3 + n % 5));
    for point in 1..=10 {
        let mut samples = vec![];
        for (name, segments) in [("customers", 1), ("items", 3), ("orders", 6)] {
            // What a base holds: the second full shares most of the first, and the compaction most of that.
            let (base, since) = match point {
                1..=4 => (0, 1),
                5..=8 => (1, 5),
                _ => (2, 9),
            };
            let texts =
                (0..segments).map(|n| format!("{name} {}", text(if n == 0 { n + base * 50 } else { n })));
            let changes = (since + 1..=point).map(|p| format!("{name} change of {p}")).collect();
            samples.push(Sample { name, base: texts.collect(), changes, parity });
        }
        back_up(&vault, &to, &format!("r{point}"), &samples).await.unwrap();
        for table in &vault.latest(&to).await.unwrap().tables {
            if table.encryption == Encryption::None {
                let base = vault.read_manifests(table).await.unwrap().base;
                vault.project_delta(table, &base).await.unwrap();
            }
        }
        if keys == Keys::Yes && point == 6 {
            vault.rotate_keys().await.unwrap();
        }
    }
    made
}

impl Made {
    pub fn environment(&self, seed: u64) -> Environment {
        let credentials = match self.keys {
            Keys::No => Credentials::default(),
            Keys::Yes => Credentials::passphrase("words of a test"),
        };
        Environment { credentials, ..world(seed).environment }
    }

    pub async fn open(&self, store: Arc<InMemory>) -> Result<Vault, VaultError> {
        Vault::open_with(memory(store), self.environment(5)).await
    }

    pub async fn log(&self) -> Log {
        self.open(fork(&self.store)).await.unwrap().log().await.unwrap()
    }

    pub async fn check(&self, store: Arc<InMemory>) -> CheckReport {
        let checked =
            Vault::check_place(memory(store), self.environment(5), &CheckOptions::default(), &()).await;
        checked.unwrap()
    }

    pub async fn repair(&self, store: Arc<InMemory>) -> RepairReport {
        Vault::repair_place(memory(store), self.environment(5), None, &()).await.unwrap()
    }

    /// The vault with another object in it, or without that.
    pub async fn with(&self, name: &str, bytes: Option<Bytes>) -> Arc<InMemory> {
        let store = fork(&self.store);
        tamper(&*store, name, bytes).await;
        store
    }
}

/// The bytes with one bit changed.
pub fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1 << (at % 8);
    changed.into()
}
