"""The gradients of two processes equal those of one, even if a process has no rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raylevance.losses.infonce import in_batch_infonce

WORKER = """
import json, sys
import torch
from torch import distributed
from raylevance.losses.infonce import in_batch_infonce
from raylevance.training.collective import gather, sum_gradients

rank, store, shares = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
texts = torch.randn(2, sum(shares), 4, dtype=torch.float64)
own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
queries, items = texts[:, own] @ weight
positive = torch.arange(own.start, own.stop)
loss = in_batch_infonce(queries, gather(items, shares), positive, torch.tensor(2.0, dtype=torch.float64))
loss.backward()
total = sum_gradients([weight], loss.detach())
print(json.dumps({"loss": total.item(), "gradient": weight.grad.tolist()}))
"""


@pytest.mark.parametrize("shares", [[2, 2], [3, 2], [1, 0]])
def test_two_processes_have_the_gradient_of_one(tmp_path: Path, shares: list[int]) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "store"), json.dumps(shares)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    queries, items = torch.randn(2, sum(shares), 4, dtype=torch.float64) @ weight
    loss = in_batch_infonce(queries, items, torch.arange(sum(shares)), torch.tensor(2.0, dtype=torch.float64))
    loss.backward()
    for answer in answers:
        assert answer["loss"] == pytest.approx(loss.item(), abs=1e-12)
        torch.testing.assert_close(torch.tensor(answer["gradient"], dtype=torch.float64), weight.grad)
