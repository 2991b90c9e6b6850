"""docs/specification.md against the tree and the tests that ran.

    problems, counts = check(rows(text), functions(), Tests(passed, skipped, sweeps))

Each row of the specification names the functions that fulfil it and the tests that prove it, or says what it waits for. A row
that names a function or a test that is not there, or no row where one must be, is a problem. One whose test was skipped is
not proven, and said to be so.
"""
import glob
import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENT = TOP + "/docs/specification.md"

# Every statement of the specification; the document must have a row for each, in this order.
IDS = """I1 I2 B1 B2 B3 B4 B5 B6 C1 C2 C3 C4 C5 P1 P2 P3 A1 A2 A3 A4 A5 A6 A7 A8 A9 N1 N2 N3
         R0 R1 R2 R3 R4 R4b R5 R6 F1 F2 F3 F4 F5 D1 D2 X1""".split()


class Row:
    def __init__(self, cells):
        self.id, self.demand, self.done = cells[:3]
        self.functions = re.findall(r"`([\w]+)`", cells[3])
        self.tests = re.findall(r"`([\w./-]+)`", cells[4])
        waits = re.match(r"waits for (.+)", cells[4])
        self.waits = waits.group(1) if waits else None


class Tests:
    """What is known of the tests: names that passed, were skipped, failed, and that exist but did not run now."""

    def __init__(self, passed, skipped=(), failed=(), others=()):
        self.passed, self.skipped, self.failed = set(passed), set(skipped), set(failed)
        self.known = self.passed | self.skipped | self.failed | set(others)

    def why_not(self, name):
        return "skipped" if name in self.skipped else "failed" if name in self.failed else "not run here"


def rows(text):
    """The rows of every table whose first cell is an id."""
    found = []
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[A-Z]\d+b?", cells[0]):
            found.append(Row(cells + [""] * (5 - len(cells))))
    return found


def functions(top=TOP):
    """Names of all functions defined in src/: the name begins the line, as the style has it."""
    names = set()
    for path in glob.glob(top + "/src/**/*.c", recursive=True):
        with open(path) as file:
            names.update(re.findall(r"^(\w+)\(", file.read(), re.M))
    return names


def row_problems(row, known_functions, tests):
    if not row.demand or not (row.done or row.waits):
        yield "%s does not say what it demands and what is done" % row.id
    for name in row.functions:
        if name not in known_functions:
            yield "%s names the function %s, which is not there" % (row.id, name)
    for name in row.tests:
        if name not in tests.known:
            yield "%s names the test %s, which nothing runs" % (row.id, name)
    if not row.waits and not (row.functions and row.tests):
        yield "%s names no function or no test, and does not say what it waits for" % row.id
    if row.waits and row.tests:
        yield "%s waits and names tests" % row.id


def check(found, known_functions, tests):
    """(problems, proven, unproven with the reason, waiting with the reason)"""
    problems, proven, unproven, waiting = [], [], [], []
    if [row.id for row in found] != IDS:
        odd = sorted(set(IDS) ^ {row.id for row in found})
        problems.append("the rows are not those of the specification, once each and in order" +
                        (": %s" % " ".join(odd) if odd else ""))
    for row in found:
        problems += row_problems(row, known_functions, tests)
        missing = [name for name in row.tests if name not in tests.passed]
        if row.waits:
            waiting.append("%s: %s" % (row.id, row.waits))
        elif missing:
            unproven.append("%s: %s: %s" % (row.id, missing[0], tests.why_not(missing[0])))
        else:
            proven.append(row.id)
    return problems, proven, unproven, waiting


def check_document(tests):
    with open(DOCUMENT) as file:
        return check(rows(file.read()), functions(), tests)
