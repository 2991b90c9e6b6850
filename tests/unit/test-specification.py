#!/usr/bin/python3
"""The reader of docs/specification.md: it must find what is wrong, or a green check would mean nothing."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import specification
from specification import IDS, Tests, check, rows

GOOD = "\n".join("| %s | demand | done | `kvss_do` | `/a/b` |" % name for name in IDS)
FUNCTIONS = {"kvss_do"}
COUNT = [0]


def expect(what, text, tests, problem=None, proven=None, unproven=None, waiting=None):
    problems, is_proven, is_unproven, is_waiting = check(rows(text), FUNCTIONS, tests)
    ok = bool(problems) == bool(problem) and (not problem or any(problem in p for p in problems))
    ok = ok and (proven is None or len(is_proven) == proven)
    ok = ok and (unproven is None or len(is_unproven) == unproven) and (waiting is None or len(is_waiting) == waiting)
    COUNT[0] += 1
    print("%s %d - %s%s" % ("ok" if ok else "not ok", COUNT[0], what, "" if ok else ": " + "; ".join(problems)))


def replace(row, text):
    return "\n".join(text if line.startswith("| %s |" % row) else line for line in GOOD.split("\n"))


passed = Tests(["/a/b"])
everything = len(IDS)
expect("all is well", GOOD, passed, proven=everything, unproven=0, waiting=0)
expect("a row is missing", replace("A4", ""), passed, problem="A4")
expect("a row twice", GOOD + "\n" + GOOD.split("\n")[0], passed, problem="once each")
expect("rows in another order", "\n".join(reversed(GOOD.split("\n"))), passed, problem="in order")
expect("a function that is not there", replace("A4", "| A4 | d | d | `kvss_gone` | `/a/b` |"), passed, problem="kvss_gone")
expect("a test that is not there", replace("A4", "| A4 | d | d | `kvss_do` | `/a/c` |"), passed, problem="/a/c")
expect("no test", replace("A4", "| A4 | d | d | `kvss_do` | by hand |"), passed, problem="no test")
expect("no function", replace("A4", "| A4 | d | d | somewhere | `/a/b` |"), passed, problem="no function")
expect("nothing is said", replace("A4", "| A4 | d |  | `kvss_do` | `/a/b` |"), passed, problem="A4 does not say")
expect("a row that waits", replace("A4", "| A4 | d | d | | waits for clusters |"), passed, proven=everything - 1, waiting=1)
expect("a row that waits and names a test", replace("A4", "| A4 | d | d | | waits for clusters `/a/b` |"), passed,
       problem="A4 waits")
expect("a skipped test proves nothing", GOOD, Tests([], skipped=["/a/b"]), proven=0, unproven=everything)
expect("the sweep did not run", GOOD, Tests([], others=["/a/b"]), proven=0, unproven=everything)
expect("a failed test proves nothing", GOOD, Tests([], failed=["/a/b"]), proven=0, unproven=everything)
names = specification.functions()
COUNT[0] += 1
print("%s %d - functions of the tree" % ("ok" if "kvss_coordinator_gather" in names and "if" not in names else "not ok",
                                         COUNT[0]))
print("1..%d" % COUNT[0])
