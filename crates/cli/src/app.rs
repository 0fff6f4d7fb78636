//! What every verb works with: the options, the stores, the engine, the output.

use crate::args::{Global, WorkersArg};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress;
use crate::stores::{Limits, Stores};
use keepfast_config::{BackupConfig, Config};
use keepfast_engine::api::{BackupDefaults, Require, RetainTerms};
use keepfast_engine::{Cancel, Engine, EngineOptions, Surroundings};
use keepfast_keys::Credentials;
use keepfast_vault::Environment;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One run of the program.
#[derive(Debug)]
pub struct App {
    /// Options of every verb.
    pub global: Global,
    /// The configuration.
    pub config: Config,
    /// Standard output.
    pub out: Output,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    stores: Arc<Stores>,
    credentials: Credentials,
}

impl App {
    /// Reads the configuration; opens nothing.
    ///
    /// # Errors
    /// [`CliError::Config`] and [`CliError::File`] of the configuration.
    pub fn new(global: Global, interrupt: Interrupt, credentials: Credentials) -> Result<Self, CliError> {
        let config = Config::find(global.config.as_deref(), &global.data)?;
        let stores = stores(&global, config.clone(), credentials.clone());
        let out = Output { json: global.json };
        Ok(Self { global, config, out, interrupt, stores, credentials })
    }

    /// The same run over another data folder, without a configuration.
    pub fn elsewhere(&self, data: PathBuf) -> Self {
        let global = Global { data, config: None, ..self.global.clone() };
        let stores = stores(&global, Config::default(), self.credentials.clone());
        Self {
            global,
            config: Config::default(),
            out: self.out,
            interrupt: self.interrupt.clone(),
            stores,
            credentials: self.credentials.clone(),
        }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.global.data
    }

    /// What opens encrypted vaults and stores.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Threads that compute, or worker processes at once.
    pub fn threads(&self) -> usize {
        threads(&self.global)
    }

    /// The stores of this run.
    pub fn stores(&self) -> Arc<Stores> {
        self.stores.clone()
    }

    /// An engine whose tasks run in this process.
    pub fn engine(&self) -> Engine {
        self.engine_with(WorkersArg::Threads, self.interrupt.current())
    }

    /// An engine whose tasks run where `workers` says, and which stops when `cancel` is asked.
    pub fn engine_with(&self, workers: WorkersArg, cancel: Cancel) -> Engine {
        Engine::new(EngineOptions {
            data: self.global.data.clone(),
            stores: self.stores.clone(),
            threads: self.threads(),
            memory: self.global.memory.0,
            worker: match workers {
                WorkersArg::Threads => None,
                WorkersArg::Processes => {
                    std::env::current_exe().ok().map(|program| self.worker_command(&program))
                }
                WorkersArg::Program(program) => Some(self.worker_command(&program)),
            },
            progress: progress::choose(self.global.no_progress, self.global.verbose, self.out.json),
            cancel,
            surroundings: Surroundings { vault: self.environment(), ..Surroundings::default() },
            defaults: backup_defaults(&self.config.backup),
        })
    }

    /// What vaults are opened with.
    pub fn environment(&self) -> Environment {
        Environment { credentials: self.credentials.clone(), ..Environment::default() }
    }

    /// A program with the arguments that make this one a worker over the same data.
    fn worker_command(&self, program: &Path) -> Vec<String> {
        let mut command = vec![program.to_string_lossy().into_owned(), "--data".into()];
        command.push(absolute(&self.global.data));
        if let Some(config) = &self.global.config {
            command.extend(["--config".into(), absolute(config)]);
        }
        // The first passphrase comes by the worker's environment.
        for (option, files) in
            [("--passphrase-file", &self.global.passphrase_file), ("--identity", &self.global.identity)]
        {
            command.extend(files.iter().flat_map(|file| [option.into(), absolute(file)]));
        }
        command.extend(["--threads".into(), "1".into(), "--no-progress".into(), "worker".into()]);
        command
    }
}

fn stores(global: &Global, config: Config, credentials: Credentials) -> Arc<Stores> {
    // The engine sorts and joins beside the store: each gets its share.
    let limits = Limits { threads: threads(global), memory: global.memory.0 / 4 };
    Arc::new(Stores::new(&global.data, config, limits, credentials))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Threads that compute: as many as asked for, else one a core.
pub fn threads(global: &Global) -> usize {
    global.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

fn backup_defaults(config: &BackupConfig) -> BackupDefaults {
    BackupDefaults {
        require: config.require.map_or(Require::All, |n| Require::AtLeast(n.get())),
        retain: RetainTerms { time: config.retain_for, mode: Some(config.retain_mode) },
    }
}
