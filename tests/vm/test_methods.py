"""Each method, from a guest that writes without pause to the restored guest."""
import json
import os

from kvsslab import KVSS, Disk, Events, LabCase, file_hash, run, virsh


class ChildSnapshot(LabCase):
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb", form="raw")]).define().start()

    def test_two_disks(self):
        """Clean file systems of one instant; the guest was frozen for less than a second."""
        console = len(self.web.serial())
        letter = self.web.sh("head -c 300000 /dev/urandom > /mnt/vda/letter; sync; sha256sum /mnt/vda/letter")
        vm = self.backup_frozen("web", limit_ms=1000)
        self.assertEqual(vm["consistency"], "application")
        self.assertEqual(vm["uuid"], self.web.uuid)
        self.assertGreater(vm["freeze_ms"], 0)
        self.assertEqual(sorted(d["target"] for d in vm["disks"]), ["vda", "vdb"])
        self.assertEqual(vm["not_covered"], [])
        self.assertTrue(self.web.writes(), "the guest does not write after the backup")
        self.assertFalse(self.web.is_frozen())
        for gap, number in self.web.gaps(console):
            self.assertLess(gap, 8000, "the guest stood still at %d" % number)
        self.assertNothingLeft()

        self.web.delete()
        self.restore("latest", "web")
        self.assertEqual(self.web.state(), "shut off")
        self.assertOneInstant(self.web)
        self.assertEqual({t: i.form for t, i in self.web.images().items()}, {"vda": "qcow2", "vdb": "raw"})
        self.web.start()
        self.assertEqual(self.web.sh("sha256sum /mnt/vda/letter"), letter)
        self.assertNothingLeft()

    def test_explain_says_so_before(self):
        self.assertEqual(virsh("domstate", "web").strip(), "running")
        result = self.kvss("list", "vms")
        self.assertExit(result, 0)
        vm = next(v for v in result.document if v["name"] == "web")
        self.assertEqual(vm["method"], "child-snapshot")
        self.assertEqual([c["id"] for c in vm["conditions"]], ["C1", "C2", "C3", "C4", "C5"])
        self.assertTrue(all(c["holds"] for c in vm["conditions"]), vm["conditions"])
        self.assertTrue(all(c["detail"] for c in vm["conditions"]), vm["conditions"])
        self.assertNothingLeft()


class CrashConsistent(LabCase):
    cost = 15

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()

    def test_all_disks_in_one_transaction_without_a_freeze(self):
        result = self.backup("web", "--method", "crash-consistent")
        vm = result.vm("web")
        self.assertEqual((vm["method"], vm["consistency"]), ("crash-consistent", "crash"))
        self.assertIsNone(vm["freeze_ms"])
        self.assertNotIn("freeze", self.web.sh("cat /run/hook.log 2>/dev/null; true"))
        self.assertNothingLeft()
        self.web.delete()
        self.restore("latest", "web")
        self.assertEqual(self.web.state(), "shut off")
        self.assertOneInstant(self.web, clean=False)
        # That it needs its journal is what tells it from the frozen one.
        self.assertEqual(self.web.images()["vda"].fs_state(), "needs recovery")


class SavedState(LabCase):
    cost = 40

    @classmethod
    def make(cls):
        super().make()
        cls.db = cls.lab.guest("db", disks=[Disk("vda"), Disk("vdb", form="raw")], agent="no").define().start()
        cls.web = cls.lab.guest("web").define().start()

    def saved_and_restored(self, guest, *options):
        secret = self.secret(guest)
        with Events() as events:
            result = self.backup(guest.name, *options)
            self.assertEqual(guest.state(), "running")
            self.assertTrue(guest.writes(), "the guest does not run on")
            self.assertEqual(guest.sh("cat /run/secret"), secret)
            self.assertNotIn("Started", [e for e, _ in events.of(guest.name)], "it was restarted")
        self.assertEqual(guest.mismatches(), [])
        vm = result.vm(guest.name)
        self.assertEqual((vm["method"], vm["consistency"]), ("saved-state", "memory"))
        self.assertGreater(vm["pause_ms"], 0)
        self.assertIsNone(vm["freeze_ms"])
        self.assertNothingLeft()
        guest.delete()
        self.restore("latest", guest.name)
        number = self.assertOneInstant(guest, clean=False)
        self.assertContinues(guest, number, secret)
        self.assertNothingLeft()
        return vm

    def test_without_agent(self):
        vm = self.saved_and_restored(self.db)
        self.assertIn("C1", [r["id"] for r in vm["reasons"]])

    def test_demanded_although_the_agent_is_there(self):
        self.saved_and_restored(self.web, "--method", "saved-state")
        self.assertNotIn("freeze", self.web.sh("cat /run/hook.log 2>/dev/null; true"))


class Paused(LabCase):
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()

    def registers(self):
        return virsh("qemu-monitor-command", "--hmp", "web", "info registers")

    def test_a_paused_vm_never_runs(self):
        """It is paused before, during and after; restored it is saved, and starts paused."""
        secret = self.secret(self.web)
        self.web.pause()
        before = self.registers()
        with Events() as events:
            result = self.backup("web")
            happened = [e for e, _ in events.of("web")]
        self.assertNotIn("Resumed", happened)     # its QEMU may be replaced by another that loads the state and stays paused
        self.assertFalse(happened and happened[-1] != "Suspended", happened)
        self.assertEqual(self.web.state(), "paused")
        self.assertEqual(self.registers(), before, "its CPU has executed something")
        vm = result.vm("web")
        self.assertEqual(vm["method"], "saved-state")
        self.assertIn("C2", [r["id"] for r in vm["reasons"]])
        self.assertNothingLeft()

        self.web.resume()
        self.assertTrue(self.web.writes(), "the original does not go on when resumed")
        self.assertEqual(self.web.mismatches(), [])
        self.web.delete()
        with Events() as events:
            self.restore("latest", "web")
            self.assertNotIn("Resumed", [e for e, _ in events.of("web")])
        number = self.assertOneInstant(self.web, clean=False)
        self.assertContinues(self.web, number, secret, resume=True)


class AlreadySaved(LabCase):
    cost = 25

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")]).define().start()

    def test_a_saved_vm_is_not_started(self):
        """The save image is the same file with the same content before and after, and in the backup."""
        secret = self.secret(self.web)
        self.web.save()
        path = self.web.save_path()
        before = (os.stat(path).st_ino, os.stat(path).st_mtime_ns, file_hash(path))
        with Events() as events:
            result = self.backup("web")
            self.assertEqual(events.of("web"), [], "something happened to it")
        self.assertEqual((os.stat(path).st_ino, os.stat(path).st_mtime_ns, file_hash(path)), before)
        self.assertEqual(self.web.state(), "saved")
        vm = result.vm("web")
        self.assertEqual((vm["method"], vm["consistency"]), ("offline", "offline"))
        self.assertIsNone(vm["freeze_ms"])
        self.assertNothingLeft()

        numbers = [i.seq() for i in self.web.images().values()]
        self.web.delete()
        self.restore("latest", "web")
        self.assertEqual([i.seq() for i in self.web.images().values()], numbers)
        self.assertContinues(self.web, max(numbers), secret)


class Offline(LabCase):
    cost = 15

    @classmethod
    def make(cls):
        super().make()
        cls.disks = [Disk("vda"), Disk("vdb", form="raw"), Disk("vdc", kind="random", content_kib=3000, options="cluster_size=65536,compat=0.10"),
                     Disk("vdd", kind="empty", size_mib=512)]
        cls.web = cls.lab.guest("web", disks=cls.disks).define()

    def test_a_vm_that_is_off_is_not_started(self):
        before = {d.target: d.hash() for d in self.disks}
        with Events() as events:
            result = self.backup("web")
            self.assertEqual(events.of("web"), [])
        vm = result.vm("web")
        self.assertEqual((vm["method"], vm["consistency"], vm["freeze_ms"]), ("offline", "offline", None))
        self.assertEqual({d.target: d.hash() for d in self.disks}, before)
        read = {d["target"]: d["bytes_read"] for d in vm["disks"]}
        self.assertEqual(read["vdd"], 0, "an empty disk was read")
        self.assertNothingLeft()

        self.web.delete()
        self.restore("latest")
        self.assertEqual(self.web.state(), "shut off")
        images = self.web.images()
        self.assertEqual({t: i.hash() for t, i in images.items()}, before)
        self.assertEqual(images["vdc"].info()["format-specific"]["data"]["compat"], "0.10")
        self.assertEqual({t: i.info()["virtual-size"] for t, i in images.items()}, {d.target: d.size for d in self.disks})
        self.assertLess(images["vdd"].info()["actual-size"], 1 << 20, "an empty disk is not sparse any more")
        self.web.start()


class MixedSet(LabCase):
    cost = 60

    @classmethod
    def make(cls):
        super().make()
        make = cls.lab.guest
        cls.web = make("web", disks=[Disk("vda"), Disk("vdb")]).define()
        cls.db = make("db", agent="no").define()
        cls.still = make("still").define()
        cls.kept = make("kept").define()
        cls.off = make("off", disks=[Disk("vda", kind="random")]).define()
        cls.all = [cls.web, cls.db, cls.still, cls.kept, cls.off]
        for guest in (cls.web, cls.db, cls.still, cls.kept):
            guest.start(wait=False)
        for guest in (cls.web, cls.db, cls.still, cls.kept):
            guest.wait_ready()

    def assertBarrier(self, document):
        """By the recorded times: what a guest sees lies within PrepareForSnapshot; the still ones are cut after it, and go on then."""
        at = {e["event"]: (e["start"], e["end"]) for e in document["events"]}
        times = {v["name"]: v for v in document["vms"]}
        web = times["web"]
        steps = [at["PrepareForSnapshot"][0], web["frozen"], web["instant"], web["thawed"], at["PrepareForSnapshot"][1],
                 *at["Freeze"], *at["CommitSnapshots"], *at["Thaw"], *at["PostSnapshot"]]
        self.assertEqual(steps, sorted(steps))
        for name in ("db", "still"):
            self.assertIsNone(times[name]["frozen"])
            steps = [at["PrepareForSnapshot"][0], times[name]["instant"], at["PrepareForSnapshot"][1]]
            self.assertEqual(steps, sorted(steps), name)

    def test_one_set_of_every_kind(self):
        secrets = {g.name: self.secret(g) for g in (self.db, self.still, self.kept)}
        self.kept.save()
        self.still.pause()
        off = self.off.disk("vda").hash()
        result = self.backup("--all")
        self.assertEqual({v["name"]: v["method"] for v in result.summary["vms"]},
                         {"web": "child-snapshot", "db": "saved-state", "still": "saved-state", "kept": "offline",
                          "off": "offline"})
        self.assertLess(result.vm("web")["freeze_ms"], 10000)     # four guests share the cores; ChildSnapshot asks for less
        self.assertIsNotNone(result.summary["skew_ms"])
        self.assertEqual({g.name: g.state() for g in self.all},
                         {"web": "running", "db": "running", "still": "paused", "kept": "saved", "off": "shut off"})
        self.assertTrue(self.web.writes() and self.db.writes(3))
        self.assertNothingLeft()
        self.assertEqual(len(self.kvss.backups()), 1)
        self.assertEqual(sorted(self.kvss.backups()[0]["vms"]) if isinstance(self.kvss.backups()[0]["vms"][0], str)
                         else sorted(v["name"] for v in self.kvss.backups()[0]["vms"]), ["db", "kept", "off", "still", "web"])
        document = json.loads(self.kvss.restic("-q", "dump", "latest", "/set.json"))
        self.assertEqual(document["set_id"], result.summary["set_id"])
        self.assertBarrier(document)

        for guest in self.all:
            guest.delete()
        self.restore(result.summary["backup_id"])
        self.assertEqual({g.name: g.state() for g in self.all},
                         {"web": "shut off", "db": "saved", "still": "saved", "kept": "saved", "off": "shut off"})
        self.assertOneInstant(self.web)
        self.assertEqual(self.off.images()["vda"].hash(), off)
        for guest in (self.db, self.still, self.kept):
            number = self.assertOneInstant(guest, clean=False)
            self.assertContinues(guest, number, secrets[guest.name], resume=guest is self.still)
        self.web.start()
        self.assertTrue(self.web.writes())


class AutoRecovery(LabCase):
    """A requester that forbids to write to the shadow copy, and a provider that cuts after the guest's own instant."""
    cost = 15

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define().start()
        cls.db = cls.lab.guest("db", agent="no").define().start()

    def prepare(self, vm, context):
        build = os.path.dirname(KVSS)
        return run(build + "/tests/vm/context-tool", "qemu:///system", vm, context, check=False,
                   env={"KVSS_GUARDIAN": build + "/kvss-guardian"})

    def test_child_snapshot_is_refused(self):
        self.assertEqual(self.prepare("web", "0"), (0, "child-snapshot\n"))
        rc, text = self.prepare("web", "2")
        self.assertEqual(rc, 1, text)
        self.assertIn("web: child-snapshot is not possible without auto-recovery: provider later", text)
        self.assertEqual(text.split("\n")[-3:], ["VSS_WS_FAILED_AT_PREPARE_BACKUP", "0x800423F4", ""])
        self.assertTrue(self.web.writes())
        self.assertNothingLeft()

    def test_saved_state_needs_none(self):
        self.assertEqual(self.prepare("db", "2"), (0, "saved-state\n"))
        self.assertNothingLeft()


class Policy(LabCase):
    """A demand that cannot be met fails the set: nothing is kept, nothing is left."""
    cost = 15

    @classmethod
    def make(cls):
        super().make()
        cls.web = cls.lab.guest("web").define().start()
        cls.db = cls.lab.guest("db", agent="no").define().start()

    def test_demand_that_cannot_be_met(self):
        for demand in ("child-snapshot", "db=child-snapshot"):
            with self.subTest(demand):
                freezes = self.web.sh("grep -c freeze /run/hook.log; true")
                before = self.kvss.backups()
                with Events() as events:
                    result = self.kvss("backup", "web", "db", "--method", demand)
                    self.assertEqual(events.of("web"), [], "the guest was touched")
                self.assertFailed(result, 1, "db")
                self.assertIn("C1", result.stderr + json.dumps(result.error))
                self.assertNotIn("web:", result.stderr)
                self.assertEqual(self.kvss.backups(), before)
                self.assertEqual(len(json.loads(self.kvss.restic("snapshots", "--json"))), len(before))
                self.assertTrue(self.web.writes() and self.db.writes())
                self.assertEqual(self.web.sh("grep -c freeze /run/hook.log; true"), freezes)
                self.assertNothingLeft()

    def test_demand_on_the_vm_that_can(self):
        result = self.backup("web", "db", "--method", "web=child-snapshot")
        self.assertEqual(result.vm("web")["method"], "child-snapshot")
        self.assertEqual(result.vm("db")["method"], "saved-state")
