//! What durable writes and a check cost on a folder: `vault_speed FOLDER [SEGMENTS] [KILOBYTES]`.
//!
//! Writes segments of random bytes one by one with a sync each, then deferred with one barrier, commits them, and
//! checks the vault. The folder must not exist and is left behind.

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_objects::{Target, open_target};
use std::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("name a folder")?;
    let segments: usize = arguments.next().as_deref().unwrap_or("2000").parse()?;
    let bytes: usize = arguments.next().as_deref().unwrap_or("200").parse::<usize>()? << 10;
    let target = open_target(&folder)?;
    let mut seed = vec![0u8; bytes + segments];
    blake3::Hasher::new().finalize_xof().fill(&mut seed);
    let seed = Bytes::from(seed);
    let total = (segments * bytes) as f64 / 1e6;
    let report = |what: &str, from: Instant| {
        let seconds = from.elapsed().as_secs_f64();
        eprintln!("{what:<28} {seconds:>7.2} s {:>8.0} MB/s", total / seconds);
    };
    let write = |target: Target, deferred: bool| {
        let seed = seed.clone();
        async move {
            let name = |i: usize| format!("tables/{deferred}/segments/{i:06}");
            futures::stream::iter(0..segments)
                .map(|i| {
                    let (target, piece) = (target.clone(), seed.slice(i..i + bytes));
                    async move {
                        match deferred {
                            true => target.put_content(&name(i), piece).await,
                            false => target.put_new(&name(i), piece).await,
                        }
                    }
                })
                .buffer_unordered(8)
                .try_collect::<Vec<_>>()
                .await
        }
    };
    let start = Instant::now();
    write(target.clone(), true).await?;
    report("deferred, without barrier", start);
    target.sync().await?;
    report("deferred, with barrier", start);
    let start = Instant::now();
    write(target.clone(), false).await?;
    report("synced one by one", start);
    for parallel in [1, 2, 8] {
        let start = Instant::now();
        let names = (0..segments).map(|i| format!("tables/true/segments/{i:06}"));
        futures::stream::iter(names)
            .map(|name| {
                let target = target.clone();
                async move { target.hash(&name).await }
            })
            .buffer_unordered(parallel)
            .try_collect::<Vec<_>>()
            .await?;
        report(&format!("hashed, {parallel} at once"), start);
    }
    Ok(())
}
