"""Two ranks under mpirun train as one rank does with twice the accumulation; a signal to one of them stops both; a failure of one ends both.

python3 tests/e2e/ranks.py [PROGRAM]"""
import json
import os
import signal
import subprocess
import sys
import time

from common import PROGRAM, SKIPPED, Folder, check, main, write_recipe
from trained import no_mpi, ranks, ranks_agree

# 8 micro-batches of 4 rows an epoch, with dropout, so that each micro-batch must have its own mask.
CHANGES = {"distill__control": False, "export": None, "eval": None}


def same_training():
    with Folder() as folder:
        print("        " + ranks_agree(folder, **CHANGES))


def of_ranks(parent):
    """Process numbers of the ranks below mpirun."""
    out = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in out.splitlines() if PROGRAM in line]


def one_signal_stops_both():
    with Folder() as folder:
        write_recipe(folder, **CHANGES, train__max_steps=4000, train__save_steps=0, train__eval_steps=0)
        metrics_file = folder / "out/train/metrics.jsonl"
        with open(folder / "log", "wb") as log:
            process = ranks(2, "run", "recipe.yaml", cwd=folder, log=log)
            end = time.monotonic() + 120
            while time.monotonic() < end and process.poll() is None and not (metrics_file.is_file() and metrics_file.stat().st_size):
                time.sleep(0.01)
            found = of_ranks(process.pid)
            check(len(found) == 2, f"{len(found)} ranks are there", (folder / "log").read_text())
            os.kill(found[1], signal.SIGTERM)
            code = process.wait(60)
        text = (folder / "log").read_text()
        check(code == 75, f"exit {code} after a signal to rank 1", text)
        saved = sorted(p.name for p in (folder / "out/train").glob("checkpoint-*"))
        check(len(saved) == 1 and "saved step" in text, f"checkpoints: {saved}", text)
        last = [json.loads(line)["step"] for line in metrics_file.read_text().splitlines()][-1]
        check(saved[0] == f"checkpoint-{last}", f"{saved[0]}, but the last step is {last}")


def one_failure_ends_both():
    with Folder() as folder:
        write_recipe(folder, **CHANGES, data__train="nowhere.jsonl")
        with open(folder / "log", "wb") as log:
            code = ranks(2, "run", "recipe.yaml", cwd=folder, log=log).wait(60)
        text = (folder / "log").read_text()
        check(code not in (0, 75) and "nowhere.jsonl" in text, f"exit {code}", text)


if reason := no_mpi():
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)
main([same_training, one_signal_stops_both, one_failure_ends_both])
