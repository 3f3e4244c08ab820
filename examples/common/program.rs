//! Where the proxy's release binary is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary's name in `Cargo.toml`.
const NAME: &str = "fireworks-proxy";

/// What cargo tells who it runs about their package. Build scripts that watch such variables would run again, and what
/// rests on them would be built again, each time that cargo is run by cargo.
const ABOUT_US: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The binary that was given. Otherwise cargo builds it, if cargo has started us, as it builds none for an example; and
/// otherwise it is the one in the folder above ours.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, String> {
    let found = match (given, std::env::var_os("CARGO")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(cargo)) => build(Path::new(&cargo))?,
        (None, None) => {
            let own = std::env::current_exe().map_err(|error| error.to_string())?;
            let folder = own.ancestors().nth(2).unwrap_or(&own);
            folder.join(format!("{NAME}{}", std::env::consts::EXE_SUFFIX))
        }
    };
    // It is started in a folder of its own.
    found.canonicalize().map_err(|error| format!("{}: {error}", found.display()))
}

/// Has cargo build it, which takes no time if it is there, and asks where it went.
fn build(cargo: &Path) -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        if ABOUT_US.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["build", "--release", "--message-format", "json-render-diagnostics", "--bin", NAME])
        .arg("--manifest-path")
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", cargo.display()))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let values = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut paths = values.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    paths.next_back().filter(|_| output.status.success()).ok_or_else(|| format!("cargo built no {NAME}"))
}
