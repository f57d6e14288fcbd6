"""The house rules that a machine can check."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.cli import COMMANDS, main
from models import errors
from models.errors import TonaldError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "sklearn", "matplotlib", "onnx", "onnxscript", "rich", "sounddevice", "soundfile", "openvino")
VESSEL_SIDE = (
    "daemon.cli", "daemon.service", "daemon.commands.run", "daemon.commands.listen", "daemon.commands.demo",
    "daemon.sources.audio_file", "daemon.sources.raw_pcm", "daemon.sources.portaudio", "daemon.sources.simulated",
    "daemon.sources.timed", "daemon.commands.verify", "daemon.commands.doctor", "daemon.commands.selftest",
    "daemon.commands.record", "daemon.commands.freeze", "daemon.commands.support", "daemon.commands.status",
    "models.bundle", "models.engines",
    "models.explainer",
    "calibration.ocean", "calibration.truth",
)  # fmt: skip


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.parametrize("module", VESSEL_SIDE)
def test_vessel_side_imports_without_the_training_half(module: str) -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import {module}
print('ok')"""
    assert python(code).strip() == "ok"


@pytest.mark.parametrize("module", VESSEL_SIDE)
def test_vessel_side_imports_without_half_a_second_of_scipy(module: str) -> None:
    slow = ("scipy.signal", "scipy.stats", "scipy.optimize", "scipy.interpolate")
    code = f"import sys, {module}; print([m for m in {slow!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_importing_starts_no_thread_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        f"import os, threading; os.chdir({str(tmp_path)!r})\n"
        + "".join(f"import {m}\n" for m in VESSEL_SIDE)
        + "print(threading.active_count(), os.listdir('.'))"
    )
    assert python(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + code).strip() == "1 []"


def test_no_other_distribution_provides_our_import_names() -> None:
    import importlib.metadata

    owners = importlib.metadata.packages_distributions()
    for name in ("daemon", "models", "calibration"):
        assert set(owners.get(name, [])) <= {"tonald"}


def test_every_command_has_its_module_and_help() -> None:
    for name in COMMANDS:
        assert (ROOT / "daemon" / "commands" / f"{name.replace('-', '_')}.py").exists(), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: tonald {name}" in capsys.readouterr().out


def test_exception_tree_is_drawn_whole_in_its_docstring() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, TonaldError)
        assert f"{name} " in (errors.__doc__ or "")
        assert f"{error.exit_code} " in (errors.__doc__ or "")


def test_install_notes_name_every_exit_code() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    for name in errors.__all__:
        assert f"| {getattr(errors, name).exit_code} |" in text, name


def test_figures_in_the_pages_are_those_of_the_committed_runs_and_the_shipped_report() -> None:
    """``python docs/fill_figures.py`` writes them."""
    script = runpy.run_path(str(ROOT / "docs" / "fill_figures.py"))
    found = set()
    for page in script["PAGES"]:
        text = (ROOT / page).read_text()
        found |= {m[2] for m in script["BLOCK"].finditer(text)}
        assert script["filled"](text) == text, f"{page} is not up to date"
    assert found == set(script["BLOCKS"])


def test_configuration_open_to_the_network_is_refused_by_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "open.toml"
    path.write_text("[publish]\nendpoints = ['tcp://0.0.0.0:5565']\n")
    assert main(["config", "--check", str(path)]) == 78
    assert "open to the network" in capsys.readouterr().err
