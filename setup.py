"""How kerasrep is installed; tool settings are in pyproject.toml.

The bounds were tried: `constraints/` holds the lowest and the highest versions that work together, and
`constraints.txt` those that pip chooses.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

REQUIREMENTS = [
    "tensorflow>=2.17,<2.22",
    # 3.10 is the first with the synchronisation fix of MirroredStrategy.
    "keras>=3.10,<3.16",
    "numpy>=1.26,<3",
    "keras-tuner>=1.4.8",
    "tensorboard>=2.17,<2.22",
    # TensorBoard below 2.21 imports pkg_resources, which 82 leaves out.
    "setuptools>=77.0.1,<82",
    "protobuf>=4.25",
    "scikit-learn>=1.4",
    "scipy>=1.11",
    # Earlier ones refuse a list where a union has a tuple.
    "pydantic>=2.11,<3",
    "pyyaml>=6.0.1",
    "soundfile>=0.12",
    "soxr>=0.3.7",
    "google-crc32c>=1.6",
    # Sizes of the arrays in .keras files, before Keras reads them.
    "h5py>=3.10",
    "joblib>=1.3",
    "tqdm>=4.66",
    "matplotlib>=3.8",
    "jinja2>=3.1",
    "librosa>=0.10.2",
    # 0.59 is the first for Python 3.12.
    "numba>=0.59",
    # Earlier ones write no checksums of pages.
    "pyarrow>=17",
    "threadpoolctl>=3.5",
    # M4A, WebM, WMA and so on, and files whose headers libsndfile believes; ffmpeg's libraries are inside.
    "av>=14",
    # Tags inside audio files; pure Python.
    "mutagen>=1.46",
]

EXTRAS = {
    # The front end's layers; without it, kerasrep's own of the same names and numbers run. Its metadata cap
    # TensorFlow below 2.21, Keras below 3.14 and librosa below 1, although it runs with later ones.
    "kapre": ["kapre==0.4.1"],
    # audio.decoder: tensorflow-io. Its binary loads with TensorFlow 2.16 and 2.17 only; none for Python 3.13.
    "io": ["tensorflow-io==0.37.1", "tensorflow<2.18"],
    # Kapre, and what renders the corpus; pinned exactly, as that must have the same bytes everywhere.
    "demo": ["kapre==0.4.1", "music21==10.5.1", "symusic==0.5.8", "pretty_midi==0.2.11.post0"],
    # Clients of a server (kerasrep.serving.client).
    "serving": ["grpcio>=1.60", "requests>=2.31"],
    # kerasrep-study; 0.15 is the first for pandas 3.
    "study": ["statsmodels>=0.15,<0.16"],
    # kerasrep-export --format onnx; onnx 1.19 wants an ml-dtypes that TensorFlow 2.17 cannot use.
    "onnx": ["tf2onnx>=1.16", "onnx>=1.16", "onnxruntime>=1.17"],
    # Searches of 200,000 rows and more; maps by UMAP in place of t-SNE.
    "search": ["usearch>=2.16"],
    "map": ["umap-learn>=0.5.7"],
    # from: mirdata, labels of data sets that mirdata's loaders know.
    "mirdata": ["mirdata>=1.0"],
    "gpu": ["tensorflow[and-cuda]>=2.17,<2.22"],
    # For kerasrep-import alone; earlier releases could be made to run code by a checkpoint.
    "torch": ["torch>=2.6"],
    # --ray; 2.60 is what was tried. It takes NumPy 1.26, protobuf 4 and pyarrow 25; `train` is for trainings.
    "scale": ["ray[train]>=2.60,<3", "grpcio>=1.60"],
    # The site in docs/; it builds offline.
    "docs": ["sphinx>=9", "myst-nb>=1.4", "furo>=2025.12"],
    "test": [
        "pytest>=9",
        "pytest-xdist>=3.8",
        "hypothesis>=6.150",
        "ruff==0.17.6",
        "mypy==2.4.1",
        "types-PyYAML>=6.0.12",
        # `pytest -m package`
        "build>=1.3",
        "twine>=6.2",
        # What only some users need; and what TF Serving's messages are compared with, of TensorFlow's minor.
        "grpcio>=1.60",
        "requests>=2.31",
        "statsmodels>=0.15,<0.16",
        "tensorflow-serving-api>=2.17,<2.22",
        "usearch>=2.16",
        # Pages are tested where a Chromium is installed; no browser is downloaded.
        "playwright>=1.45",
        "axe-playwright-python>=0.1.8",  # carries axe-core
    ],
}
EXTRAS["dev"] = ["tox>=4", *EXTRAS["demo"], *EXTRAS["test"]]

COMMANDS = [
    "train",
    "prepare",
    "export",
    "embed",
    "evaluate",
    "import_checkpoint",
    "search",
    "map",
    "tune",
    "study",
]
#: Version of `exported/starter` that is shipped.
STARTER_VERSION = "5"
#: Names that Python does not allow for a module.
NAMES = {"import_checkpoint": "import"}


def version() -> str:
    """The version that `kerasrep/__init__.py` states; the package itself is not imported."""
    text = (ROOT / "kerasrep" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("kerasrep/__init__.py states no __version__")
    return found.group(1)


class BuildWithStarter(build_py):
    """Put the trunk that comes with kerasrep into the package, as `kerasrep/exported/starter`.

    Only what git keeps: other versions are the user's own. A clone installed with `-e` has it already.
    """

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if self.editable_mode:
            return
        for path in self._starter():
            target = Path(self.build_lib, "kerasrep", path.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name what was copied as well."""
        copied = [str(Path(self.build_lib, "kerasrep", p.relative_to(ROOT))) for p in self._starter()]
        return [*super().get_outputs(include_bytecode), *copied]

    def _starter(self) -> list[Path]:
        starter = ROOT / "exported" / "starter"
        files = (path for path in starter.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(
            path for path in files if path.parent == starter or path.is_relative_to(starter / STARTER_VERSION)
        )


setup(
    cmdclass={"build_py": BuildWithStarter},
    name="kerasrep",
    version=version(),
    description="Music representations learnt from many sources, as SavedModels",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="kerasrep authors",
    license_expression="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["kerasrep", "kerasrep.*"]),
    package_data={
        "kerasrep": ["py.typed"],
        "kerasrep.report": ["templates/*"],
        "kerasrep.serving": ["*.binpb"],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            f"kerasrep-{NAMES.get(command, command)}=kerasrep.cli.{command}:entry" for command in COMMANDS
        ]
    },
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
