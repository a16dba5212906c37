"""What users install: wheel and sdist, nothing beside ftt_hub, a working console script."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from ftt_hub import kernels

ROOT = Path(__file__).parents[2]
LIGHT = ("click", "lazy_loader", "wrapt")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of a copy of this tree."""
    import shutil

    source = tmp_path_factory.mktemp("tree") / "ftt-hub"
    names = ("ftt_hub", "cli", "schemas", "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in names:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, source / name)
    out = source.parent / "dist"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_nothing_but_ftt_hub(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"ftt_hub", names[-1].split("/")[0]}
    web = ("web/page.css", "web/page.js", "web/adapter.html")
    data = ("schemas/adapter_config.schema.json", "evaluation/settings/gsm8k.yaml", *web)
    for needed in ("py.typed", "cli/main.py", *data):
        assert f"ftt_hub/{needed}" in names


def test_the_sdist_holds_what_the_wheel_is_built_from(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"cli/main.py", "schemas/index.schema.json", "ftt_hub/py.typed", "LICENSE"} <= names
    for source in ("compiled.c", "deltas.c", "rotation.c", "symbols.c", "kernels.h"):
        assert f"ftt_hub/kernels/{source}" in names


@pytest.mark.skipif(kernels.COMPILED is None, reason="no C compiler, or turned off")
def test_the_wheel_brings_compiled_code_for_all_versions_of_python(
    built: tuple[Path, Path],
) -> None:
    assert "-cp311-abi3-" in built[0].name
    with zipfile.ZipFile(built[0]) as wheel:
        assert sum(name.startswith("ftt_hub/kernels/compiled.abi3") for name in wheel.namelist())


def test_without_a_compiler_the_package_is_built_without_compiled_code(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    """pip prints no error, and what it installs computes with NumPy."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "--no-index",
            "--wheel-dir",
            tmp_path,
            built[1],
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CC": "false"},
    )
    assert "error" not in (done.stdout + done.stderr).lower()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert not [name for name in wheel.namelist() if "compiled.abi3" in name]
        wheel.extractall(tmp_path / "site")
    code = (
        "from ftt_hub import kernels; from ftt_hub.tensors import delta; "
        "print(kernels.COMPILED, kernels.__file__)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path / "site",
        env={"PYTHONPATH": str(tmp_path / "site")},
    )
    assert seen.stdout.split() == ["None", str(tmp_path / "site/ftt_hub/kernels/__init__.py")]


def test_the_wheel_runs_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    """`--help` needs two small packages and nothing that is heavy."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", built[0]], check=True)
    for name in LIGHT:
        found = next(d for d in distributions() if d.metadata["Name"].replace("-", "_") == name)
        (site / name).symlink_to(Path(str(found.locate_file(name))))
    script = site.parent.parent.parent / "bin" / "ftt-hub"
    assert script.is_file()
    done = subprocess.run([python, script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Diff vectors as transfer adapters" in done.stdout
    top = {p.name.split(".")[0].split("-")[0] for p in site.iterdir()}
    assert top <= {"ftt_hub", *LIGHT, "__pycache__"}


def test_all_is_sorted_and_complete() -> None:
    import ftt_hub

    assert ftt_hub.__all__ == sorted(ftt_hub.__all__)
    for name in ftt_hub.__all__:
        assert getattr(ftt_hub, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        ftt_hub.nonsense  # noqa: B018
