"""unittest with the lines that meson and ./check count: one for each test, by its own name."""
import sys
import traceback
import unittest


class Result(unittest.TestResult):
    def __init__(self, prefix):
        super().__init__()
        self.prefix, self.count = prefix, 0

    def say(self, word, test, more=''):
        self.count += 1
        print('%s %d - %s/%s%s' % (word, self.count, self.prefix, test.id().split('.', 1)[1].replace('.', '/'), more),
              flush=True)

    def fail(self, test, error):
        for line in ''.join(traceback.format_exception(*error)).splitlines():
            print('# ' + line)
        self.say('not ok', test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say('ok', test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.fail(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.fail(test, error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say('ok', test, ' # SKIP ' + reason)


def run(module, prefix, names):
    """All tests of a module, or those whose names have one of the words. Ends the program."""
    suite = unittest.TestSuite()
    for group in unittest.defaultTestLoader.loadTestsFromModule(sys.modules[module]):
        for test in group:
            if not names or any(name in test.id() for name in names):
                suite.addTest(test)
    print('1..%d' % suite.countTestCases(), flush=True)
    result = Result(prefix)
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
