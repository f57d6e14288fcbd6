"""The house rules that a machine can check."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.cli import COMMANDS, main
from models import errors
from models.errors import TonaldError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "sklearn", "matplotlib", "onnx", "onnxscript", "rich", "sounddevice", "soundfile", "openvino")
VESSEL_SIDE = (
    "daemon.cli", "daemon.service", "daemon.commands.run", "daemon.commands.listen", "daemon.commands.demo",
    "daemon.sources.audio_file", "daemon.sources.raw_pcm", "daemon.sources.portaudio", "daemon.sources.simulated",
    "models.bundle", "models.engines", "models.explainer", "calibration.ocean", "calibration.truth",
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
        assert (ROOT / "daemon" / "commands" / f"{name}.py").exists(), name


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


def test_unit_file_is_accepted_without_a_word(tmp_path: Path) -> None:
    import shutil

    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "systemd" / "tonald.service").read_text().replace("/opt/tonald/bin/tonald", "/bin/true")
    unit = tmp_path / "tonald.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_figures_in_the_docs_are_those_of_the_shipped_report() -> None:
    report = json.loads((ROOT / "models/bundles/simulated/report/report.json").read_text())["evaluation"]
    at_95, free = report["signature"]["conformal_95"], report["signature"]["threshold_free"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    for text in (
        f"{report['accuracy']:.2f} % of windows named rightly",
        f"{at_95['removed_noise']:.1f} % of the noise",
        f"{at_95['overwritten_tones']:.1f} % of the ship's own tone cells",
        f"{at_95['intersecting_regions']:.2f} lines of other classes",
        f"{free['ot_at_rn_86']:.1f} % of tone cells lost",
    ):
        assert text in readme
    table = (ROOT / "docs/calibration.md").read_text()
    for name, key in (("conformal 0.86", "conformal_86"), ("conformal 0.95", "conformal_95"), ("fixed 0.75", "cut_75")):
        row = report["signature"][key]
        assert f"| {name} | {row['removed_noise']:.1f} | {row['overwritten_tones']:.1f} ±" in table


def test_configuration_open_to_the_network_is_refused_by_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "open.toml"
    path.write_text("[publish]\nendpoints = ['tcp://0.0.0.0:5565']\n")
    assert main(["config", "--check", str(path)]) == 78
    assert "open to the network" in capsys.readouterr().err


def test_figures_of_the_method_are_those_of_the_committed_runs() -> None:
    text = (ROOT / "docs" / "method.md").read_text()
    table = json.loads((ROOT / "docs" / "figures" / "table1.json").read_text())
    peers = json.loads((ROOT / "docs" / "figures" / "peers.json").read_text())["methods"]

    def told(row: dict[str, Any]) -> str:
        at = row["conformal_95"]
        return " | ".join(f"{at[k]:.1f} ± {at[f'{k}_se']:.1f}" for k in ("removed_noise", "overwritten_tones"))

    assert f"--fresh-seed {table['fresh_seed']} --windows {table['n_windows']}" in text
    for row in (table["signature"], table["vessel"], table["vessel_here"], *table["ours"].values()):
        assert told(row) in text
    for key, row in peers.items():
        if key not in ("oracle", "everything"):
            assert f"| {row['name']} |" in text
            assert told(row) in text
