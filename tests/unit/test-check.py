#!/usr/bin/env python3
"""What ./check tells of a test that failed is enough to see why, on a machine that is gone. Prints TAP."""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import check        # noqa: E402
import tap          # noqa: E402
import worker       # noqa: E402

NOISE = "".join("noise %d\n" % n for n in range(500))
PROJECT = """project('tests')
python = find_program('python3')
test('plain', python, args: ['-c', 'import sys; print("why: plain"); sys.stderr.write("loud: plain"); sys.exit(1)'])
test('tap', python, args: [files('tap.py')], protocol: 'tap')
test('good', python, args: ['-c', 'print("nobody asks")'])
"""
TAP = """import sys
sys.stderr.write(%r + "loud: tap")
print("1..101\\n# why: tap\\nnot ok 1 - one")
for n in range(2, 102):
    print("ok %%d - others" %% n)
sys.exit(1)
""" % NOISE


def failing_guest_test():
    class Guest(unittest.TestCase):
        def test_fails(self):
            self.fail("why: guest")

    return Guest("test_fails")


class Check(unittest.TestCase):
    def setUp(self):
        self.count = check.Count()

    def told(self):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self.count.tell_details()
        return out.getvalue()

    def test_meson(self):
        """One that prints TAP, and one that does not."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("meson.build", PROJECT), ("tap.py", TAP)):
                with open(os.path.join(folder, name), "w") as file:
                    file.write(text)
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(["meson", "setup", folder + "/build", folder], check=True, **quiet)
            subprocess.run(["meson", "test", "-C", folder + "/build"], check=False, **quiet)
            with open(folder + "/build/meson-logs/testlog.json") as file, contextlib.redirect_stdout(io.StringIO()):
                for line in file:
                    check.count_meson_test(json.loads(line), self.count)
        self.assertEqual((self.count.passed, self.count.failed), (101, 2))
        for word in ("why: plain", "loud: plain", "why: tap", "not ok 1 - one", "loud: tap"):
            self.assertIn(word, self.told())
        self.assertNotIn("nobody asks", self.told())
        self.assertLess(len(self.told().splitlines()), 2 * 2 * check.MAX_DETAIL_LINES + 20)

    def test_guest(self):
        """As the worker in the lab tells it."""
        out = io.StringIO()
        with contextlib.redirect_stderr(io.StringIO()):
            unittest.TestSuite([failing_guest_test()]).run(worker.Result(out))
        check.count_guest_test(json.loads(out.getvalue()), self.count)
        self.assertEqual((self.count.passed, self.count.failed), (0, 1))
        self.assertIn("why: guest", self.told())
        self.assertIn("Guest.test_fails", self.told())

    def test_many(self):
        """No flood: a few tests, and their names at the end."""
        for number in range(20):
            self.count.explain("test %d" % number, NOISE + "the end")
        self.assertEqual(self.told().count("the end"), check.MAX_DETAILS)
        self.assertLess(len(self.told().splitlines()), check.MAX_DETAILS * (check.MAX_DETAIL_LINES + 5))


if __name__ == "__main__":
    tap.run("__main__", "check", sys.argv[1:])
