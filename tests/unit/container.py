"""A container whose first process is a real systemd, over a throw-away overlay of this machine's files.

Nothing is written to the machine: what changes lies in memory (tmpfs) and is gone with the container. Needs root, and
the Debian package systemd-container. tonald is installed in it as docs/install.md says: an environment of its own in
/opt/tonald, of Debian's Python, with the packages of the environment that runs this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
BOOT_S = 60.0
TARGET = "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
UNITS = ("tonald.service", "tonald@.service")
UNIFIED = Path("/sys/fs/cgroup/unified")
"""Control groups version 2 beside version 1: the container takes the former, else it has what this machine has."""


class ContainerError(Exception):
    """The machine cannot do this, or the container does not come up; says why."""


class Container:
    """Boots on entering, vanishes on leaving."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise ContainerError("this boots a container: run it as root")
        for program in ("systemd-nspawn", "nsenter", "jackd", "ip", "ss"):
            if not shutil.which(program):
                raise ContainerError(f"{program} is not installed: make system")
        version = self._run(PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            raise ContainerError(f"{PYTHON} is Python {version}, the environment that runs this is another")
        self.folder = Path(tempfile.mkdtemp(prefix="tonald-unit."))
        self.root = self.folder / "t" / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0
        """Process id, here, of the container's systemd."""

    def __enter__(self) -> Container:
        try:
            self._mount()
            self._install()
            self._boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        if self._nspawn is not None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        for mount in (self.root, self.folder / "t"):
            subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _run(*words: str, timeout: float = 120.0) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise ContainerError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _mount(self) -> None:
        t = self.folder / "t"
        t.mkdir()
        self._run("mount", "-t", "tmpfs", "tmpfs", str(t))
        for name in ("up", "work", "root"):
            (t / name).mkdir()
        layers = f"lowerdir=/,upperdir={t}/up,workdir={t}/work"
        self._run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def _install(self) -> None:
        r = self.root
        (r / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (r / "etc/systemd/system/tonald-proof.target").write_text(TARGET)
        shutil.rmtree(r / "opt/tonald", ignore_errors=True)
        self._run(PYTHON, "-m", "venv", "--without-pip", str(r / "opt/tonald"))
        site = next((r / "opt/tonald/lib").glob("python3*/site-packages"))
        for package in ("daemon", "models", "calibration"):
            shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
        self._describe(site)
        (r / "opt/tonald/site").mkdir()
        (site / "packages.pth").write_text("/opt/tonald/site\n")
        program = r / "opt/tonald/bin/tonald"
        program.write_text("#!/opt/tonald/bin/python3\nimport sys\nfrom daemon.cli import main\nsys.exit(main())\n")
        program.chmod(0o755)
        for name in UNITS:
            shutil.copy(ROOT / "systemd" / name, r / "etc/systemd/system" / name)
        (r / "etc/tonald").mkdir(exist_ok=True)

    @staticmethod
    def _describe(site: Path) -> None:
        """What pip would write beside the packages; the daemon reads its version there."""
        metadata = site / "tonald-0+unit.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tonald\nVersion: 0+unit\n")

    def _boot(self) -> None:
        site = sysconfig.get_paths()["purelib"]
        self._nspawn = subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe",
                "--system-call-filter=bpf",  # by which systemd closes the network and devices
                "-M", f"tonald{os.getpid()}", f"--bind-ro={site}:/opt/tonald/site", "--bind=/dev/full:/dev/snd/fake",
                "-D", str(self.root), "/usr/lib/systemd/systemd", "systemd.unit=tonald-proof.target",
                "systemd.show_status=0",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            env=os.environ | ({"UNIFIED_CGROUP_HIERARCHY": "1"} if UNIFIED.is_dir() else {}),
        )  # fmt: skip
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self._nspawn.poll() is not None:
                assert self._nspawn.stderr is not None
                raise ContainerError(
                    f"systemd-nspawn ended: {self._nspawn.stderr.read().decode(errors='replace')[-500:]}"
                )
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
            if children:
                self.leader = int(children[0])
                if self.ask("systemctl", "is-active", "tonald-proof.target") == "active":
                    return
            time.sleep(0.2)
        raise ContainerError(f"systemd did not come up within {BOOT_S:.0f} s")

    def run(self, *words: str, text: str | None = None, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """A command inside, as root; ``text`` for its standard input."""
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-a", *words],
            input=text, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def ask(self, *words: str) -> str:
        """What a command inside says."""
        return self.run(*words).stdout.strip()

    def must(self, *words: str, text: str | None = None) -> str:
        """What a command inside says that must not fail."""
        done = self.run(*words, text=text)
        if done.returncode:
            raise ContainerError(f"inside: {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def show(self, name: str, unit: str = "tonald") -> str:
        """A property of a unit."""
        return self.ask("systemctl", "show", unit, "-p", name, "--value")

    def log(self, unit: str = "tonald", since: str = "") -> str:
        """A unit's journal; ``since`` is a cursor."""
        return self.ask("journalctl", "-u", unit, "-o", "cat", "--no-pager", *self._after(since))

    def journal(self, since: str = "") -> str:
        """All of the journal, also what systemd says of the unit."""
        return self.ask("journalctl", "-o", "short-monotonic", "--no-pager", *self._after(since))

    def cursor(self) -> str:
        """The journal's end."""
        self.must("journalctl", "--sync")
        return self.must("journalctl", "-n", "0", "--show-cursor", "-q").removeprefix("-- cursor: ")

    @staticmethod
    def _after(since: str) -> tuple[str, ...]:
        return ("--after-cursor", since) if since else ()

    def write(self, path: str, text: str) -> None:
        """A file inside."""
        self.must("mkdir", "-p", str(Path(path).parent))
        self.must("tee", path, text=text)

    def outer(self, inside: int) -> int:
        """A process of the container as this machine counts; 0: there is none."""
        ours = Path(f"/proc/{self.leader}/ns/pid").readlink()
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                line = next((x for x in path.read_text().splitlines() if x.startswith("NSpid:")), "")
                same = (path.parent / "ns" / "pid").readlink() == ours
            except OSError:  # gone meanwhile
                continue
            if same and line.split()[-1:] == [str(inside)]:
                return int(path.parent.name)
        return 0

    def main_pid(self, unit: str = "tonald") -> int:
        """Of a unit, as this machine counts processes; 0: it does not run."""
        inside = int(self.show("MainPID", unit) or 0)
        return self.outer(inside) if inside else 0
