"""A certificate authority of the tests' own."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

CERTIFIED = "api.example.test"
"""A host that an `Authority` vouches for, beside 127.0.0.1."""


@dataclass(frozen=True)
class Authority:
    """An authority that nobody knows, and a certificate signed by it for 127.0.0.1 and `CERTIFIED`."""

    home: Path

    @property
    def file(self) -> Path:
        return self.home / "authority.pem"

    @property
    def folder(self) -> Path:
        """It holds the file under the name that OpenSSL looks for."""
        return self.home / "certificates"

    @property
    def tls(self) -> ssl.SSLContext:
        """With that certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.home / "provider.pem", self.home / "provider.key")
        return context


OPENSSL = """
[req]
distinguished_name = name
prompt = no
[name]
CN = swarmstream tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[provider]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:api.example.test
authorityKeyIdentifier = keyid
"""


def make_authority(home: Path) -> Authority:
    """Make an authority, and a certificate signed by it, with openssl."""
    authority = Authority(home)
    (authority.home / "openssl.cnf").write_text(OPENSSL)

    def openssl(command: str) -> str:
        done = subprocess.run(
            ["openssl", *command.split()], cwd=authority.home, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    for name in ("authority", "provider"):
        openssl(f"ecparam -name prime256v1 -genkey -noout -out {name}.key")
    openssl("req -config openssl.cnf -extensions authority -x509 -days 2 -key authority.key -out authority.pem")
    openssl("req -config openssl.cnf -new -subj /CN=provider -key provider.key -out provider.csr")
    openssl(
        "x509 -req -in provider.csr -CA authority.pem -CAkey authority.key -set_serial 2 -days 2"
        " -extfile openssl.cnf -extensions provider -out provider.pem"
    )
    authority.folder.mkdir()
    (authority.folder / f"{openssl('x509 -hash -noout -in authority.pem')}.0").write_bytes(authority.file.read_bytes())
    return authority


def trusting(authority: Authority) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(authority.file)}
