"""A training on two machines, of which one loses its process, as docs/scale.md has it: two agents on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.running import several_processes

TRAIN_NET = Path(__file__).resolve().parents[2] / "tools/train_net.py"
PATIENCE = 1200  # seconds


@pytest.fixture
def nodes(environment, tiny_config):
    """Starts the two agents of a training; what still runs at the end is killed."""
    started, variables = [], {**environment, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}

    def start(folder):
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        launcher = ["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2"]
        launcher += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--monitor-interval=0.1"]
        options = ["--resume", "--config-file", tiny_config, "OUTPUT_DIR", folder, "DATASETS.TEST", "()"]
        options += ["SOLVER.MAX_ITER", "60", "SOLVER.CHECKPOINT_PERIOD", "10", "DATALOADER.NUM_WORKERS", "0"]
        command = [sys.executable, "-m", *launcher, str(TRAIN_NET), *map(str, options)]
        for node in range(2):
            with open(folder / f"node{node}.txt", "w") as output:
                started.append(subprocess.Popen(command, env=variables, stdout=output, stderr=output))
        return started[-2:]

    yield start
    for agent in started:
        agent.kill()
        agent.wait()


def ended(agents, folder):
    """Wait for the end of both, which has to be a good one; the weights they leave."""
    for node, agent in enumerate(agents):
        assert agent.wait(PATIENCE) == 0, (folder / f"node{node}.txt").read_text()[-3000:]
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def process_of(agent):
    """The training process that an agent has started."""
    return int(Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()[0])


@several_processes
@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds processes as Linux lists them")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_training_that_loses_a_process_ends_as_if_it_had_not(lost, nodes, tmp_path):
    undisturbed = ended(nodes(tmp_path / "undisturbed"), tmp_path / "undisturbed")
    folder = tmp_path / "disturbed"
    agents = nodes(folder)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "last_checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process_of(agents[lost]), signal.SIGKILL)
    assert not (folder / "model_final.pth").exists(), "the run was over before it could be disturbed"
    disturbed = ended(agents, folder)
    assert "Resumed from" in (folder / "log.txt").read_text()
    assert all(torch.equal(disturbed[name], tensor) for name, tensor in undisturbed.items())
