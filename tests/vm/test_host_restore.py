"""A database of the host comes back with the VM of its set, and where files can be cloned they are."""
import os
import shutil
import sqlite3

from kvsslab import KVSS, TOP, LabCase, file_hash, raw_copy, run

EXAMPLE = TOP + "/examples/writers.d/sqlite"
BUILD = os.path.dirname(KVSS)


class HostRestore(LabCase):
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define()
        cls.writers = cls.lab.path("writers.d")
        os.mkdir(cls.writers, 0o755)
        cls.install()
        os.mkdir(cls.lab.path("shop"))
        cls.database = cls.lab.path("shop/stock.db")
        with open(cls.lab.path("sqlite.list"), "w") as file:
            file.write("inventory %s\n" % cls.database)
        cls.kvss.env = {"KVSS_WRITERS_DIR": cls.writers}

    @classmethod
    def install(cls):
        shutil.copy(EXAMPLE, cls.writers + "/sqlite")
        os.chmod(cls.writers + "/sqlite", 0o755)

    def sell(self, *goods):
        database = sqlite3.connect(self.database)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS sold (what TEXT)")
        database.executemany("INSERT INTO sold VALUES (?)", [(g,) for g in goods])
        database.commit()
        database.close()

    def sold(self, path=None):
        database = sqlite3.connect(path or self.database)
        rows = [row[0] for row in database.execute("SELECT what FROM sold ORDER BY rowid")]
        self.assertEqual(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        database.close()
        return rows

    def setUp(self):
        super().setUp()
        for end in ("", "-wal", "-shm"):
            if os.path.exists(self.database + end):
                os.unlink(self.database + end)
        self.sell("bread", "wine")
        self.backup("web", "sqlite:inventory")
        self.sell("salt")

    def test_whole_set(self):
        """The VM, the database, and nothing of a write-ahead log that belongs to later rows."""
        image = self.web.disks[0].path
        before = file_hash(raw_copy(image, "qcow2", self.lab.folder))
        with open(image, "r+b") as file:
            file.truncate(65536)
        with open(self.database + "-wal", "wb") as file:
            file.write(b"of another database" * 100)
        result = self.kvss("restore", "latest", "--yes")
        self.assertExit(result, 0)
        self.assertFalse(os.path.exists(self.database + "-wal"))
        self.assertEqual(self.sold(), ["bread", "wine"])
        self.assertEqual(file_hash(raw_copy(image, "qcow2", self.lab.folder)), before)
        self.assertNothingLeft()

    def test_database_alone(self):
        self.assertExit(self.kvss("restore", "latest", "sqlite:inventory", "--yes"), 0)
        self.assertEqual(self.sold(), ["bread", "wine"])
        self.assertNothingLeft()

    def test_elsewhere(self):
        target = self.lab.path("elsewhere")
        self.assertExit(self.kvss("restore", "latest", "sqlite:inventory", "--to", target), 0)
        copies = [os.path.join(folder, name) for folder, _, names in os.walk(target) for name in names
                  if name == "stock.db"]
        self.assertEqual(len(copies), 1)
        self.assertEqual(self.sold(copies[0]), ["bread", "wine"])
        self.assertEqual(self.sold(), ["bread", "wine", "salt"], "the one in place was touched")

    def test_writer_is_gone(self):
        os.unlink(self.writers + "/sqlite")
        try:
            result = self.kvss("restore", "latest", "--yes")
        finally:
            self.install()
        self.assertFailed(result, 1, "sqlite:inventory", "(VSS_E_OBJECT_NOT_FOUND, 0x80042308)", "--to")
        self.assertEqual(self.sold(), ["bread", "wine", "salt"])
        self.assertNothingLeft()

    def test_writer_refuses(self):
        """Somebody has it open: nothing is touched, and the VM neither."""
        open_one = sqlite3.connect(self.database)
        open_one.execute("SELECT * FROM sold").fetchall()
        before = file_hash(self.web.disks[0].path)
        result = self.kvss("restore", "latest", "--yes")
        self.assertFailed(result, 1, "sqlite:inventory", "is open in process")
        open_one.close()
        self.assertEqual(self.sold(), ["bread", "wine", "salt"])
        self.assertEqual(file_hash(self.web.disks[0].path), before)
        self.assertNothingLeft()


class Reflink(LabCase):
    """A file system that clones: the unit test of the provider, on one."""
    cost = 5

    def test_files_are_cloned(self):
        image, folder = self.lab.path("xfs.img"), self.lab.path("xfs")
        with open(image, "wb") as file:
            file.truncate(400 << 20)
        run("mkfs.xfs", "-q", "-m", "reflink=1", image)
        os.mkdir(folder)
        run("mount", "-o", "loop", image, folder)
        self.addCleanup(run, "umount", folder)
        text = run(BUILD + "/tests/unit/test-files-provider", "-p", "/files-provider/clones",
                   env={"KVSS_TEST_REFLINK": folder, "KVSS_GUARDIAN": BUILD + "/kvss-guardian"})
        self.assertIn("ok 1 /files-provider/clones", text)


TREE = """#!/usr/bin/python3
import json, sys
def part(name, above, **rules):
    return dict({"name": name, **({"logical_path": above} if above else {}), "files": [{"path": %r, "filespec": name}]}, **rules)
if sys.argv[1] == "identify":
    print(json.dumps({"version": 1, "id": "0d5dfb5e-5f0e-4a39-8a5c-6a1c2a3a7e60", "components": [
        part("shop", ""), part("logs", "shop", selectable_for_restore=False), part("index", "shop", selectable_for_restore=True)]}))
"""


class Parts(LabCase):
    """What came into the backup with the component above it."""
    cost = 10
    NAMES = ("shop", "logs", "index")

    @classmethod
    def make(cls):
        super().make()
        os.mkdir(cls.lab.path("writers.d"), 0o755)
        with open(cls.lab.path("writers.d/tree"), "w") as file:
            file.write(TREE % cls.lab.path("tree"))
        os.chmod(cls.lab.path("writers.d/tree"), 0o755)
        os.mkdir(cls.lab.path("tree"))
        cls.kvss.env = {"KVSS_WRITERS_DIR": cls.lab.path("writers.d")}

    def put(self, text):
        for name in self.NAMES:
            with open(self.lab.path("tree/" + name), "w") as file:
                file.write(text)

    def texts(self):
        found = []
        for name in self.NAMES:
            with open(self.lab.path("tree/" + name)) as file:
                found.append(file.read())
        return found

    def restored(self, *names):
        self.put("now")
        self.result = self.kvss("restore", "latest", *names, "--yes")
        self.assertExit(self.result, 0)
        self.assertNothingLeft()
        return self.texts()

    def test_selectable_for_restore(self):
        self.put("then")
        self.backup("tree:shop")
        self.assertEqual(self.restored("tree:shop\\index"), ["now", "now", "then"], str(self.result))
        self.assertEqual(self.restored("tree:shop", "tree:shop\\logs"), ["then", "then", "now"])
        self.assertEqual(self.restored(), ["then", "then", "then"])
        self.put("now")
        result = self.kvss("restore", "latest", "tree:shop\\logs", "--yes")
        self.assertFailed(result, 1, "logs", "does not let it be restored alone")
        self.assertEqual(self.texts(), ["now", "now", "now"])
        self.put("then")
        self.backup("tree:shop\\index")
        self.assertEqual(self.restored("tree:shop\\index"), ["now", "now", "then"])
