"""The quickstart's rows are what their generator writes, and keep what its head promises.

Run in the source root. The generator is the committed one; its output goes to a temporary folder."""
import json
import pathlib
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path("configs/quickstart")
sys.path.insert(0, str(FOLDER))
sys.dont_write_bytecode = True
import generate  # noqa: E402

SETS = {"teacher": 6000, "train": 240, "eval": 400}
MAX_BYTES = 1500000


def regenerated(bad):
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([sys.executable, "-B", str(FOLDER / "generate.py"), "--out", out], check=True)
        for name in SETS:
            if (pathlib.Path(out) / f"{name}.jsonl").read_bytes() != (FOLDER / f"{name}.jsonl").read_bytes():
                bad.append(f"{name}.jsonl differs from what generate.py writes; run python3 configs/quickstart/generate.py and commit both")


def rows_ok(name, rows, bad):
    fields = {"team": set(generate.TEAMS), "urgent": {True, False}, "product": {*generate.PRODUCTS, "none"}}
    for number, row in enumerate(rows, 1):
        answer = json.loads(row["completion"])
        if list(answer) != list(fields) or any(answer[k] not in fields[k] for k in fields):
            bad.append(f"{name}.jsonl:{number}: {row['completion']}: not the fields, or not values of their closed sets")
        if not row["prompt"].endswith("\n") or row["prompt"].count("\n") != 1 or any(c in row["prompt"] for c in "(|){}"):
            bad.append(f"{name}.jsonl:{number}: {row['prompt']!r}: one line, without what a template is made of")


def true_tickets(seed, n, evaluation, wrong, seen):
    """What the tickets of a set are by their templates: {text: ({team: probability}, held out)}."""
    tickets, original = {}, generate.ticket

    def remember(rng, share):
        made = original(rng, share)
        tickets[made[0] + "\n"] = made[1], made[4]
        return made

    generate.ticket = remember
    try:
        generate.make(seed, n, evaluation, wrong, generate.AMBIGUOUS_SHARE, seen)
    finally:
        generate.ticket = original
    return tickets


def labels_ok(rows, bad):
    """Wrong teams only in train, about as many as said; in eval the likelier team, always."""
    seen, seeds = set(), {"eval": 1, "train": 2, "teacher": 3}
    for name, seed in seeds.items():
        wrong = generate.WRONG_SHARE if name == "train" else 0.0
        truth = true_tickets(seed, SETS[name], name == "eval", wrong, seen)
        impossible = unlikely = ambiguous = misplaced = 0
        for row in rows[name]:
            (teams, held_out), team = truth[row["prompt"]], json.loads(row["completion"])["team"]
            misplaced += held_out != (name == "eval")
            impossible += team not in teams
            unlikely += team != max(teams, key=teams.get)
            ambiguous += len(teams) > 1
        n = len(rows[name])
        if misplaced:
            bad.append(f"{name}.jsonl: {misplaced} tickets whose combination of problem, product and urgency belongs to the other side of the split")
        if not 0.33 * n < ambiguous < 0.47 * n:
            bad.append(f"{name}.jsonl: {ambiguous} of {n} tickets are ambiguous, not about 40 %")
        if name == "train" and not 0.10 * n < impossible < 0.20 * n:
            bad.append(f"train.jsonl: {impossible} of {n} teams are wrong, not about 15 %")
        if name != "train" and impossible:
            bad.append(f"{name}.jsonl: {impossible} wrong teams, and it is said to be clean")
        if name == "eval" and unlikely:
            bad.append(f"eval.jsonl: {unlikely} ambiguous tickets do not have the likelier team")


def main():
    bad, rows = [], {name: [json.loads(line) for line in (FOLDER / f"{name}.jsonl").open(encoding="utf-8")] for name in SETS}
    regenerated(bad)
    for name, n in SETS.items():
        if len(rows[name]) != n:
            bad.append(f"{name}.jsonl: {len(rows[name])} rows, not {n}")
        rows_ok(name, rows[name], bad)
    texts = [row["prompt"] for name in SETS for row in rows[name]]
    if len(texts) != len(set(texts)):
        bad.append(f"{len(texts) - len(set(texts))} tickets stand in two places")
    if not bad:
        labels_ok(rows, bad)
    if (size := sum((FOLDER / f"{name}.jsonl").stat().st_size for name in SETS)) > MAX_BYTES:
        bad.append(f"{size} bytes of rows, at most {MAX_BYTES}")
    print("\n".join(bad[:20]) or f"quickstart: {len(texts)} rows ok")
    return bool(bad)


sys.exit(main())
