"""Where the clients are installed: a folder that is kept between runs, outside of the repository's own files.

It has four parts, and each can be had without the others. A part is installed anew when the file with its versions
changes. Nothing is installed on the machine itself, and nothing here needs root.
"""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent

INSTALLS_WITHIN_SECONDS = 300

# How long a registry may say nothing. One that cannot be had costs its clients, and not the gate its time.
REGISTRY_ANSWERS_WITHIN_SECONDS = 30

# Kimi CLI needs the one, the SDKs for TypeScript the other.
PYTHON_AT_LEAST = (3, 12)
NODE_AT_LEAST = 20

# Where an older machine borrows its newer Python from.
DEBIAN_SUITE = "trixie"
DEBIAN_KEYS = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_PACKAGES = ("python3.13", "python3.13-venv", "libstdc++6")

# Programs that packages from npm run after their installation, to put the binary for this machine in its place. npm
# runs them or not, by its version and settings; here these run, and no others.
NODE_SCRIPTS = ("@anthropic-ai/claude-code/install.cjs", "opencode-ai/postinstall.mjs")

BORROWED_PYTHON = """\
#!/bin/sh
# Debian's newer Python with the C library that it was made for, where neither is installed.
here=$(cd "$(dirname "$0")" && pwd)
libraries=$(dirname "$(echo "$here"/system/usr/lib/*/libc.so.6)")
loader=$(echo "$libraries"/ld-linux-*.so.*)
export PYTHONHOME="$here/system/usr"
exec "$loader" --library-path "$libraries" --argv0 "$0" "$here/system/usr/bin/python3.13" "$@"
"""


class Unavailable(Exception):
    """Why a part cannot be had on this machine; the clients that need it are skipped."""


class Environment:
    """The folder and what is in it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._python_lock = threading.Lock()

    # What clients are run with.

    @property
    def node_modules(self):
        return self.folder / "node" / "node_modules"

    @property
    def node_programs(self):
        return self.node_modules / ".bin"

    def packages(self, part):
        """The folder with a part's Python packages."""
        return self.folder / part

    @functools.cached_property
    def python(self):
        """A Python that is new enough: the one that runs this, or one borrowed from Debian."""
        if sys.version_info >= PYTHON_AT_LEAST and _has_pip(sys.executable):
            return sys.executable
        return self._borrowed_python()

    # Installing.

    def install(self, part):
        """Makes sure that a part is there: `node`, `kimi`, `sdks`, or `machine` for what has to be there anyway."""
        {"node": self._node, "kimi": self._pip, "sdks": self._pip, "machine": lambda _: None}[part](part)

    def _node(self, part):
        version = _output(["node", "--version"], "Node.js").lstrip("v")
        if int(version.split(".")[0]) < NODE_AT_LEAST:
            raise Unavailable(f"Node.js is {version} and has to be {NODE_AT_LEAST} or newer")
        wanted = HERE / "package.json"

        def install(folder):
            shutil.copy(wanted, folder)
            quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
            patience = ["--fetch-retries=1", f"--fetch-timeout={REGISTRY_ANSWERS_WITHIN_SECONDS * 1000}"]
            # One short question first: a whole installation takes minutes to find out that nobody answers.
            asked = ["npm", "view", "opencode-ai", "name", "--fetch-retries=0", "--loglevel=error"]
            _run(asked, timeout=REGISTRY_ANSWERS_WITHIN_SECONDS)
            _run(["npm", "install", *quiet, *patience], cwd=folder)
            for script in map(pathlib.Path, NODE_SCRIPTS):
                _run(["node", script.name], cwd=folder / "node_modules" / script.parent)

        self._once(part, wanted.read_bytes() + str(NODE_SCRIPTS).encode(), install)

    def _pip(self, part):
        wanted = HERE / f"requirements-{part}.txt"
        with self._python_lock:
            python = self.python

        def install(folder):
            quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-compile"]
            patience = ["--retries=1", f"--timeout={REGISTRY_ANSWERS_WITHIN_SECONDS}"]
            command = [python, "-m", "pip", "install", *quiet, *patience, "--target", str(folder), "-r", str(wanted)]
            _run(command, env={**os.environ, "PYTHONPATH": self._pip_wheels()})

        self._once(part, wanted.read_bytes() + str(python).encode(), install)

    def _pip_wheels(self):
        """The pip that comes with the borrowed Python, which has none of its own."""
        return os.pathsep.join(map(str, self.folder.glob("python/system/usr/share/python-wheels/pip-*.whl")))

    def _borrowed_python(self):
        """A newer Debian's Python, unpacked. Root is not needed, and nothing of the machine's Debian is touched."""
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and DEBIAN_KEYS.exists()):
            wanted = ".".join(map(str, PYTHON_AT_LEAST))
            raise Unavailable(f"there is no Python {wanted} with pip, and no Debian to borrow one from")
        self._once("python", f"{DEBIAN_SUITE} {DEBIAN_PACKAGES} {BORROWED_PYTHON}".encode(), _unpack_debian_python)
        return str(self.folder / "python" / "python3")

    def _once(self, part, recipe, install):
        """Installs a part into an empty folder, unless it was installed by the same recipe before."""
        folder, digest = self.folder / part, hashlib.sha256(recipe).hexdigest()
        stamp = self.folder / f"{part}.installed"
        if stamp.exists() and stamp.read_text() == digest:
            return
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        install(folder)
        stamp.write_text(digest)


def _unpack_debian_python(folder):
    for name in ("lists/partial", "cache/archives/partial", "system"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    source = f"deb [signed-by={DEBIAN_KEYS}] {_debian_archive()} {DEBIAN_SUITE} main\n"
    (folder / "sources.list").write_text(source)
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": str(REGISTRY_ANSWERS_WITHIN_SECONDS),
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in settings.items())]
    _run([*apt, "update"])
    _run([*apt, "--download-only", "install", *DEBIAN_PACKAGES])
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder / "system")])
    for leftover in ("cache", "lists"):
        shutil.rmtree(folder / leftover)
    # This Python is nobody's system, so pip may put packages beside it.
    for mark in (folder / "system").glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    program = folder / "python3"
    program.write_text(BORROWED_PYTHON)
    program.chmod(0o755)


def _debian_archive():
    """Where this machine has its own Debian from; other suites are there too."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]
    debian = ["Origin: Debian", "Label: Debian", "Component: main"]
    archives = _output([*wanted, *debian], "apt-get").splitlines()
    if not archives:
        raise Unavailable("apt-get knows no archive of Debian; `apt-get update` may help")
    return archives[0]


def _has_pip(python):
    asked = subprocess.run([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return asked.returncode == 0


def _output(command, what):
    if not shutil.which(command[0]):
        raise Unavailable(f"{what} is not installed")
    return subprocess.run(command, capture_output=True, text=True, timeout=INSTALLS_WITHIN_SECONDS).stdout.strip()


def _run(command, timeout=INSTALLS_WITHIN_SECONDS, **options):
    """Runs a step of an installation; one that fails is a registry that cannot be had."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            **options,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from error
    if ended.returncode:
        lines = ended.stdout.strip().splitlines() or ["without a word"]
        # npm ends with where its log is; the others end with what is wrong.
        reason = next((line for line in lines if "npm error request" in line or "npm error network" in line), lines[-1])
        raise Unavailable(f"{pathlib.Path(command[0]).name} ended with {ended.returncode}: {reason}")
