"""An S3 server for tests: Ceph's object gateway on a cluster of one, kept in memory.

    with S3Server(folder) as server:
        server.environment()     credentials, as variables
        server.bucket('name')    a new bucket
        's3:%s/name' % server.url

Everything lies in the folder and listens on the loopback, on ports that were
free. The daemons are started in the foreground and stopped by their process
ids; they end with the test, whatever becomes of it.

Run by itself, it is a server to try things by hand: python3 s3lab.py FOLDER
"""
import contextlib
import ctypes
import datetime
import hashlib
import hmac
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

PROGRAMS = ('ceph-mon', 'ceph-osd', 'radosgw', 'ceph', 'radosgw-admin', 'ceph-authtool', 'monmaptool')
ACCESS_KEY = 'TESTKEY0TESTKEY0TEST'
SECRET_KEY = 'testsecrettestsecrettestsecrettestsecret0'
READY_SECONDS = 180  # seconds on an idle machine; minutes beside a full test run

CONFIG = '''[global]
fsid = %(fsid)s
mon_initial_members = a
mon_host = [v2:127.0.0.1:%(mon)d,v1:127.0.0.1:%(old)d]
ms_bind_port_min = %(low)d
ms_bind_port_max = %(high)d
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = %(dir)s/keyring
run_dir = %(dir)s/run
admin_socket = %(sockets)s/$name.asok
log_file = %(dir)s/log/$name.log
pid_file = %(dir)s/run/$name.pid
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
auth_allow_insecure_global_id_reclaim = false
mon_cluster_log_to_file = false
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
memstore_device_bytes = 2147483648
[mon.a]
mon_data = %(dir)s/mon.a
[osd]
osd_data = %(dir)s/osd.$id
'''


def missing():
    """The programs that are not installed, as one word for a skip; '' when all are there."""
    return ' '.join(name for name in PROGRAMS if not shutil.which(name))


def free_ports(count):
    """Ports of the loopback that nobody has, and that the kernel gives to nobody who asks for any."""
    ports = []
    for port in random.sample(range(10000, 32768), 1000):
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind(('127.0.0.1', port))
                ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError('no free ports')


def die_with_parent():
    """In a child, before its program: a test that is killed leaves no daemon behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class S3Server:
    def __init__(self, folder):
        self.dir = os.path.abspath(folder)
        self.processes = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def run(self, *args, text=None):
        env = dict(os.environ, CEPH_CONF=self.path('ceph.conf'))
        done = subprocess.run(args, env=env, input=text, capture_output=True, text=True, timeout=READY_SECONDS)
        if done.returncode != 0:
            raise RuntimeError('%s failed: %s' % (' '.join(args), done.stderr[-2000:]))
        return done.stdout

    def daemon(self, *args):
        env = dict(os.environ, CEPH_CONF=self.path('ceph.conf'))
        with open(self.path('log', args[0] + '.out'), 'wb') as out:
            process = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       preexec_fn=die_with_parent)
        self.processes.append(process)
        return process

    def until(self, what, ready):
        limit = time.monotonic() + READY_SECONDS
        while not ready():
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError('%s ended: see %s' % (process.args[0], self.path('log')))
            if time.monotonic() > limit:
                raise RuntimeError('%s is not ready after %d s' % (what, READY_SECONDS))
            time.sleep(0.1)

    def start(self):
        os.makedirs(self.path('run'))
        os.makedirs(self.path('log'))
        mon, old, low, self.port = free_ports(4)
        self.monitors = '[v2:127.0.0.1:%d,v1:127.0.0.1:%d]' % (mon, old)
        self.cluster = self.uuid()
        with open(self.path('ceph.conf'), 'w') as f:
            f.write(CONFIG % {'dir': self.dir, 'fsid': self.cluster, 'mon': mon, 'old': old, 'low': min(low, 65000),
                              'high': min(low, 65000) + 100, 'sockets': self.path('run')})
        self.start_monitor()
        self.start_store()
        self.start_gateway()

    def uuid(self):
        with open('/proc/sys/kernel/random/uuid') as f:
            return f.read().strip()

    def start_monitor(self):
        keyring = self.path('keyring')
        self.run('ceph-authtool', '--create-keyring', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *')
        self.run('ceph-authtool', keyring, '--gen-key', '-n', 'client.admin', '--cap', 'mon', 'allow *',
                 '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *')
        self.run('monmaptool', '--create', '--fsid', self.cluster, '--addv', 'a', self.monitors, self.path('monmap'))
        self.run('ceph-mon', '--mkfs', '-i', 'a', '--keyring', keyring, '--monmap', self.path('monmap'))
        self.daemon('ceph-mon', '-f', '-i', 'a')
        env = dict(os.environ, CEPH_CONF=self.path('ceph.conf'))
        self.until('the monitor', lambda: subprocess.run(['ceph', '--connect-timeout', '2', 'mon', 'stat'], env=env,
                                                         capture_output=True).returncode == 0)

    def start_store(self):
        os.makedirs(self.path('osd.0'))
        uuid, secret = self.uuid(), self.run('ceph-authtool', '--gen-print-key').strip()
        keyring = self.path('osd.0', 'keyring')
        self.run('ceph', 'osd', 'new', uuid, '-i', '-', text=json.dumps({'cephx_secret': secret}))
        self.run('ceph-authtool', '--create-keyring', keyring, '-n', 'osd.0', '--add-key', secret)
        self.run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', uuid, '--keyring', keyring)
        self.daemon('ceph-osd', '-f', '-i', '0', '--keyring', keyring)

    def start_gateway(self):
        os.makedirs(self.path('rgw'))
        keyring = self.path('rgw', 'keyring')
        with open(keyring, 'w') as f:
            f.write(self.run('ceph', 'auth', 'get-or-create', 'client.rgw.a', 'mon', 'allow rw', 'osd', 'allow rwx'))
        self.daemon('radosgw', '-f', '-n', 'client.rgw.a', '--keyring', keyring, '--rgw-thread-pool-size=64',
                    '--rgw-frontends=beast endpoint=127.0.0.1:%d' % self.port)
        self.until('the gateway', self.answers)
        self.run('radosgw-admin', 'user', 'create', '--uid=lab', '--display-name=lab',
                 '--access-key=' + ACCESS_KEY, '--secret-key=' + SECRET_KEY)

    def answers(self):
        try:
            connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=5)
            connection.request('GET', '/')
            return connection.getresponse().status == 200
        except OSError:
            return False

    def stop(self):
        """The last first: the gateway wants to say goodbye to its cluster."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    # ---- what tests ask of it ----

    @property
    def url(self):
        return 'http://127.0.0.1:%d' % self.port

    def environment(self):
        return {'AWS_ACCESS_KEY_ID': ACCESS_KEY, 'AWS_SECRET_ACCESS_KEY': SECRET_KEY}

    def request(self, method, path, query='', body=b'', headers=None):
        """One signed request, by a signer that has nothing in common with kvss's. Returns status and body."""
        host = '127.0.0.1:%d' % self.port
        now = datetime.datetime.utcnow().strftime('%Y%m%dT%H%M%SZ')
        day, digest = now[:8], hashlib.sha256(body).hexdigest()
        signed = {'host': host, 'x-amz-content-sha256': digest, 'x-amz-date': now}
        names = ';'.join(sorted(signed))
        canonical = '\n'.join([method, path, query, *('%s:%s' % (n, signed[n]) for n in sorted(signed)), '',
                               names, digest])
        scope = '%s/us-east-1/s3/aws4_request' % day
        to_sign = '\n'.join(['AWS4-HMAC-SHA256', now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ('AWS4' + SECRET_KEY).encode()
        for part in (day, 'us-east-1', 's3', 'aws4_request', to_sign):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signed['Authorization'] = ('AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s'
                                   % (ACCESS_KEY, scope, names, key.hex()))
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(method, path + ('?' + query if query else ''), body, {**signed, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def expect(self, *args, **kwargs):
        status, body = self.request(*args, **kwargs)
        if status >= 300:
            raise RuntimeError('%s: %d %s' % (args, status, body[:500]))
        return body

    def bucket(self, name):
        self.expect('PUT', '/' + name)
        return name

    def keys(self, bucket, prefix=''):
        """Every key of a bucket that begins with prefix."""
        found, token = [], ''
        while token is not None:
            query = 'list-type=2&max-keys=1000&prefix=' + urllib.parse.quote(prefix, safe='')
            if token:
                query = 'continuation-token=%s&%s' % (urllib.parse.quote(token, safe=''), query)
            body = self.expect('GET', '/' + bucket, query).decode()
            found += [part.split('</Key>')[0] for part in body.split('<Key>')[1:]]
            token = body.split('<NextContinuationToken>')[1].split('<')[0] \
                if '<NextContinuationToken>' in body else None
        return found

    def get(self, bucket, key):
        return self.expect('GET', '/%s/%s' % (bucket, key))

    def put(self, bucket, key, body):
        self.expect('PUT', '/%s/%s' % (bucket, urllib.parse.quote(key)), body=body)

    def delete(self, bucket, key):
        self.expect('DELETE', '/%s/%s' % (bucket, key))


def main():
    if len(sys.argv) != 2 or missing():
        sys.exit('usage: s3lab.py FOLDER (that is not there yet); missing programs: %s' % (missing() or 'none'))
    os.makedirs(sys.argv[1])
    with S3Server(sys.argv[1]) as server:
        server.bucket('lab')
        for name, value in server.environment().items():
            print('export %s=%s' % (name, value))
        print('export KVSS_REPOSITORY=s3:%s/lab    # until you interrupt' % server.url, flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass


if __name__ == '__main__':
    main()
