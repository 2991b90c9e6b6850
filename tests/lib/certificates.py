"""A CA of our own, and a server's certificate from it."""
import os
import subprocess


def make(folder, alternative, expired=False):
    """ca.pem, server.pem and server.key in @folder; @alternative: the server's names, as "IP:127.0.0.1"."""
    def openssl(*words):
        subprocess.run(['openssl', *words], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test CA', '-keyout', 'ca.key',
            '-out', 'ca.pem')
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=here', '-keyout', 'server.key', '-out', 'server.csr')
    with open(os.path.join(folder, 'extensions'), 'w', encoding='ascii') as f:
        f.write('subjectAltName=' + alternative)
    openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days',
            '-1' if expired else '2', '-extfile', 'extensions', '-out', 'server.pem')
