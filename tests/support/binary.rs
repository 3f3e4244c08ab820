//! The real binary in a process of its own: started with chosen settings, its log read as it is written.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{client, fake::FakeFireworks};

/// How long anything that must happen may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How long a look at a page or a file is apart from the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until there is something to be seen. For pages and files, which tell nobody.
#[track_caller]
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn await_true(what: &str, mut holds: impl FnMut() -> bool) {
    await_some(what, || holds().then_some(()));
}

/// The variable that names another program to test than the one that cargo has built, such as one for another system
/// or in a root of its own. It is an absolute path, and is started with the arguments, the variables and the folder
/// that the binary would get. What needs more than that, such as an emulator, is a script that ends with `exec`: the
/// process that was started is the one that is sent signals and killed.
const OTHER_PROGRAM: &str = "FIREWORKS_PROXY_TEST_BINARY";

/// A folder in which nobody can make a file, not even root.
#[cfg(target_os = "linux")]
pub const UNWRITABLE: &str = "/proc";

/// Where the binary is.
fn path() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os(OTHER_PROGRAM) {
        Some(path) => {
            let path = PathBuf::from(path);
            // Each start has a folder of its own.
            assert!(path.is_absolute(), "{OTHER_PROGRAM} is no absolute path: {}", path.display());
            path
        }
        None => option_env!("CARGO_BIN_EXE_fireworks-proxy")
            .unwrap_or_else(|| panic!("cargo names it to tests alone"))
            .into(),
    });
    &PATH
}

/// What others set for every program, and this one heeds too. On Windows, where two spellings are one variable, the first
/// of them that a command is told of stays.
const OF_OTHERS: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SESSIONNAME",
];

/// The binary with these settings `(name without prefix, value)`, and no others of ours or of [`OF_OTHERS`].
pub fn command(folder: &Path, settings: &[(&str, &str)]) -> Command {
    configured(Command::new(path()), folder, settings)
}

fn configured(mut command: Command, folder: &Path, settings: &[(&str, &str)]) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().starts_with("FIREWORKS_PROXY_") {
            command.env_remove(name);
        }
    }
    for name in OF_OTHERS {
        command.env_remove(name);
    }
    let full_name = |name: &str| {
        if OF_OTHERS.contains(&name) { name.to_owned() } else { format!("FIREWORKS_PROXY_{name}") }
    };
    let settings = settings.iter().map(|(name, value)| (full_name(name), value));
    command.envs(settings).current_dir(folder).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The binary in front of `fake`, on a port that the system chooses.
fn spawn(command: Command, folder: &Path, fake: &FakeFireworks, settings: &[(&str, &str)]) -> Child {
    std::fs::write(folder.join("ca.pem"), fake.ca_pem()).expect("the CA file is written");
    let upstream = fake.base_url();
    let mut all = vec![("PORT", "0"), ("UPSTREAM", upstream.as_str()), ("CA_FILE", "ca.pem")];
    all.extend_from_slice(settings);
    configured(command, folder, &all).spawn().expect("the binary starts")
}

/// A start that is expected to end by itself.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, if the process was not killed.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

impl Ended {
    /// The one line on standard error of a start that was refused with exit code 2.
    #[track_caller]
    pub fn refusal(&self) -> &str {
        assert_eq!(self.code, Some(2), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && self.stderr.ends_with('\n'), "not one line: {self:?}");
        lines[0]
    }
}

/// Starts the binary and waits for its end; a start that succeeds is killed and fails the test.
#[track_caller]
pub fn run_to_end(settings: &[(&str, &str)]) -> Ended {
    run_command_to_end(|_| {}, settings)
}

/// The same, with a say in arguments and environment.
#[track_caller]
pub fn run_command_to_end(change: impl FnOnce(&mut Command), settings: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    run_command_in(folder.path(), change, settings)
}

/// The same in a folder that may hold files.
#[track_caller]
pub fn run_command_in(folder: &Path, change: impl FnOnce(&mut Command), settings: &[(&str, &str)]) -> Ended {
    let mut command = command(folder, settings);
    change(&mut command);
    let mut child = command.spawn().expect("the binary starts");
    // Read while it runs: what it prints may be longer than a pipe holds.
    let mut stdout = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let status = wait_for_exit(&mut child).unwrap_or_else(|| {
        kill_hard(&mut child);
        panic!("the proxy runs with {settings:?}");
    });
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    let stdout = reader.join().expect("no panic").expect("UTF-8");
    Ended { code: status.code(), stdout, stderr }
}

/// How the process ended; `None` when it does not.
fn wait_for_exit(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return Some(status);
        }
        std::thread::sleep(PAUSE);
    }
    None
}

fn kill_hard(child: &mut Child) {
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
}

/// What the process has written to standard error so far.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Log {
    /// Reads lines to the end of the pipe.
    fn fill_from(&self, pipe: impl Read) {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
            self.changed.notify_all();
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_all();
    }

    fn wait_for(&self, mut is_wanted: impl FnMut(&str) -> bool) -> Result<String, Vec<String>> {
        let deadline = Instant::now() + SOON;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.0.iter().find(|line| is_wanted(line)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.1 {
                return Err(lines.0.clone());
            }
            lines = self.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running binary. Killed when dropped.
pub struct Binary {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Binary {
    /// The binary in front of `fake`, on a port that the system chooses.
    #[track_caller]
    pub fn start(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), fake, settings)
    }

    /// The same with these arguments.
    #[track_caller]
    pub fn start_with_flags(fake: &FakeFireworks, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(path());
        command.args(flags);
        Self::start_as(command, tempfile::tempdir().expect("a folder"), fake, settings)
    }

    /// The same in a folder that may hold a state file already.
    #[track_caller]
    pub fn start_in(folder: tempfile::TempDir, fake: &FakeFireworks, settings: &[(&str, &str)]) -> Self {
        Self::start_as(Command::new(path()), folder, fake, settings)
    }

    /// The same for a binary that was built elsewhere: cargo names none to examples.
    #[track_caller]
    pub fn start_program(
        program: &Path,
        folder: tempfile::TempDir,
        fake: &FakeFireworks,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::start_as(Command::new(program), folder, fake, settings)
    }

    /// The same with so many descriptors at most.
    #[cfg(unix)]
    #[track_caller]
    pub fn start_with_descriptors(count: u32, fake: &FakeFireworks, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\"")]).arg(path());
        Self::start_as(shell, tempfile::tempdir().expect("a folder"), fake, settings)
    }

    /// The same for who grants it nothing: with no variables but its settings, so that it has neither home nor locale, and in
    /// [`UNWRITABLE`].
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn start_locked_down(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("cd {UNWRITABLE} && exec \"$0\"")]).arg(path()).env_clear();
        let ca_file = ("CA_FILE", ca_file.to_str().expect("Unicode"));
        Self::start_as(shell, folder, fake, &[&[ca_file], settings].concat())
    }

    #[track_caller]
    fn start_as(
        command: Command,
        folder: tempfile::TempDir,
        fake: &FakeFireworks,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut child = spawn(command, folder.path(), fake, settings);
        let log = Arc::new(Log::default());
        let (filled, pipe) = (Arc::clone(&log), child.stderr.take().expect("piped"));
        let reader = std::thread::spawn(move || filled.fill_from(pipe));
        let started = log.wait_for(|line| line.contains(" starting on "));
        let line = started.unwrap_or_else(|lines| {
            let _ = child.kill();
            panic!("it did not start: {lines:#?}")
        });
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split([' ']).next()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line}"));
        Self { child, log, reader: Some(reader), address, folder }
    }

    /// Starts it and kills it so long afterwards, however far its start has come.
    pub fn start_and_kill(folder: &Path, fake: &FakeFireworks, settings: &[(&str, &str)], after: Duration) {
        let mut child = spawn(Command::new(path()), folder, fake, settings);
        std::thread::sleep(after);
        kill_hard(&mut child);
    }

    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its state file, unless the settings name another.
    pub fn state_file(&self) -> PathBuf {
        self.folder.path().join("daily_usage.json")
    }

    /// Waits for a line of the log that contains all of these.
    #[track_caller]
    pub fn wait_for_line(&self, parts: &[&str]) -> String {
        let found = self.log.wait_for(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|lines| panic!("no line with {parts:?} in {lines:#?}"))
    }

    /// The log so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// A request on a connection of its own.
    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], json: &str) -> client::Response {
        client::post_json(self.address, path, headers, json)
    }

    /// A page, parsed.
    #[track_caller]
    pub fn page(&self, path: &str) -> serde_json::Value {
        client::get(self.address, path).json()
    }

    /// Sends a signal by its name, as `kill` does.
    #[cfg(unix)]
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(status.success(), "kill -{name} {pid}: {status}");
    }

    /// What a console tells its programs, by the name of the signal that says the same elsewhere: INT is Ctrl-C, TERM
    /// is Ctrl-Break, HUP is the end of the console, after which the process is killed within five seconds. LOGOFF, the
    /// end of a user's session, is known to Windows alone.
    #[cfg(windows)]
    #[track_caller]
    pub fn signal(&self, name: &str) {
        // Where tests/windows/console_event.c was built. Nothing in Rust does this without unsafe code.
        let program = std::env::var_os("CONSOLE_EVENT_EXE").expect("CONSOLE_EVENT_EXE names the program");
        // Of a closed console it waits for the end, which nobody may wait for who still talks to the proxy.
        let child = Command::new(program).args([&self.pid().to_string(), name]).spawn();
        let mut child = child.expect("CONSOLE_EVENT_EXE is a program");
        if name != "HUP" {
            let status = child.wait().expect("a child of ours");
            assert!(status.success(), "{name}: {status}");
        }
    }

    /// Waits until it ends by itself; gives the exit code, the whole log and the folder.
    #[track_caller]
    pub fn wait_for_end(self) -> (Option<i32>, Vec<String>, tempfile::TempDir) {
        let (status, log, folder) = self.try_wait_for_end();
        (status.unwrap_or_else(|| panic!("it does not end: {log:#?}")).code(), log, folder)
    }

    /// The same for who is prepared for a process that does not end, which is killed then.
    pub fn try_wait_for_end(mut self) -> (Option<ExitStatus>, Vec<String>, tempfile::TempDir) {
        let status = wait_for_exit(&mut self.child);
        let folder = self.end();
        (status, self.lines(), folder)
    }

    /// Ends it without a chance to do anything; gives the whole log and the folder.
    pub fn kill(mut self) -> (Vec<String>, tempfile::TempDir) {
        let folder = self.end();
        (self.lines(), folder)
    }

    /// Kills the process if it runs, and reads its log to the end.
    fn end(&mut self) -> tempfile::TempDir {
        kill_hard(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder to drop"))
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A time zone in which it is neither shortly before nor shortly after midnight, so that no day ends
/// within a test.
pub fn quiet_zone() -> &'static str {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let hour = since.expect("a clock after 1970").as_secs() / 3600 % 24;
    // Kiritimati is 14 hours ahead, so it is 08:00 to 20:00 there.
    if (6..18).contains(&hour) { "Etc/UTC" } else { "Pacific/Kiritimati" }
}

/// A value that is not Unicode, on systems that have such.
#[cfg(unix)]
pub fn not_unicode() -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(vec![b'1', 0xff])
}
