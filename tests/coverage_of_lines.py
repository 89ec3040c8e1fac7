"""Lists which lines of the product's checklist have a test named `line_NNN_<phrase>`, anywhere in the workspace.

`make coverage-of-lines` prints it; docs/LINES.md says which lines there are and which are asked for. Exit code 1 when a
line that is asked for has no test.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMED = re.compile(r"\bfn (line_(\d{3})_\w+)")
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (yes|no) \|$")


def lines_asked_for():
    rows = {}
    for line in (ROOT / "docs/LINES.md").read_text().splitlines():
        if row := ROW.match(line):
            rows[int(row[1])] = (row[2], row[3] == "yes")
    return rows


def tests_by_line():
    found = {}
    for folder in ("events", "gateway", "projector", "admin", "compose", "tests", "benches"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            for name, number in NAMED.findall(path.read_text()):
                found.setdefault(int(number), []).append(f"{path.relative_to(ROOT)}: {name}")
    return found


def main():
    rows, tests = lines_asked_for(), tests_by_line()
    missing = [number for number, (_, asked) in rows.items() if asked and number not in tests]
    for number, (text, asked) in sorted(rows.items()):
        mark = "shown" if number in tests else "MISSING" if asked else "later"
        print(f"{number:>3} {mark:<8} {text}")
        for test in tests.get(number, []):
            print(f"             {test}")
    unknown = sorted(set(tests) - set(rows))
    print(f"\n{len(rows) - len(missing)} of {len(rows)} lines, {sum(map(len, tests.values()))} tests")
    if unknown:
        print(f"tests of lines that docs/LINES.md does not have: {unknown}")
    if missing:
        print(f"asked for and without a test: {missing}")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
