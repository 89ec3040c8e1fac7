"""Prints the 20 slowest tests of a nextest run from its JUnit file. Run by `make test`."""

import sys
import xml.etree.ElementTree as tree


def main(path):
    try:
        root = tree.parse(path).getroot()
    except (OSError, tree.ParseError) as error:
        sys.exit(f"no report of the tests: {error}")
    cases = [
        (float(case.get("time", 0)), f'{suite.get("name")} {case.get("name")}')
        for suite in root.iter("testsuite")
        for case in suite.iter("testcase")
    ]
    print(f"{len(cases)} tests; the 20 slowest:")
    for seconds, name in sorted(cases, reverse=True)[:20]:
        print(f"  {seconds:7.2f} s  {name}")


main(sys.argv[1])
