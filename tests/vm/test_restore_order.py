"""The order of a restore as the kernel saw it, and that no guest is asked anything."""
import os
import re
import shutil
import sqlite3

from kvsslab import KVSS, TOP, Disk, LabCase, Running, run

EXAMPLE = TOP + "/examples/writers.d/sqlite"
CALLS = "trace=execve,openat,creat,rename,renameat,renameat2,write,exit_group"


class Order(LabCase):
    """Two VMs and a database of the host in one restore."""
    cost = 30

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define()
        cls.db = cls.lab.guest("db", disks=[Disk("vda"), Disk("vdb", form="raw")]).define()
        os.mkdir(cls.lab.path("writers.d"), 0o755)
        shutil.copy(EXAMPLE, cls.lab.path("writers.d/sqlite"))
        os.chmod(cls.lab.path("writers.d/sqlite"), 0o755)
        os.mkdir(cls.lab.path("shop"))
        cls.database = cls.lab.path("shop/stock.db")
        database = sqlite3.connect(cls.database)
        database.execute("CREATE TABLE sold (what TEXT)")
        database.commit()
        database.close()
        with open(cls.lab.path("sqlite.list"), "w") as file:
            file.write("inventory %s\n" % cls.database)
        cls.kvss.env = {"KVSS_WRITERS_DIR": cls.lab.path("writers.d")}
        cls.web.start()
        cls.first = cls.kvss("backup", "web", "db", "sqlite:inventory")

    def setUp(self):
        super().setUp()
        self.assertExit(self.first, 0)
        if self.web.state() != "running":
            self.web.start()

    def traced(self):
        """The lines of a restore of all three, in the order of the kernel."""
        trace = self.lab.path("trace")
        command = ["strace", "-f", "-qq", "-s", "400", "-e", CALLS, "-o", trace, KVSS, "--json", "restore", "latest", "--yes"]
        self.assertExit(Running(command, self.kvss.environment()).wait(), 0)
        with open(trace, errors="replace") as file:
            return file.read().split("\n")

    def last_pre_restore(self, lines):
        """Where the last writer had returned: VMs are out of libvirt, the program has ended."""
        undefined = [i for i, line in enumerate(lines) if " write(" in line and "undefine" in line]
        calls = [i for i, line in enumerate(lines) if re.search(r'execve\("[^"]*writers.d/sqlite", \["[^"]*", "pre-restore"', line)]
        self.assertEqual(len(calls), 1, "how often the program was asked")
        pid = lines[calls[0]].split()[0]
        ended = next(i for i, line in enumerate(lines) if i > calls[0] and line.startswith(pid + " ") and "exit_group" in line)
        self.assertGreaterEqual(len(undefined), 2, "VMs taken out of libvirt")
        return max(undefined[:2] + [ended])

    def first_files(self, lines):
        """Where each thing that is restored was first made: an image, a file of the host."""
        wanted = [*self.web.paths().values(), *self.db.paths().values(), os.path.dirname(self.database) + "/"]
        made = r'(openat|creat)\(.*"%s.*O_CREAT|rename[a-z0-9]*\(.*, "%s[^"]*"\)'
        found = {}
        for place in wanted:
            pattern = re.compile(made % (re.escape(place), re.escape(place)))
            found[place] = next((i for i, line in enumerate(lines) if pattern.search(line) and "kvss-old" not in line.split('"')[-2]), None)
        return found

    def test_no_file_before_the_last_pre_restore(self):
        lines = self.traced()
        barrier = self.last_pre_restore(lines)
        for place, index in self.first_files(lines).items():
            self.assertIsNotNone(index, "nobody made " + place)
            self.assertGreater(index, barrier, "%s before %s" % (lines[index], lines[barrier]))
        self.assertNothingLeft()

    def test_no_agent_is_asked(self):
        """libvirt's own log of the agent's channel, which has the control's question and no other."""
        log = self.lab.path("agent.log")
        outputs = run("virt-admin", "daemon-log-outputs").split(":", 1)[1].strip()
        run("virt-admin", "daemon-log-outputs", "1:file:" + log)
        run("virt-admin", "daemon-log-filters", "1:qemu.qemu_agent")
        try:
            self.restore("latest", "web", "db")
            self.assertEqual(self.asked(log), [])
            self.web.start()
            self.web.agent("guest-get-time")
            self.assertIn("guest-get-time", " ".join(self.asked(log)))
        finally:
            run("virt-admin", "daemon-log-filters", "")
            run("virt-admin", "daemon-log-outputs", outputs or "2:stderr")
        self.assertNothingLeft()

    @staticmethod
    def asked(log):
        with open(log, errors="replace") as file:
            return [line for line in file if '"execute"' in line or "QEMU_AGENT_IO_WRITE" in line]
