"""Runs test classes inside one tests/lab/enter: class names come in on stdin, results go out as JSON lines on stdout."""
import importlib
import json
import os
import sys
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "vm")]


class Result(unittest.TestResult):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.begin = {}

    def tell(self, test, status, text=""):
        seconds = time.monotonic() - self.begin.get(getattr(test, "test_case", test).id(), time.monotonic())
        print(json.dumps({"test": test.id(), "status": status, "text": text, "seconds": round(seconds, 1)}),
              file=self.out, flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.begin[test.id()] = time.monotonic()
        print("--- %s %s" % (time.strftime("%T"), test.id()), file=sys.stderr, flush=True)

    def fail(self, test, error):
        text = "".join(traceback.format_exception(*error))
        print(text, file=sys.stderr, flush=True)
        self.tell(test, "failed", text)

    def addSuccess(self, test):
        self.tell(test, "passed")

    def addError(self, test, error):
        self.fail(test, error)

    def addFailure(self, test, error):
        self.fail(test, error)

    def addSkip(self, test, reason):
        self.tell(test, "skipped", reason)

    def addExpectedFailure(self, test, error):
        self.tell(test, "passed", "fails as expected")

    def addUnexpectedSuccess(self, test):
        self.tell(test, "failed", "passes, and is marked as failing")

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.fail(subtest, error)


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        module, name, *only = line.split()
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(getattr(importlib.import_module(module), name))
        if only:
            suite = unittest.TestSuite(t for t in suite if t.id().rsplit(".", 1)[1] in only)
        unittest.TestSuite([suite]).run(Result(out))
        print(json.dumps({"done": name}), file=out, flush=True)


if __name__ == "__main__":
    main()
