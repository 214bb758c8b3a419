"""The built wheel, installed away from the checkout: what users get who do not clone."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    tuple(map(int, version("setuptools").split(".")[:2])) < (70, 1), reason="older setuptools build no wheel alone"
)
PARTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "d2host", "catseg", "projects")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
from pathlib import Path

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import catseg, d2host, declip, fvit, nanoworld

site = Path(declip.__file__).parents[1]
for package in (d2host, declip, catseg, fvit, nanoworld):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name != "d2host.real":  # needs Detectron2
            importlib.import_module(module.name)
packages = [site / name for name in ("catseg", "d2host", "declip", "fvit", "nanoworld")]
read = [Path(name) for name in opened if any(Path(name).is_relative_to(package) for package in packages)]
data = [path for path in read if path.is_file() and path.suffix not in (".py", ".pyc")]
assert not data, f"importing opens {data}"
checkout = [path for path in sys.path if path.startswith(sys.argv[1]) and "site-packages" not in path]
assert not checkout, checkout  # an environment may lie within it
ours = [each for name, each in sys.modules.items() if site / name.split(".")[0] in packages]
assert len(ours) > 80
assert all(Path(each.__file__).is_relative_to(site) for each in ours if each.__file__), site
"""

EVALUATE = """
import sys
from pathlib import Path

from d2host.engine.config_file import find_config
from declip import build_encoder
from declip.data.class_lists import load_class_list
from declip.evaluation.zero_shot import evaluate_zero_shot, protocol_of, zero_shot_vocabulary
from declip.evaluation.zero_shot.run import ZeroShotOptions
from declip.models.zero_shot_classifier import Templates

assert find_config("declip_catseg_vitb.yaml").is_file() and find_config("declip_catseg_nano.yaml").is_file()
assert len(load_class_list("ade20k_150")) == len(zero_shot_vocabulary("ade20k_150_test_sem_seg").synonyms) == 150
encoder = build_encoder("nano", "nano-clip", context="qk")
options = ZeroShotOptions(templates=Templates.NAME, max_images=2, num_workers=0)
results = evaluate_zero_shot(
    encoder, [encoder.context], {"nano_val": protocol_of("nano", "nano_val")}, Path("out"), options
)
assert 0 < results["qk"]["nano_val"]["mIoU"] <= 100
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The interpreter of an environment that holds the wheel, and this environment's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        source, target = REPOSITORY / part, folder / "source" / part
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        else:
            shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source")]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    shutil.rmtree(folder / "source")
    venv.create(folder / "env", with_pip=False)
    python = next((folder / "env").glob("*/python")) if os.name == "posix" else folder / "env/Scripts/python.exe"
    (wheel,) = folder.glob("*.whl")
    target = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, str(wheel)], check=True)
    # folders named in a .pth file are searched last, and their own .pth files (the editable install's) are not read
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    Path(target, "others.pth").write_text("\n".join(others))
    return python


def run(python, code, folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), "-c", code, *arguments],
        cwd=folder,
        env={**environment, "DETECTRON2_DATASETS": str(folder)},
        capture_output=True,
        text=True,
    )


def test_every_module_imports_from_the_wheel_and_opens_no_data(installed, tmp_path):
    result = run(installed, IMPORT_EVERYTHING, tmp_path, str(REPOSITORY))
    assert result.returncode == 0, result.stderr


def test_the_wheel_holds_recipes_class_lists_and_weights_and_evaluates(installed, tmp_path):
    result = run(installed, EVALUATE, tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/results.md").is_file()
