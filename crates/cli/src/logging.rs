//! Logs on standard error: `RUST_LOG` decides where it is set, else the number of `-v`.

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Starts logging. Nothing that is logged holds a secret: URLs are logged without user, password and query, and libraries,
/// which log rows, statements and headers of requests, are not heard whatever `RUST_LOG` says.
pub fn start(verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(match verbose {
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        })
    });
    let ours = filter_fn(|metadata| metadata.target().starts_with("keepfast"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(verbose > 1)
        .with_filter(filter.and(ours));
    // It fails only where logging was started before, and then logs go there.
    drop(tracing_subscriber::registry().with(lines).try_init());
}
