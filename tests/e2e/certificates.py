"""Certificates and signed tokens, made with the openssl program."""

import base64
import json
import subprocess
import time

DAYS = 3650  # tests set clocks a year ahead

_CONFIG = "[req]\ndistinguished_name=dn\n[dn]\n"


def _openssl(*args, stdin=b""):
    done = subprocess.run(["openssl", *map(str, args)], input=stdin, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args}: {done.stderr.decode()}")
    return done.stdout


class Authority:
    """A certificate authority in files of `directory`. A second one of the same name replaces the first one's files."""

    def __init__(self, directory, name="ca"):
        self._directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(_CONFIG)
        self.certificate = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        self._request(self.certificate, self._key, f"/CN=e2e {name}", "basicConstraints=critical,CA:TRUE",
                      "keyUsage=critical,digitalSignature,keyCertSign")

    def issue(self, name, user, group=None, addresses=""):
        """The paths of a certificate and its key: a client's, or a server's if it has addresses."""
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        extensions = ["authorityKeyIdentifier=keyid", f"extendedKeyUsage={'serverAuth' if addresses else 'clientAuth'}"]
        if addresses:
            extensions.append(f"subjectAltName={addresses}")
        self._request(certificate, key, subject, *extensions, signer=("-CA", self.certificate, "-CAkey", self._key))
        return certificate, key

    def _request(self, certificate, key, subject, *extensions, signer=()):
        options = [o for e in extensions for o in ("-addext", e)]
        _openssl("req", "-x509", "-config", self._config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-days", DAYS, "-subj", subject, "-keyout", key, "-out", certificate, *signer, *options)


class TokenSigner:
    """The key pair of service account tokens. For tokens of lives so short that the API server would not issue them."""

    def __init__(self, directory, issuer):
        self._issuer = issuer
        self.private_key = directory / "service-account.key"
        self.public_key = directory / "service-account.pub"
        _openssl("genrsa", "-out", self.private_key, 2048)
        _openssl("rsa", "-in", self.private_key, "-pubout", "-out", self.public_key)

    def sign(self, account, seconds):
        """A token for a ServiceAccount object that says it is valid for so long from now; the API server grants it 60 s more."""
        namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": [self._issuer],
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
            },
        }
        parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        signed = ".".join(parts)
        return signed + "." + _base64(_openssl("dgst", "-sha256", "-sign", self.private_key, stdin=signed.encode()))


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
