"""A program of the guest takes part in a set by qemu-ga's freeze hook: with the scripts that the documentation shows."""
import base64
import json

from kvsslab import TOP, Disk, LabCase, wait_until

DISPATCHER = TOP + "/docs/guest/fsfreeze-hook"

# Keeps its rows in RAM, as a database keeps its newest ones; what is on the disk is the past.
DATABASE = """
n=0
while :; do
    if [ -e /run/db.locked ]; then touch /run/db.quiet
    else n=$((n + 1)); echo $n > /run/db.rows.new && mv /run/db.rows.new /run/db.rows; fi
    usleep 20000
done
"""

# Writes them out and locks; tells on the disk which of the two came last.
SCRIPT = """#!/bin/sh
case $1 in
freeze)
    [ -e /run/db.refuse ] && { echo refused >> /run/db.log; exit $(cat /run/db.refuse); }
    rm -f /run/db.quiet; touch /run/db.locked
    until [ -e /run/db.quiet ]; do usleep 10000; done
    cp /run/db.rows /mnt/vda/db.rows; echo frozen > /mnt/vda/db.state;;
thaw)
    echo thawed > /mnt/vda/db.state;;
esac
echo db $1 $(cat /run/db.rows) >> /run/db.log
[ $1 = freeze ] || rm -f /run/db.locked
"""

OTHER = """#!/bin/sh
echo other $1 >> /run/db.log
"""


class Hooks(LabCase):
    cost = 50

    @classmethod
    def make(cls):
        super().make()
        cls.db = cls.lab.guest("db", disks=[Disk("vda"), Disk("vdb")]).define()
        cls.web = cls.lab.guest("web").define()
        for guest in (cls.db, cls.web):
            guest.start(wait=False)
        for guest in (cls.db, cls.web):
            guest.wait_ready()
        cls.install()

    @classmethod
    def install(cls):
        """Into the guest's root, which is RAM: after each boot."""
        cls.db.sh("mkdir -p /etc/fsfreeze-hook.d")
        with open(DISPATCHER) as file:
            cls.write(file.read(), "/etc/hook")
        cls.write(SCRIPT, "/etc/fsfreeze-hook.d/20-db")
        cls.write(OTHER, "/etc/fsfreeze-hook.d/10-other")
        cls.write("no script", "/etc/fsfreeze-hook.d/README", mode="644")
        cls.write(DATABASE, "/etc/database")
        cls.db.sh("sh /etc/database > /dev/null 2>&1 &")
        wait_until("rows", lambda: cls.db.sh_rc("cat /run/db.rows")[0] == 0)

    @classmethod
    def write(cls, text, path, mode="755"):
        cls.db.sh("echo %s | base64 -d > %s; chmod %s %s" % (base64.b64encode(text.encode()).decode(), path, mode, path))

    def setUp(self):
        self.db.sh("rm -f /run/db.log /run/db.refuse")

    def rows(self):
        return int(self.db.sh("cat /run/db.rows"))

    def log(self):
        return self.db.sh("cat /run/db.log 2>/dev/null; true").split("\n")[:-1]

    def assertGetsOn(self):
        before = self.rows()
        wait_until("the database goes on", lambda: self.rows() > before)

    def test_hook_takes_part(self):
        """Its freeze is in the backup and its thaw is not: one came before the cut, the other after it."""
        self.assertGetsOn()
        result = self.backup("db", "web")
        self.assertEqual({v["method"] for v in result.summary["vms"]}, {"child-snapshot"})
        log = self.log()
        self.assertEqual([line.split()[:2] for line in log],
                         [["other", "freeze"], ["db", "freeze"], ["db", "thaw"], ["other", "thaw"]])
        frozen, thawed = (int(line.split()[2]) for line in log if line.startswith("db"))
        self.assertEqual(frozen, thawed, "it went on while it was frozen")
        self.assertGetsOn()
        self.assertEqual(self.db.sh("cat /mnt/vda/db.state").strip(), "thawed")
        self.assertNothingLeft()

        self.db.destroy()
        self.restore("latest", "db")
        image = self.db.images()["vda"]
        self.assertEqual(int(image.cat("/db.rows")), frozen, "the rows that the hook wrote are not in the backup")
        self.assertEqual(image.cat("/db.state").decode().strip(), "frozen", "the cut came after the thaw")
        self.assertOneInstant(self.db)
        self.db.start()
        self.install()

    def test_failing_hook_fails_the_set(self):
        """Whole, with the agent's own words; the other VM was never touched or goes on, and scripts that had begun are told."""
        self.db.sh("echo 7 > /run/db.refuse")
        console = len(self.web.serial())
        before = len(self.kvss.backups())
        result = self.kvss("backup", "db", "web")
        self.assertFailed(result, 1, "db", "fsfreeze hook has failed with status 7")
        self.assertNotIn("web:", result.stderr)
        self.assertEqual(result.stderr.count("db:"), 1, result.stderr)
        self.assertEqual([line.split()[:2] for line in self.log()],
                         [["other", "freeze"], ["refused"], ["db", "thaw"], ["other", "thaw"]])
        self.assertEqual(len(json.loads(self.kvss.restic("snapshots", "--json"))), before)
        for guest in (self.db, self.web):
            self.assertEqual(guest.state(), "running")
            self.assertTrue(guest.writes(), "%s does not write" % guest.name)
            self.assertFalse(guest.is_frozen())
        for gap, _ in self.web.gaps(console):
            self.assertLess(gap, 9000)       # undone at once, not when the limit had passed
        self.assertGetsOn()
        self.assertNothingLeft()
