"""Lists which lines of docs/LINES.md have a test named line_<number>_<phrase>. Called by `make coverage-of-lines`."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
asked = {
    int(number): phrase
    for number, phrase in re.findall(r"^\| (\d+) \| (.*?) \|", (root / "docs/LINES.md").read_text(), re.MULTILINE)
}
tests: dict[int, list[str]] = {}
sources = [path for path in root.rglob("*.rs") if "target" not in path.relative_to(root).parts]
for path in sources:
    for number, name in re.findall(r"fn line_(\d+)_(\w+)", path.read_text()):
        tests.setdefault(int(number), []).append(f"{path.relative_to(root)} {name}")
if not asked:
    sys.exit("docs/LINES.md names no line")
for number, phrase in sorted(asked.items()):
    found = tests.get(number, [])
    print(f"{'ok  ' if found else '    '} {number:3}  {phrase}")
    for test in found:
        print(f"           {test}")
unknown = sorted(set(tests) - set(asked))
missing = sorted(set(asked) - set(tests))
print(f"{len(asked) - len(missing)} of {len(asked)} lines have a test")
if missing:
    print("without one:", *missing)
if unknown:
    print("beyond what is asked:", *unknown)
