"""restic and kvss read each other's repositories."""
import json
import os
import shutil

from kvsslab import KVSS, TOP, Disk, Kvss, LabCase, file_hash, run, virsh

COMPONENTS = "vss/backup-components.xml"
WRITER = "vss/writer-66841cd4-6ded-4f4b-8f17-fd23f8ddc3de.xml"


class Restic(LabCase):
    cost = 50

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw", kind="random", content_kib=9000)]).define().start()
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random", content_kib=5000)]).define()
        cls.first = cls.kvss("backup", "web", "off", "--tag", "nightly")

    def setUp(self):
        self.assertExit(self.first, 0)

    def test_restic_lists(self):
        snapshots = json.loads(self.kvss.restic("snapshots", "--json"))
        self.assertEqual(len(snapshots), 1)
        self.assertIn("kvss", snapshots[0]["tags"])
        self.assertIn("nightly", snapshots[0]["tags"])
        self.assertEqual(snapshots[0]["paths"], ["/vms/off", "/vms/web"])
        self.assertEqual(snapshots[0]["id"], self.first.summary["backup_id"])

    def test_restic_checks(self):
        self.assertIn("no errors were found", self.kvss.restic("check", "--read-data"))

    def test_restic_dumps_and_restores(self):
        target = self.lab.path("by-restic")
        self.kvss.restic("restore", "latest", "--target", target)
        self.addCleanup(shutil.rmtree, target)
        self.assertEqual(file_hash(target + "/vms/off/disks/vda.raw"), self.off.disk("vda").hash())
        with open(target + "/vms/web/disks/vdb.raw", "rb") as file:
            self.assertEqual(file.read(9000 << 10), self.web.disk("vdb").content())
        self.assertEqual(run("e2fsck", "-fn", target + "/vms/web/disks/vda.raw", check=False)[0], 0)
        for name in ("set.json", "vss/backup-components.xml", "vms/web/domain.xml"):
            self.assertGreater(os.path.getsize(os.path.join(target, name)), 100, name)
        self.assertValid(target)
        dumped = run("sh", "-c", "restic -q -r '%s' --no-cache dump latest /vms/web/disks/vda.raw | sha256sum"
                     % self.kvss.repository, env={"RESTIC_PASSWORD": self.kvss.password}).split()[0]
        self.assertEqual(dumped, file_hash(target + "/vms/web/disks/vda.raw"))

    def assertValid(self, target):
        """The set's documents, all of them, by the schemas that are published."""
        self.assertEqual(sorted(os.listdir(target + "/vss")), [os.path.basename(COMPONENTS), os.path.basename(WRITER)])
        for path, schema in ((COMPONENTS, "backup-components.xsd"), (WRITER, "writer-metadata.xsd")):
            run("xmllint", "--noout", "--nonet", "--schema", os.path.join(TOP, "docs/format", schema), os.path.join(target, path))

    def test_documents_are_shown(self):
        stored = {path: self.kvss.restic("dump", "latest", "/" + path) for path in (COMPONENTS, WRITER)}
        shown = run(KVSS, "show", "latest", "--documents",
                    env={"KVSS_REPOSITORY": self.kvss.repository, "KVSS_PASSWORD": self.kvss.password})
        self.assertEqual(shown, "".join("==> %s <==\n%s" % item for item in stored.items()))
        for name, guest in (("web", self.web), ("off", self.off)):
            self.assertIn('componentName="%s"' % guest.uuid, stored[COMPONENTS], name)
            self.assertIn('filespec="%s"' % os.path.basename(guest.disk("vda").path), stored[WRITER], name)
        self.assertIn('snapshotSetId="%s"' % self.first.summary["set_id"], stored[COMPONENTS])
        self.assertEqual(stored[COMPONENTS].count('backupSucceeded="yes"'), 2)
        document = self.kvss("show", "latest", "--documents").document
        self.assertEqual(document["documents"], [COMPONENTS, WRITER])
        self.assertEqual(document["document_texts"], [{"path": path, "xml": text} for path, text in stored.items()])
        self.assertNotIn("document_texts", self.kvss("show", "latest").document)

    def test_damaged_documents(self):
        """One that is damaged, or another set's, is named; without any the set is a set all the same."""
        folder = self.lab.path("damaged")
        self.kvss.restic("restore", "latest", "--target", folder)
        other = Kvss(self.lab, self.lab.path("damaged-repository"))
        other.init(by="restic")
        with open(os.path.join(folder, WRITER)) as file:
            writer = file.read()
        with open(os.path.join(folder, COMPONENTS)) as file:
            components = file.read()
        for path, text, words in (
                (WRITER, writer[:-30], "line"),
                (WRITER, writer.replace("<WRITER_METADATA", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><WRITER_METADATA', 1),
                 "document type"),
                (COMPONENTS, components.replace('snapshotSetId="', 'snapshotSetId="\x1b', 1), "U+001B"),
                (COMPONENTS, components.replace(self.first.summary["set_id"], "11111111-2222-4333-8444-555555555555"),
                 "is of the set 11111111-2222-4333-8444-555555555555")):
            with open(os.path.join(folder, WRITER), "w") as file:
                file.write(text if path == WRITER else writer)
            with open(os.path.join(folder, COMPONENTS), "w") as file:
                file.write(text if path == COMPONENTS else components)
            other.restic("backup", "--tag", "kvss", ".", cwd=folder)
            self.assertExit(other("show", "latest"), 0)
            shown = other("show", "latest", "--documents")
            self.assertExit(shown, 7)
            self.assertIn("%s: " % path, shown.stderr)
            self.assertIn(words, shown.stderr)
            texts = {text["path"]: text for text in shown.document["document_texts"]}
            self.assertIn(words, texts[path]["error"])
            self.assertIn("xml", texts[WRITER if path == COMPONENTS else COMPONENTS])
            verified = other("verify", "latest")
            self.assertExit(verified, 7)
            self.assertIn(path, json.dumps(verified.summary["damaged"]))
            if path == COMPONENTS:
                self.assertFailed(other("restore", "latest", "off", "--dry-run"), 7, COMPONENTS, words)
        shutil.rmtree(folder + "/vss")
        other.restic("backup", "--tag", "kvss", ".", cwd=folder)
        self.assertExit(other("verify", "latest"), 0)
        self.assertEqual(other("show", "latest", "--documents").document["document_texts"], [])
        self.assertExit(other("restore", "latest", "off", "--dry-run"), 0)

    def test_what_restic_stored_again_is_restored_by_kvss(self):
        """Content-cut chunks, another writer, another repository with restic's own parameters."""
        folder = self.lab.path("again")
        self.kvss.restic("restore", "latest", "--target", folder)
        other = Kvss(self.lab, self.lab.path("other"))
        other.init(by="restic")
        other.restic("backup", "--tag", "kvss", ".", cwd=folder)
        backups = other.backups()
        self.assertEqual(len(backups), 1)
        self.assertEqual(backups[0]["set_id"], self.first.summary["set_id"])
        shown = other("show", "latest")
        self.assertExit(shown, 0)
        verified = other("verify", "--read-data")
        self.assertExit(verified, 0)
        self.assertEqual(len(verified.summary["damaged"]) if isinstance(verified.summary["damaged"], list)
                         else verified.summary["damaged"], 0)
        self.web.delete()
        self.off.delete()
        result = other("restore", "latest", "--yes")
        self.assertExit(result, 0)
        for name, guest, target in (("web", self.web, "vda"), ("web", self.web, "vdb"), ("off", self.off, "vda")):
            self.assertEqual(guest.images()[target].hash(), file_hash("%s/vms/%s/disks/%s.raw" % (folder, name, target)))
        self.web.start()
        self.assertTrue(self.web.writes())
        # and kvss goes on in the repository that restic made
        self.assertExit(other("backup", "web"), 0)
        other.restic("check", "--read-data")


class RepositoryByRestic(LabCase):
    """kvss works in a repository that restic made, and restic's own snapshots in it are left alone."""
    cost = 20

    @classmethod
    def make(cls):
        cls.kvss.restic("init", "--repository-version", "2")
        cls.off = cls.lab.guest("off", disks=[Disk("vda", kind="random")]).define()

    def test_both_in_one(self):
        folder = self.lab.path("files")
        os.mkdir(folder)
        with open(folder + "/file", "wb") as file:
            file.write(os.urandom(3 << 20))
        self.kvss.restic("backup", folder)
        self.backup("off")
        self.assertEqual(len(self.kvss.backups()), 1, "restic's own snapshot is taken for a set")
        self.assertExit(self.kvss("verify"), 0)
        before = self.off.disk("vda").hash()
        self.kvss.restic("backup", folder)
        self.kvss.restic("check", "--read-data")
        # restic's prune keeps what the set needs
        self.kvss.restic("forget", "--path", folder, "--keep-last", "1", "--prune")
        self.off.delete()
        self.restore("latest", "off")
        self.assertEqual(self.off.images()["vda"].hash(), before)
        self.assertEqual(virsh("domstate", "off").strip(), "shut off")
