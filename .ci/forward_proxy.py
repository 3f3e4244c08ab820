"""The way through real forward proxies, and the reading of the environment beside curl's. Called by .ci/forward_proxy
with the program and the example `fake_fireworks`.

All that listens is on loopback, on ports that the system chose. Everything is awaited with a deadline, and what was
started is ended by its id.
"""

import base64
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

DEADLINE_SECONDS = 30
USER, PASSWORD = "jane", "p@ss: w/rd"
# As it stands in a URL (RFC 3986, section 2.1).
PASSWORD_IN_URL = "p%40ss%3A%20w%2Frd"
# The configuration of tinyproxy knows no other signs.
PLAIN_PASSWORD = "hunter2"
OF_OTHERS = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE"]
PROGRAM, FAKE = [str(pathlib.Path(path).resolve()) for path in sys.argv[1:3]]
started = []


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def await_value(what, look):
    """What `look` gives, once it gives something."""
    until = time.monotonic() + DEADLINE_SECONDS
    while True:
        found = look()
        if found:
            return found
        check(time.monotonic() < until, f"{what}: not within {DEADLINE_SECONDS} s")
        time.sleep(0.02)


def environment(**variables):
    """Ours without settings and proxies, but for these."""
    names = {name.upper() for name in OF_OTHERS}
    clean = {name: value for name, value in os.environ.items() if name.upper() not in names}
    clean = {name: value for name, value in clean.items() if not name.startswith("FIREWORKS_PROXY_")}
    return clean | {name: value for name, value in variables.items() if value is not None}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def accepts(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def start(command, log, **options):
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
    started.append(process)
    return process


# The environment, beside curl.


class Recorder(threading.Thread):
    """A proxy that refuses everybody, and keeps what it was asked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.heads = []
        self.start()

    def run(self):
        while True:
            client, _ = self.server.accept()
            with client:
                head = b""
                while not head.endswith(b"\r\n\r\n") and (piece := client.recv(4096)):
                    head += piece
                self.heads.append(head.decode())
                client.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def take(self):
        heads, self.heads = self.heads, []
        check(len(heads) <= 1, f"asked more than once: {heads}")
        return heads[0] if heads else None


def credentials(head):
    found = re.search(r"^proxy-authorization: basic (\S+)\r$", head or "", re.IGNORECASE | re.MULTILINE)
    return base64.b64decode(found[1]) if found else None


def curl(host, port, variables, more=()):
    """Names lead to this machine without a look-up, where nobody listens."""
    direct = [] if host[0] == "[" or host[0].isdigit() else ["--resolve", f"{host}:{port}:127.0.0.1"]
    command = ["curl", "--silent", "--verbose", "--max-time", "10", *direct, *more, f"https://{host}:{port}/"]
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True)


def ours(arguments, variables):
    return subprocess.run([PROGRAM, *arguments], env=environment(**variables), capture_output=True, text=True)


def named_by(host, port, variables):
    upstream = {"FIREWORKS_PROXY_UPSTREAM": f"https://{host}:{port}/inference"}
    printed = ours(["--print-config"], variables | upstream)
    check(printed.returncode == 0, printed.stderr)
    way = re.search(r"^# requests go to \S+(?: through \S+ \((\w+)\))?$", printed.stdout, re.MULTILINE)
    check(way, printed.stdout)
    return way[1]


NAMES = [
    {"https_proxy"}, {"HTTPS_PROXY"}, {"https_proxy", "HTTPS_PROXY"}, {"ALL_PROXY"}, {"all_proxy", "ALL_PROXY"},
    {"HTTPS_PROXY", "all_proxy"}, {"http_proxy"}, {"HTTP_PROXY"}, {"http_proxy", "ALL_PROXY"}, set(),
]
# Lists with blanks alone between their entries, and networks of IPv6, are read otherwise by some versions of curl.
HOSTS = ["api.fireworks.example", "api.fireworks.example.", "localhost", "127.0.0.2", "[::1]"]
EXEMPT = [
    "", "*", "*,x", "api.fireworks.example", "API.FIREWORKS.EXAMPLE", "fireworks.example", ".fireworks.example",
    "..fireworks.example", "fireworks.example.", "works.example", "example", "*.fireworks.example",
    "x.api.fireworks.example", "api.fireworks.example:443", "a, b ,\tapi.fireworks.example", ",,,fireworks.example",
    "localhost", "127.0.0.2", ".127.0.0.2", "0.2", "127.0.0.0/8", "127.0.0.3/31", "127.0.0.2/32", "127.0.0.2/33",
    "127.0.0.0/0", "127.0.0.2/0", "128.0.0.0/1", "::1", "[::1]",
]
USER_INFORMATION = [
    "", "jane@", "jane:@", ":secret@", "jane:secret@", "jane:se%20cret%3a%2F%40@", "corp%5Cjane:%C3%A9@", "jane:100%@",
    "jane:%zz@", "jane:a:b@",
]


def compare_with_curl():
    recorder, port = Recorder(), free_port()
    cases = 0

    def compare(host, variables):
        nonlocal cases
        cases += 1
        curl(host, port, variables)
        asked = credentials(recorder.take())
        expected = asked.decode().rstrip(":") if asked else None
        found = named_by(host, port, variables)
        check(found == expected, f"{variables} for {host}: curl goes by {expected}, and we by {found}")

    url = lambda name: f"http://{name}@127.0.0.1:{recorder.port}"
    for names in NAMES:
        compare(HOSTS[0], {name: url(name) for name in names})
        compare(HOSTS[0], {"https_proxy": ""} | {name: url(name) for name in names})
    for host in HOSTS:
        for exempt in EXEMPT:
            compare(host, {"HTTPS_PROXY": url("HTTPS_PROXY"), "NO_PROXY": exempt})
    compare(HOSTS[0], {"HTTPS_PROXY": url("HTTPS_PROXY"), "no_proxy": "x", "NO_PROXY": "*"})
    compare(HOSTS[0], {"HTTPS_PROXY": url("HTTPS_PROXY"), "no_proxy": "", "NO_PROXY": "*"})

    folder = tempfile.mkdtemp()
    for information in USER_INFORMATION:
        for scheme in ["http://", ""]:
            cases += 1
            variables = {"HTTPS_PROXY": f"{scheme}{information}127.0.0.1:{recorder.port}"}
            curl(HOSTS[0], port, variables)
            theirs = recorder.take()
            settings = {
                "FIREWORKS_PROXY_UPSTREAM": f"https://{HOSTS[0]}:{port}",
                "FIREWORKS_PROXY_PORT": "0",
                "FIREWORKS_PROXY_USAGE_STATE": f"{folder}/state.json",
            }
            found = ours(["--check"], variables | settings)
            mine = recorder.take()
            check(mine and theirs, f"{variables}: {found.stdout}{found.stderr}")
            check(credentials(mine) == credentials(theirs), f"{variables}: {mine} and {theirs}")
            lines = [[head.split("\r\n")[0], head.split("\r\n")[1]] for head in (mine, theirs)]
            check(lines[0] == lines[1], f"{variables}: {lines}")
    shutil.rmtree(folder)
    # The port of a proxy whose URL names none.
    check("127.0.0.1:1080" in curl(HOSTS[0], port, {"HTTPS_PROXY": "127.0.0.1"}).stderr, "curl has another port")
    told = ours(["--print-config"], {"HTTPS_PROXY": "127.0.0.1"}).stdout
    check("through http://127.0.0.1:1080 (HTTPS_PROXY)" in told, told)
    return cases + 1


# Through squid and tinyproxy.


def start_fake(folder):
    log = folder / "fake.log"
    start([FAKE, "--port", "0", "--ca-file", folder / "ca.pem", "--interval-ms", "1"], log)
    line = await_value("the fake Fireworks", lambda: re.search(r"_UPSTREAM=(https://\S+)", log.read_text()))
    return line[1]


def start_squid(folder, ports):
    """A port that is open to all and one that wants credentials; both let through to these ports alone."""
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True)
    (folder / "passwords").write_text(f"{USER}:{hashed.stdout}")
    anyone, known = free_port(), free_port()
    helper = next(path for path in pathlib.Path("/usr/lib").glob("**/squid/basic_ncsa_auth"))
    (folder / "squid.conf").write_text(f"""
http_port 127.0.0.1:{anyone} name=anyone
http_port 127.0.0.1:{known} name=known
auth_param basic program {helper} {folder}/passwords
auth_param basic realm company
acl tunnels method CONNECT
acl permitted port {" ".join(map(str, ports))}
acl at_anyone myportname anyone
acl at_known myportname known
acl authenticated proxy_auth REQUIRED
http_access deny !tunnels
http_access deny !permitted
http_access allow at_anyone
http_access allow at_known authenticated
http_access deny all
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
cache deny all
pid_filename none
coredump_dir {folder}
visible_hostname company
shutdown_lifetime 0 seconds
""")
    if os.geteuid() == 0:
        # It gives up being root, and has to read and write here as somebody else.
        account = next(entry for entry in pwd.getpwall() if entry.pw_name in ("proxy", "squid"))
        for path in [folder, *folder.iterdir()]:
            os.chown(path, account.pw_uid, account.pw_gid)
    squid = shutil.which("squid") or "/usr/sbin/squid"
    start([squid, "-N", "-f", folder / "squid.conf"], folder / "squid.log", cwd=folder)
    await_value("squid", lambda: accepts(anyone) and accepts(known))
    return anyone, known


def start_tinyproxy(folder, ports):
    port = free_port()
    allowed = "\n".join(f"ConnectPort {it}" for it in ports)
    (folder / "tinyproxy.conf").write_text(
        f'Listen 127.0.0.1\nPort {port}\nBasicAuth {USER} {PLAIN_PASSWORD}\nLogFile "{folder}/tinyproxy.log"\n{allowed}\n'
    )
    tinyproxy = shutil.which("tinyproxy") or "/usr/sbin/tinyproxy"
    start([tinyproxy, "-d", "-c", folder / "tinyproxy.conf"], folder / "tinyproxy.out")
    await_value("tinyproxy", lambda: accepts(port))
    return port


class Proxy:
    """Ours, in a folder of its own, which is ended again."""

    def __init__(self, folder, variables):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.log = self.folder / "log"
        variables = {"FIREWORKS_PROXY_PORT": "0", "FIREWORKS_PROXY_MAX_RETRIES": "0", "FIREWORKS_PROXY_LOG": "trace"} | variables
        self.process = start([PROGRAM], self.log, cwd=self.folder, env=environment(**variables))

    def __enter__(self):
        first = await_value("the proxy", lambda: re.search(r"starting on http://127\.0\.0\.1:(\d+)", self.log.read_text()))
        self.port = int(first[1])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)
        text = self.log.read_text()
        shown = [secret for secret in (PASSWORD, PASSWORD_IN_URL, PLAIN_PASSWORD) if secret in text]
        check(not shown, f"a password is in the log: {text}")

    def ask(self):
        """What a streamed request comes to: its status, and the code of an error."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Harbours?"}]})
        client.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer fw_key"})
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        if answer.status == 200:
            check(text.endswith("data: [DONE]\n\n"), f"cut: {text[-200:]}")
            return 200, None
        return answer.status, json.loads(text)["error"]["code"]


def go_through_proxies(folder):
    upstream = start_fake(folder)
    port = int(re.search(r":(\d+)/", upstream)[1])
    nobody, denied = free_port(), free_port()
    anyone, known = start_squid(folder, [port, nobody])
    tiny = start_tinyproxy(folder, [port])
    at = lambda where: f"https://localhost:{where}/inference"
    right = f"{USER}:{PASSWORD_IN_URL}@"
    cases = [
        (anyone, "", upstream, (200, None)),
        (known, right, upstream, (200, None)),
        (known, "", upstream, (502, "proxy_auth")),
        (known, f"{USER}:wrong@", upstream, (502, "proxy_auth")),
        (anyone, "", at(denied), (502, "proxy_denied")),
        (anyone, "", at(nobody), (502, "proxy_failed")),
        (tiny, f"{USER}:{PLAIN_PASSWORD}@", upstream, (200, None)),
        (tiny, "", upstream, (502, "proxy_auth")),
        (tiny, f"{USER}:wrong@", upstream, (502, "proxy_auth")),
        (tiny, f"{USER}:{PLAIN_PASSWORD}@", at(denied), (502, "proxy_denied")),
        (free_port(), "", upstream, (502, "proxy_unreachable")),
    ]
    for forward, information, target, expected in cases:
        variables = {
            "HTTPS_PROXY": f"http://{information}127.0.0.1:{forward}",
            "SSL_CERT_FILE": str(folder / "ca.pem"),
            "FIREWORKS_PROXY_UPSTREAM": target,
        }
        with Proxy(folder, variables) as proxy:
            found = proxy.ask()
            check(found == expected, f"{forward} {target}: {found}, not {expected}\n{proxy.log.read_text()}")
        is_well = ours(["--check"], variables | {"FIREWORKS_PROXY_USAGE_STATE": str(proxy.folder / "state.json"), "FIREWORKS_PROXY_PORT": "0"})
        check((is_well.returncode == 0) == (expected[0] == 200), f"--check: {is_well.stdout}")
    log = folder / "access.log"
    tunnels = lambda: len(re.findall(rf"TCP_TUNNEL/200 \d+ CONNECT localhost:{port} ", log.read_text())) >= 4
    await_value("squid's log of four tunnels", tunnels)
    for line in [rf"TCP_DENIED/407 \d+ CONNECT localhost:{port} ", rf"TCP_DENIED/403 \d+ CONNECT localhost:{denied} ",
                 rf"CONNECT localhost:{port} {USER} "]:
        check(re.search(line, log.read_text()), f"{line} is not in squid's log: {log.read_text()}")
    return len(cases)


def main():
    began = time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        compared = compare_with_curl()
        through = go_through_proxies(folder)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - began
    print(f"forward proxies: {through} ways through squid and tinyproxy as they should be, "
          f"{compared} environments read as curl reads them, in {seconds:.1f} s")


main()
