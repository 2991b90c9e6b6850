"""The second half of ./check: runs meson's tests and the tests with real guests, counts, tells."""
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time

import specification

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOG = TOP + "/build/check.log"
MAX_DETAILS, MAX_DETAIL_LINES, MAX_DETAIL_SIZE = 4, 40, 4000


class Count:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []
        self.failures = []
        self.details = []               # (name, the end of what it printed), where only a log would have it
        self.names = {"passed": set(), "failed": set(), "skipped": set()}   # by the tests' own names

    def fail(self, name, text):
        self.failed += 1
        self.failures.append(name)
        print("  failed: %s: %s" % (name, text), flush=True)

    def explain(self, name, *texts):
        """The end of what it printed: a machine that runs this and is gone afterwards leaves no log to read."""
        ends = ("\n".join(text.rstrip().splitlines()[-MAX_DETAIL_LINES:])[-MAX_DETAIL_SIZE:] for text in texts)
        self.details.append((name, "\n".join(filter(None, ends))))

    def tell_details(self):
        for name, text in self.details[:MAX_DETAILS]:
            print("\nThe end of what %s said:\n%s\n" % (name, text))


def around_failure(text):
    """Of a test's TAP, what stands around the first line that is not ok: many may follow that are."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("not ok"):
            return "\n".join(lines[:number + MAX_DETAIL_LINES // 4])
    return text


def count_meson_test(test, count):
    """One meson test: its TAP lines where it prints some, else the test as one."""
    name, result = test["name"], test["result"]
    lines = re.findall(r"^(not ok|ok)\b ?\d*(?: -)? ?(.*)$", test.get("stdout") or "", re.M)
    before = count.failed
    for status, text in lines:
        skip = re.search(r"# SKIP\s*(.*)", text, re.I)
        count.names["skipped" if skip else "passed" if status == "ok" else "failed"].add(text.split("#")[0].strip())
        if skip:
            count.skipped.append("%s %s: %s" % (name, text.split("#")[0].strip(), skip.group(1)))
        elif status == "ok":
            count.passed += 1
        else:
            count.fail(name, text)
    if result in ("OK", "EXPECTEDFAIL"):
        if not lines:
            count.passed += 1
    elif result == "SKIP":
        if not lines:
            count.skipped.append("%s: the test says so" % name)
    elif count.failed == before:
        count.fail(name, "%s (build/meson-logs/testlog.txt)" % result)
    if count.failed > before:
        count.explain(name, around_failure(test.get("stdout") or ""), test.get("stderr") or "")


def count_guest_test(answer, count):
    """A line of the results of tests/vm/run."""
    count.names.get(answer["status"], count.names["failed"]).add(answer["test"])
    if answer["status"] == "passed":
        count.passed += 1
    elif answer["status"] == "skipped":
        count.skipped.append("%s: %s" % (answer["test"], answer["text"]))
    else:
        count.failed += 1
        count.failures.append(answer["test"])
        count.explain(answer["test"], answer["text"])


def meson_tests(count, *options):
    print("Running the %s that need no guest" % ("sweeps" if options else "tests"), flush=True)
    begin = time.monotonic()
    path = TOP + "/build/meson-logs/testlog.json"
    if os.path.exists(path):
        os.unlink(path)
    with open(LOG, "ab") as log:
        # More than there are cores: those with servers in them mostly wait.
        rc = subprocess.run(["meson", "test", "-C", TOP + "/build", "--no-rebuild", "--print-errorlogs",
                             "--timeout-multiplier", "3",       # for busy machines: a limit only ends a hang
                             "--num-processes", str(3 * (os.cpu_count() or 1)), *options],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode
    before = count.failed
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                count_meson_test(json.loads(line), count)
    if rc != 0 and count.failed == before:
        count.fail("meson test", "exit %d (build/check.log)" % rc)
    print("  %d passed, %d failed in %.0f s" % (count.passed, count.failed, time.monotonic() - begin), flush=True)


def vm_tests(count, sweep):
    accel = subprocess.run([TOP + "/tests/lab/build", "--accel"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           text=True).stdout.strip()
    if not accel:
        count.fail("lab", "the guest for tests could not be built")
        return
    print("Running the tests with real guests, %s" %
          ("on KVM" if accel == "kvm" else "by QEMU's emulation (KVM does not run guests here)"), flush=True)
    results = TOP + "/build/vm-results.json"
    if os.path.exists(results):
        os.unlink(results)
    tests = subprocess.Popen([TOP + "/tests/vm/run", "--results", results, "--log", TOP + "/build/vm-tests.log"] +
                             (["--sweep"] if sweep else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True,
                             preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))    # dies with us
    with open(LOG, "a") as log:
        for line in tests.stdout:
            log.write(line)
            print(line, end="", flush=True)
    rc = tests.wait()
    before = count.failed
    if os.path.exists(results):
        with open(results) as file, open(LOG, "a") as log:
            for line in file:
                answer = json.loads(line)
                count_guest_test(answer, count)
                if answer["status"] not in ("passed", "skipped"):
                    log.write("\n%s\n%s\n" % (answer["test"], answer["text"]))
    if rc != 0 and count.failed == before:
        count.fail("tests/vm/run", "exit %d (build/vm-tests.log)" % rc)


def guest_test_names(*options):
    return subprocess.run([TOP + "/tests/vm/run", "--list", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, check=True).stdout.split()


def check_specification(count):
    """Every statement of the specification is proven by tests that ran, or says what it waits for."""
    tests = specification.Tests(count.names["passed"], count.names["skipped"], count.names["failed"],
                                guest_test_names("--sweep"))
    problems, proven, unproven, waiting = specification.check_document(tests)
    for problem in problems:
        count.fail("docs/specification.md", problem)
    if not problems:
        count.passed += 1
    print("Specification: %d rows proven, %d not proven here, %d waiting" % (len(proven), len(unproven), len(waiting)))
    for text in unproven:
        print("  not proven: " + text)
    for text in waiting:
        print("  waiting: " + text)


def main():
    count = Count()
    meson_tests(count)
    if "--sweep" in sys.argv:
        meson_tests(count, "--suite", "sweep")
    if "--vm" not in sys.argv:
        count.skipped.append("tests with real guests: --no-vm was given")
    elif os.geteuid() != 0:
        count.skipped.append("tests with real guests: need root")
    else:
        vm_tests(count, "--sweep" in sys.argv)
    check_specification(count)
    if count.skipped:
        print("Skipped:")
        for reason in count.skipped:
            print("  " + reason)
    count.tell_details()
    if count.failures:
        print("Failed (build/check.log has the details):")
        for name in count.failures:
            print("  " + name)
    line = "%d passed, %d failed" % (count.passed, count.failed)
    if count.skipped:
        line += ", %d skipped" % len(count.skipped)
    print(line)
    with open(LOG, "a") as log:
        log.write(line + "\n")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
