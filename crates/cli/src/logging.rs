//! Logs on standard error: `RUST_LOG` decides where it is set, else the number of `-v`.

use tracing_subscriber::EnvFilter;

/// Starts logging. Nothing that is logged holds a secret: URLs are logged without user, password and query.
pub fn start(verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(match verbose {
            0 => "error,keepfast=warn",
            1 => "warn,keepfast=info",
            2 => "info,keepfast=debug",
            _ => "debug,keepfast=trace",
        })
    });
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(verbose > 1)
        .try_init();
    // It fails only where logging was started before, and then logs go there.
    drop(logging);
}
