"""The lab itself: what the other tests rely on would show if it were otherwise."""
import os
import shutil

from kvsslab import Disk, Image, Lab, LabCase, virsh, wait_until


class LabItself(LabCase):
    cost = 25

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab("lab")       # without a kvss
        cls.addClassCleanup(cls.lab.close)
        cls.web = cls.lab.guest("web", disks=[Disk("vda"), Disk("vdb")], agent="respawn").define().start()

    def test_a_freeze_shows(self):
        console = len(self.web.serial())
        virsh("domfsfreeze", "web")
        self.assertTrue(self.web.is_frozen())
        self.assertFalse(self.web.writes(1))
        self.assertEqual(self.web.sh("echo alive").strip(), "alive")
        virsh("domfsthaw", "web")
        self.assertTrue(self.web.writes())
        wait_until("gap", lambda: self.web.gaps(console))
        self.assertGreater(max(g for g, _ in self.web.gaps(console)), 900)
        self.assertEqual(self.web.sh("cat /run/hook.log").split()[-2:], ["freeze", "thaw"])

    def test_a_stopped_agent_freezes_late(self):
        self.web.hook("freeze", "rm /run/hook-freeze; kill -STOP $(cat /run/ga.pid)")
        virsh("guest-agent-timeout", "web", "--timeout", "3")
        rc, text = virsh("domfsfreeze", "web", check=False)
        self.assertNotEqual(rc, 0, text)
        self.assertTrue(self.web.writes())
        self.web.signal_agent("CONT")
        wait_until("late freeze", lambda: not self.web.writes(0.5))
        virsh("domfsthaw", "web")
        self.assertTrue(self.web.writes())

    def test_ram_and_disks_of_different_instants_show(self):
        """An old RAM image with newer disks: MISMATCH. And the journal of a disk that was cut while it was used waits."""
        guest = self.lab.guest("db", agent="no").define().start()
        guest.save()
        old = self.lab.path("old.save")
        shutil.copy(guest.save_path(), old)
        self.assertEqual(guest.images()["vda"].fs_state(), "needs recovery")
        guest.start(wait=False)
        self.assertTrue(guest.writes())
        self.assertEqual(guest.mismatches(), [], "nothing was mixed yet")
        guest.save()
        numbers = [i.seq() for i in guest.images().values()]
        shutil.copy(old, guest.save_path())
        guest.start(wait=False)
        wait_until("MISMATCH", guest.mismatches)
        seen = max(map(int, guest.mismatches()[0].split()[-2:]))
        self.assertIn(numbers[0] - seen, (0, 1), "the other of the two blocks may be one number behind")

    def test_a_clean_shutdown_is_clean(self):
        guest = self.lab.guest("off").define().start()
        letter = os.urandom(8).hex()
        guest.sh("echo %s > /mnt/vda/letter" % letter)
        guest.shutdown()
        image = Image(guest.disk("vda").path)
        self.assertEqual(image.fs_state(), "clean")
        self.assertEqual(image.cat("/letter").decode().strip(), letter)
        self.assertGreater(image.seq(), 0)
