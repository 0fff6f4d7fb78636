//! A server as a child process: stopped and cleaned up when it is dropped.

use crate::Missing;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(180);

/// A running server and its private folder.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: PathBuf,
    /// Stops the server when this program dies without a word.
    guard: Child,
}

/// Waits until standard input ends, which it does when its other end dies, and then stops and cleans up.
const GUARD: &str = "cat > /dev/null; kill -9 \"$1\"; rm -rf -- \"$2\"";

impl Server {
    /// Starts a server and waits until it listens. Its output goes to `server.log` in the folder, which must be new.
    ///
    /// # Errors
    /// [`Missing::Failed`] with the end of its log when it ends or does not listen.
    pub fn start(mut command: Command, folder: PathBuf, port: u16) -> Result<Self, Missing> {
        match spawn(&mut command, &folder) {
            // Once there is a server it removes the folder itself.
            Ok((child, guard)) => {
                let mut server = Self { child, folder, guard };
                server.listens(&command, port)?;
                Ok(server)
            }
            Err(missing) => {
                let _ = std::fs::remove_dir_all(&folder);
                Err(missing)
            }
        }
    }

    /// Ends it at once, as a crash does. Its folder stays as it is.
    pub fn kill(&mut self) {
        // The guard first: once we waited for the server its id may be another's.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts one that was killed again in its folder, and waits until it listens.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn again(&mut self, mut command: Command, port: u16) -> Result<(), Missing> {
        (self.child, self.guard) = spawn(&mut command, &self.folder)?;
        self.listens(&command, port)
    }

    fn listens(&mut self, command: &Command, port: u16) -> Result<(), Missing> {
        let name = command.get_program().to_string_lossy();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_none() && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if ended.is_some() || start.elapsed() > START {
                let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
                return Err(Missing::Failed(format!("{name} does not start: {last}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

/// Starts a server and the guard of it.
fn spawn(command: &mut Command, folder: &Path) -> Result<(Child, Child), Missing> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |e: std::io::Error| Missing::Failed(format!("{name} does not start: {e}"));
    let log = folder.join("server.log");
    let output = File::options().create(true).append(true).open(log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = command.spawn().map_err(failed)?;
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "guard", &child.id().to_string()]).arg(folder);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    match guard.spawn() {
        Ok(guard) => Ok((child, guard)),
        Err(e) => {
            let _ = child.kill();
            Err(failed(e))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The folder's full path: a server is started in a folder of its own.
///
/// # Errors
/// When the current folder is gone.
pub fn full(folder: &Path) -> Result<PathBuf, Missing> {
    std::path::absolute(folder).map_err(|e| Missing::Failed(format!("{}: {e}", folder.display())))
}

/// A new folder that only this user can enter.
///
/// # Errors
/// When it cannot be made.
pub fn private_folder(within: &Path, name: &str) -> Result<PathBuf, Missing> {
    let secret = random_word()?;
    let folder = within.join(format!("{name}-{}-{}", std::process::id(), &secret[..8]));
    let made = std::fs::create_dir_all(within).and_then(|()| {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder)
    });
    made.map_err(|e| Missing::Failed(format!("{}: {e}", folder.display())))?;
    Ok(folder)
}

/// A port of the loopback address that nobody uses now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16, Missing> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port());
    port.map_err(|e| Missing::Failed(format!("no free port: {e}")))
}

/// 32 random hex digits from the operating system.
///
/// # Errors
/// When it gives none.
pub fn random_word() -> Result<String, Missing> {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.map_err(|e| Missing::Failed(format!("no random bytes: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_server_is_gone_with_its_folder() {
        let within = std::env::temp_dir();
        let folder = private_folder(&within, "keepfast-testbed").unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        // Somebody listens on the port, so the child counts as started.
        let port = listener.local_addr().unwrap().port();
        let server = Server::start(command, folder.clone(), port).unwrap();
        let id = server.id();
        drop(server);
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_what_it_said() {
        let folder = private_folder(&std::env::temp_dir(), "keepfast-testbed").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such disk; exit 1"]);
        let error = Server::start(command, folder.clone(), free_port().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no such disk"), "{error}");
        assert!(!folder.exists());
    }

    #[test]
    fn random_words_differ() {
        assert_ne!(random_word().unwrap(), random_word().unwrap());
    }
}
