"""An installed copy of kvss in a folder, for tests that build programs against it."""
import glob
import json
import os
import subprocess


class Installed:
    """What `meson install` puts into DESTDIR; programs are built with the flags of its pkg-config file alone."""

    def __init__(self, build, folder):
        with open(build + "/meson-info/intro-buildoptions.json") as file:
            option = {o["name"]: o["value"] for o in json.load(file)}
        self.destdir = folder + "/installed"
        self.sanitize = [] if option["b_sanitize"] == "none" else ["-fsanitize=" + option["b_sanitize"]]
        self._run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", self.destdir)
        self.prefix = self.destdir + option["prefix"]
        self.bindir, self.libdir, self.includedir, libexecdir = (
            os.path.join(self.prefix, option[name].lstrip("/")) for name in ("bindir", "libdir", "includedir", "libexecdir"))
        self.library = self.libdir + "/libkvss.so"
        self.guardian = libexecdir + "/kvss/kvss-guardian"
        self._move_package(option["prefix"])
        self.cflags = self._run("pkg-config", "--cflags", "libkvss").split()
        self.libs = self._run("pkg-config", "--libs", "libkvss").split()

    def _run(self, *command):
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(getattr(self, "libdir", ""), "pkgconfig"))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=env, timeout=180)
        if done.returncode != 0:
            raise AssertionError("%s: exit %d: %s" % (" ".join(command), done.returncode, done.stderr.strip()))
        return done.stdout

    def _move_package(self, prefix):
        """The package says where it would be without DESTDIR: its one line about that is changed, and nothing else."""
        path, = glob.glob(self.libdir + "/pkgconfig/libkvss.pc")
        with open(path) as file:
            text = file.read()
        assert text.startswith("prefix=%s\n" % prefix), text
        with open(path, "w") as file:
            file.write(text.replace("prefix=" + prefix, "prefix=" + self.prefix, 1))

    def build(self, sources, program, flags=(), compiler="gcc"):
        self._run(compiler, "-g", *self.sanitize, *flags, "-o", program, *sources, *self.cflags, *self.libs)
