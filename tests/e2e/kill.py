"""A run that is killed or stopped at any moment, and started again by the same command, ends with the bytes it would have had.

python3 tests/e2e/kill.py [PROGRAM] [--kills=N] [--seed=S]: N times kill -9 (6), at moments drawn from S (1).
With --quickstart instead: N times (20) in configs/quickstart.yaml itself, which takes several runs of some minutes."""
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from common import ROOT, Folder, check, decant, differing, leftovers, main, make_data, name_of, start, succeed, write_recipe

COMMAND = ("run", "recipe.yaml")


def option(name, fallback):
    return next((int(a.split("=")[1]) for a in sys.argv if a.startswith(f"--{name}=")), fallback)


def home(folder, name):
    made = folder / name
    made.mkdir()
    make_data(made)
    write_recipe(made)
    return made


def timed(command, there, **more):
    """A whole run of the command; its output folder and its seconds."""
    began = time.monotonic()
    succeed(*command, cwd=there, **more)
    return there / "out", time.monotonic() - began


def undisturbed(folder):
    return timed(COMMAND, home(folder, "undisturbed"))


def last_checkpoints(out):
    steps = {}
    for path in out.rglob("checkpoint-*"):
        steps.setdefault(path.parent, []).append(int(path.name.split("-")[1]))
    return tuple(f"{folder.relative_to(out)}/checkpoint-{max(there)}/" for folder, there in steps.items())


def same_as(plain, other, story):
    """Which checkpoints are kept beside the last one depends on where a run was stopped; nothing else does."""
    kept = re.compile(r"/checkpoint-\d+/")
    last = last_checkpoints(plain)
    check(last, f"no checkpoint below {plain}")
    found = [n for n in differing(plain, other) if not kept.search(n) or n.startswith(last)]
    check(not found, f"{story}: these files differ from the undisturbed run's:", *found)
    check(not leftovers(other), f"{story}: left behind:", *leftovers(other))


def finish(there, story, command=COMMAND, **more):
    done = decant(*command, cwd=there, **more)
    check(done.code == 0, f"{story}: the same command again: exit {done.code}", done.err)


def disturb(there, number, delay, log, command=COMMAND):
    """Sends the signal `delay` seconds after the program began to work; the exit code."""
    with open(log, "wb") as stderr:
        process = start(*command, cwd=there, log=stderr)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, number)
        return process.wait(60)


def kill_9():
    """Three kills in a row on each output folder, then to the end."""
    draw = random.Random(option("seed", 1))
    kills = option("kills", 6)
    with Folder() as folder:
        plain, seconds = undisturbed(folder)
        for first in range(0, kills, 3):
            there = home(folder, f"killed-{first}")
            story = "kill -9"
            for _ in range(min(3, kills - first)):
                delay = draw.uniform(0, 0.9 * seconds)
                code = disturb(there, signal.SIGKILL, delay, there / "log")
                check(code in (0, -signal.SIGKILL), f"{story}: exit {name_of(code)}", (there / "log").read_text())
                story += f" after {delay:.3f} s"
            finish(there, story)
            same_as(plain, there / "out", story)


def quickstart():
    """Up to five kills on each output folder, at moments spread over the whole run: each comes as long after the last resume as the two moments
    are apart."""
    command = ("run", ROOT / "configs/quickstart.yaml", "output_dir=out")
    draw = random.Random(option("seed", 1))
    kills, met = option("kills", 20), 0
    with Folder() as folder:
        for name in ("undisturbed", *map(str, range(0, kills, 5))):
            (folder / name).mkdir()
        plain, seconds = timed(command, folder / "undisturbed", timeout=3600)
        for n in ("train/adapter/adapter_model.safetensors", "export/out-Q8_0.gguf", "export/out-Q4_0.gguf"):
            check((plain / n).is_file(), f"{n} is not there")
        for first in range(0, kills, 5):
            there, story, before = folder / str(first), "kill -9", 0
            for moment in sorted(draw.uniform(0, 0.95 * seconds) for _ in range(min(5, kills - first))):
                code = disturb(there, signal.SIGKILL, moment - before, there / "log", command)
                check(code in (0, -signal.SIGKILL), f"{story}: exit {name_of(code)}", (there / "log").read_text())
                met += code != 0
                story += f" after {moment - before:.3f} s"
                before = moment
            finish(there, story, command, timeout=3600)
            same_as(plain, there / "out", story)
            print(f"        {story}: the same bytes", flush=True)
    check(2 * met > kills, f"only {met} of {kills} kills met a run at work")


def handlers_stand(process):
    """Signals count from the moment that they are waited for; before it the system's own way holds."""
    wanted = sum(1 << (n - 1) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1))
    while process.poll() is None:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        if int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16) & wanted == wanted:
            return
        time.sleep(0.001)


def stop(there, number, delay):
    log = there / "log"
    with open(log, "wb") as stderr:
        process = start(*COMMAND, cwd=there, log=stderr)
        handlers_stand(process)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, number)
        return process.wait(60), log.read_text()


def signals():
    """Each signal at several moments of the whole run: 75, or 0 when it came too late."""
    draw = random.Random(option("seed", 1))
    stopped, during = 0, set()
    with Folder() as folder:
        plain, seconds = undisturbed(folder)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            there = home(folder, f"stopped-{number.name}")
            story = number.name
            for part in range(4):
                delay = seconds * (part + draw.random()) / 5 if part < 3 else draw.uniform(0, 0.9) * seconds
                code, log = stop(there, number, delay)
                check(code in (0, 75), f"{story}: exit {name_of(code)}, not 75", log)
                if code == 75:
                    stopped += 1
                    check(f"stopped by {number.name} during" in log, f"{story}: the last line does not say what was stopped:", log)
                    during.add(log.splitlines()[-1].split(" during ")[1])
                check(not leftovers(there / "out", ".tmp"), f"{story}: left behind:", *leftovers(there / "out", ".tmp"))
                story += f" after {delay:.3f} s"
            finish(there, story)
            same_as(plain, there / "out", story)
    check(stopped >= 6, f"only {stopped} signals met a run at work")
    print("        stopped during: " + ", ".join(sorted(during)))


def wait_for(process, there, sign, seconds=30):
    """Until the run's folder shows that a stage is at work."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and not sign(there):
        time.sleep(0.0005)


def has_lines(path):
    return path.is_file() and path.stat().st_size > 0


def in_stages():
    """A signal in every stage: as soon as the stage's folder shows work, and then anew after the resume."""
    signs = {
        "prepare": lambda t: (t / "out/data").is_dir(),
        "teacher from scratch": lambda t: (t / "out/teacher/train/metrics.jsonl").is_file(),
        "teach": lambda t: (t / "out/teacher/model").is_dir(),
        "train": lambda t: has_lines(t / "out/train/metrics.jsonl"),
        "control": lambda t: has_lines(t / "out/train/control/metrics.jsonl"),
        "merge": lambda t: (t / "out/train/summary.json").is_file(),
        "export": lambda t: (t / "out/export").is_dir(),
        "eval": lambda t: (t / "out/eval").is_dir(),
    }
    with Folder() as folder:
        plain, _ = undisturbed(folder)
        there = home(folder, "stages")
        for stage, sign in signs.items():
            log = there / "log"
            with open(log, "wb") as stderr:
                process = start(*COMMAND, cwd=there, log=stderr)
                wait_for(process, there, sign)
                process.send_signal(signal.SIGTERM)
                code = process.wait(60)
            check(code == 75, f"SIGTERM in {stage}: exit {name_of(code)}, not 75", log.read_text())
            check(not leftovers(there / "out", ".tmp"), f"SIGTERM in {stage}: left behind:", *leftovers(there / "out", ".tmp"))
            if stage in ("train", "control"):
                check("saved step" in log.read_text() or "during the " in log.read_text(), f"SIGTERM in {stage}: nothing tells of a checkpoint:",
                      log.read_text())
        finish(there, "a SIGTERM in every stage")
        same_as(plain, there / "out", "a SIGTERM in every stage")


main([quickstart] if "--quickstart" in sys.argv else [kill_9, signals, in_stages])
