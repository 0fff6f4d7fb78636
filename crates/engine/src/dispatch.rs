//! Runs tasks: as many at once as there are threads, in this process or in worker processes.
//!
//! The driver takes a task's result only from where the first finisher put it, so a task that runs twice, or whose
//! process dies after it finished, counts once.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::task::{Finished, Task, TaskResult};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use keepfast_keys::Credentials;
use keepfast_model::{ByteCount, Hash256, RunId};
use keepfast_vault::Vault;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Numbers of tasks that each process of a run has for itself, so that none takes another's result for its own.
const TASKS_A_PROCESS: u32 = 1 << 20;

/// How often a task is given to a new process after one died.
const ATTEMPTS: u32 = 3;

/// Bytes that one task aims at.
const TASK_BYTES: u64 = 32 << 20;
/// Fewer bytes are not worth a task of their own, nor a request to remember what reading them gave.
pub(crate) const TASK_BYTES_LEAST: u64 = 2 << 20;
/// Tasks for each thread, where there is enough for them: the last ones then end at about the same time.
const TASKS_A_THREAD: u64 = 8;
/// Jobs under way for each thread: while one waits for a file, another computes. Processes are one a thread.
const JOBS_A_THREAD: usize = 2;

/// The tasks of one run: their numbers, and what an earlier, interrupted process of it finished.
pub(crate) struct RunTasks {
    run: RunId,
    next: u32,
    finished: HashMap<Hash256, TaskResult>,
    kept: bool,
}

impl RunTasks {
    /// `kept` says whether another process could go on from their results; else they are not put anywhere.
    pub async fn of(vault: &Vault, run: &RunId, kept: bool) -> Result<Self> {
        let staged: BTreeMap<u32, Finished> = vault.task_results(run).await?;
        let next = match staged.keys().next_back() {
            Some(last) => (last / TASKS_A_PROCESS + 1) * TASKS_A_PROCESS,
            None => 0,
        };
        let finished = staged.into_values().map(|f| (f.task, f.result)).collect();
        Ok(Self { run: run.clone(), next, finished, kept })
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The number of the next task.
    pub fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// What this work gave, where it was finished: other options plan other partitions, under other numbers.
    pub fn finished(&self, work: &Hash256) -> Option<&TaskResult> {
        self.finished.get(work)
    }

    /// Keeps what work gave that is no task of its own, over what it gave before.
    pub async fn keep(&mut self, vault: &Vault, work: Hash256, result: TaskResult) -> Result<()> {
        let number = self.number();
        if self.kept {
            vault.put_task_result(&self.run, number, &Finished { task: work, result }).await?;
        }
        Ok(())
    }
}

impl Engine {
    /// A task of a run as a job: its result where it was finished before, else by a worker, else by `here`.
    pub(crate) fn job(
        &self,
        tasks: &RunTasks,
        vault: &Vault,
        task: Task,
        here: impl Future<Output = Result<TaskResult>> + Send + 'static,
    ) -> Result<BoxFuture<'static, Result<TaskResult>>> {
        let done = tasks.finished(&task.identity()?).cloned();
        let (engine, vault, kept) = (self.clone(), vault.clone(), tasks.kept);
        let job = async move {
            if let Some(done) = done {
                return Ok(done);
            }
            if let (Some(command), true) = (&engine.options.worker, kept) {
                return engine.in_worker(command, &vault, &task).await;
            }
            let result = here.await?;
            if kept && task.bytes().is_none_or(|bytes| bytes.0 >= TASK_BYTES_LEAST) {
                task.put_result(&vault, result.clone()).await?;
            }
            Ok(result)
        };
        Ok(job.boxed())
    }

    /// Into how many tasks work of so many bytes is cut.
    pub(crate) fn tasks_for(&self, bytes: ByteCount) -> u32 {
        let threads = self.options.threads.max(1) as u64;
        let even = (threads * TASKS_A_THREAD).min(bytes.0 / TASK_BYTES_LEAST + 1);
        even.max(bytes.0 / TASK_BYTES + 1).max(threads * 2).min(100_000) as u32
    }

    /// Runs all jobs, several at once, each on its own tokio task; the first error ends the rest. Results in order.
    ///
    /// They begin in an order in which those side by side are far apart: neighbours of a plan wait for the same server.
    pub(crate) async fn in_parallel<T, F, J>(&self, jobs: J) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        J: IntoIterator<Item = F>,
    {
        let threads = self.options.threads.max(1);
        let at_once = if self.options.worker.is_some() { threads } else { threads * JOBS_A_THREAD };
        // A job that takes long must not keep the next ones waiting, so results come as they are ready.
        let mut jobs: Vec<(u32, F)> = (0..).zip(jobs).collect();
        jobs.sort_by_key(|(at, _)| at.reverse_bits());
        let mut results: Vec<(u32, T)> = futures::stream::iter(jobs)
            .map(|(at, job)| async move { Ok::<_, EngineError>((at, AbortOnDrop::spawn(job).wait().await?)) })
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        results.sort_unstable_by_key(|(at, _)| *at);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    /// Runs a task in a process of its own and reads its result from the vault.
    pub(crate) async fn in_worker(
        &self,
        command: &[String],
        vault: &Vault,
        task: &Task,
    ) -> Result<TaskResult> {
        let (run, number, identity) = (task.run(), task.number(), task.identity()?);
        let failed = |reason: String| EngineError::Task { task: number, reason };
        let json = serde_json::to_vec(task).map_err(|e| failed(e.to_string()))?;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let ended = tokio::select! {
                ended = run_process(command, &json, &self.options.surroundings.vault.credentials) => ended,
                () = self.options.cancel.cancelled() => return Err(EngineError::Interrupted),
            };
            if let Err(reason) = ended {
                last = reason;
            }
            // Also after a failure: the process may have died after its result was safe.
            match vault.task_result::<Finished>(run, number).await? {
                Some(finished) if finished.task == identity => return Ok(finished.result),
                Some(_) => {
                    return Err(failed(
                        "another task left a result under its number; run the command again".into(),
                    ));
                }
                None => {}
            }
        }
        Err(failed(if last.is_empty() { "it left no result".into() } else { last }))
    }
}

/// The variable by which a worker gets a passphrase.
const PASSPHRASE: &str = "KEEPFAST_PASSPHRASE";

async fn run_process(command: &[String], task: &[u8], credentials: &Credentials) -> Result<(), String> {
    let (program, args) = command.split_first().ok_or("no worker program is configured")?;
    let mut process = Command::new(program);
    // The worker inherits the variable where there is one, and its command names the files.
    let inherited = std::env::var_os(PASSPHRASE).is_some_and(|text| !text.is_empty());
    if let Some(passphrase) = credentials.first_passphrase().filter(|_| !inherited) {
        process.env(PASSPHRASE, passphrase.expose());
    }
    let mut child = process
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A process that dies at once closes its end; its exit tells more than the broken pipe.
        let _ = stdin.write_all(task).await;
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(64 * 1024).read_to_end(&mut said).await;
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("no message").trim().to_owned();
    Err(format!("{status}: {line}"))
}

/// A tokio task that ends when nobody waits for it any more.
pub(crate) struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<Result<T>> {
    pub fn spawn(task: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    pub async fn wait(mut self) -> Result<T> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(EngineError::Interrupted),
        }
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
