"""The command lines behind a row of a table: each is run once, and its results are remembered.

A run lives in a folder named after what it does, so that rows that tables share are trained once, and a reproduction
that was interrupted goes on where it stopped.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError, ConfigError, DataError, DeclipError
from nanoworld.plugin import NANO, NANO_12
from nanoworld.reproduce.tables import DENSE, DETECTED, REGIONS, RETRIEVAL, SEGMENTED, Row, RowKind
from nanoworld.weights import shipped_weights, weights_version

PROMPTS = ("--prompts", "photo")
ANY = None


@dataclass(frozen=True)
class Subject:
    """An encoder that tables are reproduced with.

    Attributes:
        encoder: its name, ``MODEL.ENCODER.NAME``.
        weights: of the original.
        configs: of the trainings that there are.
    """

    encoder: str
    weights: str
    configs: Mapping[RowKind, str]

    def config(self, kind: RowKind) -> str:
        """The config of a training.

        Raises:
            ConfigError: there is none.
        """
        if kind not in self.configs:
            raise ConfigError(f"encoder '{self.encoder}' has no config for a {kind.value}: choose another table")
        return self.configs[kind]

    def version(self) -> str:
        """What stands for the contents of all weights that rows begin with: other weights, other results.

        Raises:
            CheckpointError: the original's are missing.
        """
        if shipped_weights(self.weights):
            return weights_version()
        if not Path(self.weights).is_file():
            raise CheckpointError(f"{self.weights} of encoder '{self.encoder}' is missing: train it, see docs/nano.md")
        return weights_version(Path(self.weights))


SUBJECTS = {
    NANO: Subject(
        NANO,
        "nano-clip",
        {
            RowKind.DISTILLED: "distill_nano.yaml",
            RowKind.SEGMENTER: "declip_catseg_nano.yaml",
            RowKind.DETECTOR: "fvit_nano.yaml",
        },
    ),
    NANO_12: Subject(
        NANO_12, "output/nano_clip12_native/weights.safetensors", {RowKind.DISTILLED: "distill_nano12.yaml"}
    ),
}
"""By name of the encoder."""


@dataclass(frozen=True)
class Runs:
    """Runs rows with seeds.

    Attributes:
        tools: folder of the project's command lines.
        folder: of the runs.
        subject: whose tables these are.
        dataset, detection: nano split to evaluate on, and the same for detectors; none that anything was tuned on.
        options: ``KEY VALUE`` pairs for every training, after those of the row.
        threads: CPU threads of a run; None: as many as it likes.
    """

    tools: Path
    folder: Path
    subject: Subject = SUBJECTS[NANO]
    dataset: str = "nano_final"
    detection: str = "nano_det_final"
    options: tuple[str, ...] = ()
    threads: int | None = None

    def evaluate_all(self, rows: Iterable[Row], seeds: Sequence[int], jobs: int = 1) -> None:
        """Run rows with their seeds, each once, ``jobs`` at a time; :meth:`evaluate` then only remembers.

        Encoders that rows share come first: two rows at a time would train one in the same folder.

        Raises:
            DeclipError: a command line failed; those under way are finished, others not begun.
        """
        rows = list(rows)
        for encoder in dict.fromkeys(row.encoder for row in rows if row.encoder):
            self._distilled(encoder, 0)
        needed = {(row.kind, row.options, row.encoder, seed): row for row in rows for seed in row.seeds_of(seeds)}
        with ThreadPoolExecutor(jobs) as pool:
            pending = [pool.submit(self.evaluate, row, seed) for (*_, seed), row in needed.items()]
            try:
                for finished in tqdm(as_completed(pending), "trained and evaluated", len(pending), unit="run"):
                    finished.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def evaluate(self, row: Row, seed: int) -> dict[str, float]:
        """Metrics of a row in percent.

        Raises:
            DeclipError: a command line failed; its log is named.
        """
        match row.kind:
            case RowKind.ORIGINAL:
                folder = self.folder / f"original-{row.options[0].replace(':', '-')}"
                return self._evaluate_encoder(self.subject.weights, row.options[0], folder)
            case RowKind.DISTILLED:
                folder = self._distilled(row, seed)
                return self._evaluate_encoder(str(folder / "declip.safetensors"), None, folder)
            case RowKind.SEGMENTER:
                results = self.segmenter_output(row, seed).with_name("results.json")
                return {name: read_result(results, self.dataset, name) for name in SEGMENTED}
            case RowKind.DETECTOR:
                more = ("DATASETS.TEST", f"('{self.detection}',)")
                if row.encoder:
                    weights = self._distilled(row.encoder, 0) / "declip.safetensors"
                    more = (*more, "MODEL.ENCODER.WEIGHTS", str(weights))
                folder = self._training("train_net.py", row, seed, more)
                results = folder / "inference" / "results.json"
                return {name: read_result(results, self.detection, "bbox", name) for name in DETECTED}

    def segmenter_output(self, row: Row, seed: int) -> Path:
        """The evaluator's output folder, with predictions, of a row of kind SEGMENTER."""
        more = ("DATASETS.TEST", f"('{self.dataset}',)", "TEST.VISUALIZE", "0", "TEST.SAVE_PREDICTIONS", "True")
        folder = self._training("train_net.py", row, seed, more)
        return folder / "inference" / self.dataset

    def _distilled(self, row: Row, seed: int) -> Path:
        """Folder of a finished distillation."""
        return self._training("train_declip.py", row, seed, ("TEST.EVAL_PERIOD", "0"))

    def _training(self, tool: str, row: Row, seed: int, more: Sequence[str]) -> Path:
        """Folder of a finished training."""
        options = (*row.options, *more, *self.options)
        folder = self.folder / f"{row.kind.value}-{fingerprint(options)}-seed{seed}"
        arguments = (
            "--config-file",
            self.subject.config(row.kind),
            "--resume",
            *options,
            "SEED",
            str(seed),
            "OUTPUT_DIR",
            str(folder),
        )
        self._run(tool, arguments, folder)
        return folder

    def _evaluate_encoder(self, weights: str, context: str | None, folder: Path) -> dict[str, float]:
        common = ("--encoder", self.subject.encoder, "--weights", weights, *PROMPTS)
        common = (*common, *(("--contexts", context) if context else ()))
        regions, dense = folder / "regions", folder / "dense"
        kind = ("--regions", self.dataset, "--methods", "boxes")
        self._run("eval_regions.py", (*common, *kind, "--output", str(regions)), regions)
        self._run("eval_dense.py", (*common, "--datasets", self.dataset, "--output", str(dense)), dense)
        whole = folder / "class_token"
        images = ("--encoder", self.subject.encoder, "--weights", weights, "--captions", self.dataset)
        self._run("eval_class_token.py", (*images, "--output", str(whole)), whole)
        accuracy = {name: read_result(regions / "results.json", 0, name.replace(" ", "_")) for name in REGIONS}
        return {
            **accuracy,
            DENSE: read_result(dense / "results.json", ANY, self.dataset, "mIoU"),
            RETRIEVAL: read_result(whole / "results.json", 0, "image_to_text_R@1"),
        }

    def _run(self, tool: str, arguments: Sequence[str], folder: Path) -> None:
        """Run a command line unless it has been run to its end; its output goes to ``folder/output.txt``."""
        command = [str(self.tools / tool), *arguments]
        done, log = folder / "done.json", folder / "output.txt"
        finished = json.dumps(command)
        if done.is_file() and done.read_bytes() == finished.encode():
            return
        folder.mkdir(parents=True, exist_ok=True)
        logging.getLogger(__name__).info("%s", " ".join(command))
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {})}
        with open(log, "w", encoding="utf-8") as output:
            result = subprocess.run(
                [sys.executable, *command], stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
            )
        if result.returncode:
            lines = log.read_text(encoding="utf-8").strip().splitlines() or ["no output"]
            raise DeclipError(f"{' '.join(command)} failed, see {log}: {lines[-1]}")
        with replacing(done) as temporary:
            temporary.write_text(finished, encoding="utf-8")


def read_result(path: Path, *keys: object) -> float:
    """A number in a file of results, by the keys that lead to it; ``ANY`` is the only one there is.

    Raises:
        DataError: the file is missing or damaged, or holds no such number.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            (value,) = value.values() if key is ANY else (value[key],)
        return float(value)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error!r}): remove {path.parent} to evaluate again") from error


def fingerprint(options: Sequence[str]) -> str:
    """Eight hexadecimal digits that stand for options."""
    return hashlib.sha256(json.dumps(list(options)).encode()).hexdigest()[:8]
