//! Commands that tell applications to stop writing for the moment of a cut, and to go on.

use crate::options::Pause;
use keepfast_store::{Result, StoreError};
use std::future::Future;
use std::io;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Bytes of a command's words that an error repeats.
const TAIL: usize = 200;

/// Does something while the applications pause, if there is a command for it. They are told to go on whatever happens, also when the
/// caller goes away.
pub(crate) async fn paused<T>(hook: Option<&Pause>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(hook) = hook else { return work.await };
    let mut again = Again(Some(hook));
    let done = async {
        let child = start(&hook.pause)
            .map_err(|e| unavailable("pause the application", &hook.pause, e.to_string()))?;
        ended("pause the application", &hook.pause, child, hook).await?;
        let late = |_| {
            let why = format!("the moment was not had within {} s", hook.limit.as_secs());
            unavailable("read while the application pauses", &hook.pause, why)
        };
        timeout(hook.limit, work).await.map_err(late)?
    };
    let done = done.await;
    const RESUME: &str = "tell the application to go on, which may still be paused: run the command by hand";
    again.0 = None;
    let resumed = match start(&hook.resume) {
        Ok(child) => ended(RESUME, &hook.resume, child, hook).await,
        Err(e) => Err(unavailable(RESUME, &hook.resume, e.to_string())),
    };
    // That it stands still is worse than that there is no backup.
    resumed.and(done)
}

/// Resumes when it is dropped.
struct Again<'a>(Option<&'a Pause>);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take() {
            let [program, arguments @ ..] = hook.resume.as_slice() else { return };
            let started = std::process::Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            if let Err(e) = started {
                tracing::error!(program, error = %e, "the application was paused and cannot be told to go on");
            }
        }
    }
}

fn start(words: &[String]) -> io::Result<Child> {
    let [program, arguments @ ..] = words else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

/// Waits for a command, which must end well and in time.
async fn ended(what: &'static str, words: &[String], mut child: Child, hook: &Pause) -> Result<()> {
    let said = tokio::spawn(tail(child.stderr.take()));
    let status = match timeout(hook.limit, child.wait()).await {
        Ok(status) => status.map_err(|e| unavailable(what, words, e.to_string()))?,
        Err(_) => {
            let _ = child.start_kill();
            return Err(unavailable(what, words, format!("it ran for more than {} s", hook.limit.as_secs())));
        }
    };
    if status.success() {
        return Ok(());
    }
    // What it started may hold on to the pipe.
    let said = timeout(std::time::Duration::from_millis(500), said).await;
    let said = said.ok().and_then(|said| said.ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&said);
    Err(unavailable(what, words, format!("it ended with {status}: {}", text.trim())))
}

/// The last bytes of a stream, which is read to its end.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut last, mut bytes) = (vec![], [0; 1024]);
    let Some(mut stream) = stream else { return last };
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        last.extend(&bytes[..read]);
        last.drain(..last.len().saturating_sub(TAIL));
    }
    last
}

/// The program is named; its arguments may be secrets.
fn unavailable(what: &str, words: &[String], why: String) -> StoreError {
    let object = format!("'{}'", words.first().map(String::as_str).unwrap_or_default());
    StoreError::Unavailable { what: what.to_owned(), object, source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn hook(folder: &std::path::Path, pause: &str) -> Pause {
        let shell = |script: String| vec!["sh".to_owned(), "-c".to_owned(), script];
        let log = folder.join("log").display().to_string();
        Pause {
            pause: shell(format!("echo pause >> {log}; {pause}")),
            resume: shell(format!("echo resume >> {log}")),
            limit: Duration::from_secs(1),
        }
    }

    fn log(folder: &std::path::Path) -> String {
        std::fs::read_to_string(folder.join("log")).unwrap_or_default()
    }

    #[tokio::test]
    async fn an_application_is_told_to_go_on_whatever_happens() {
        let folder = tempfile::tempdir().unwrap();
        let work = async { Ok(log(folder.path())) };
        assert_eq!(paused(Some(&hook(folder.path(), "true")), work).await.unwrap(), "pause\n");
        assert_eq!(log(folder.path()), "pause\nresume\n");

        let fails = hook(folder.path(), "echo no such queue >&2; exit 3");
        let refused = paused(Some(&fails), async { Ok(()) }).await.unwrap_err().to_string();
        assert!(refused.contains("pause the application"), "{refused}");
        assert_eq!(log(folder.path()), "pause\nresume\npause\nresume\n");

        let hangs = hook(folder.path(), "sleep 20");
        assert!(paused(Some(&hangs), async { Ok(()) }).await.is_err());
        let long = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok(())
        };
        assert!(paused(Some(&hook(folder.path(), "true")), long).await.is_err());
        assert_eq!(log(folder.path()).lines().filter(|line| *line == "resume").count(), 4);

        // The caller goes away.
        let never = std::future::pending::<Result<()>>();
        let last = hook(folder.path(), "true");
        let _ = timeout(Duration::from_millis(300), paused(Some(&last), never)).await;
        for _ in 0..50 {
            if log(folder.path()).lines().filter(|line| *line == "resume").count() == 5 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it still pauses: {}", log(folder.path()));
    }
}
