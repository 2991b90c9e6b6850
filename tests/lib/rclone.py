"""The real "rclone serve restic" on a folder: a REST server for tests."""
import os
import re
import subprocess
import threading


class Rclone:
    def __init__(self, folder, *options, scheme='http'):
        """On a port that the kernel chooses: one that was free a moment ago may be somebody else's by now."""
        self.process = subprocess.Popen(
            ['rclone', 'serve', 'restic', '--addr', '127.0.0.1:0', *options, folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=dict(os.environ, RCLONE_CONFIG='/dev/null'))
        self.port = self.wait_for_port()
        self.url = '%s://127.0.0.1:%d' % (scheme, self.port)
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()

    def wait_for_port(self):
        said = b''
        for line in self.process.stderr:
            said += line
            match = re.search(rb'Serving .*127\.0\.0\.1:(\d+)', line)
            if match:
                return int(match.group(1))
        raise OSError('rclone ended with %d: %s' % (self.process.wait(), said.decode(errors='replace')))

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
