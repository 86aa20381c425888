"""The documentation holds together: each folder has a README of at most 40 lines, and every relative link leads somewhere."""
import pathlib
import re
import sys

FOLDERS = "core kernels data model train lora distill export cascade cli configs tests tests/conformance tests/emu bench scripts".split()
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(path):
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


bad = []
for folder in FOLDERS:
    path = pathlib.Path(folder)
    if not any(path.glob("*.*")):
        continue
    if not (path / "README.md").exists():
        bad.append(f"{folder}/README.md is missing")
    elif (n := len((path / "README.md").read_text().splitlines())) > 40:
        bad.append(f"{folder}/README.md has {n} lines, at most 40")
pages = [*pathlib.Path(".").glob("*.md"), *pathlib.Path("docs").glob("*.md"), *(pathlib.Path(f) / "README.md" for f in FOLDERS)]
links = 0
for page in filter(pathlib.Path.exists, pages):
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.S)):
        if re.match(r"[a-z]+:", link):
            continue
        links += 1
        target, _, anchor = link.partition("#")
        there = page.parent / target if target else page
        if not there.exists():
            bad.append(f"{page}: {link} leads nowhere")
        elif anchor and anchor not in anchors(there):
            bad.append(f"{page}: {link}: there is no such heading")
print("\n".join(bad) or f"docs: {len(pages)} pages, {links} links ok")
sys.exit(bool(bad))
