"""The real "rclone serve restic" on a folder: a REST server for tests."""
import os
import socket
import subprocess
import time


class Rclone:
    def __init__(self, folder, *options, scheme='http'):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = probe.getsockname()[1]
        self.url = '%s://127.0.0.1:%d' % (scheme, self.port)
        self.process = subprocess.Popen(
            ['rclone', 'serve', 'restic', '--addr', '127.0.0.1:%d' % self.port, *options, folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, RCLONE_CONFIG='/dev/null'))
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()
