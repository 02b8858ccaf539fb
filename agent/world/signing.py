"""Keys and certificates, made in memory: the authorities, and what they sign. Nothing here reads or writes anything.

ECDSA on P-256, signed with SHA-256: what every etcd, Go and OpenSSL in use verifies, and small enough that both keys
and both certificates of an authority fit into one standard parameter (4 KB). `cryptography` is imported by whoever
signs, not by every agent at its start.

What etcd asks of a certificate (`listener_tls.go` of its client/pkg/transport; `crypto/x509`):
 - a server's is shown by etcd as a client, too (a peer dials others, the gateway its own server): both key usages
 - a peer's that names addresses must name the one that it dials from: the instance's own, and loopback for a lab in
   which Linux dials from there
 - with RBAC the CN of a client's certificate is the name of its user. The gateway speaks with the server's certificate
   for whoever it serves (CVE-2018-16886), so a server's CN must be nobody's: it is the instance's ID. The agent's own
   is `root`, which means nothing until somebody turns authentication on.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
EARLIER = timedelta(minutes=5)
"""Certificates are valid from a little before they were made: not all clocks agree."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM. The key is never shown."""

    certificate: str
    key: str = field(repr=False)

    def __str__(self) -> str:
        return "a certificate and its key"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a certificate is to say. No names: a client's, which may come from anywhere."""

    common_name: str
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    server: bool = False


def new_authority(common_name: str, now: datetime) -> Pair:
    """A root of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(common_name)
    builder = (
        _builder(subject, subject, key.public_key(), now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(wanted: Wanted, authority: Pair, now: datetime, life: timedelta) -> Pair:
    """A new key and its certificate, which ends with its authority at the latest."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signing = serialization.load_pem_private_key(authority.key.encode(), password=None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + life, issuer.not_valid_after_utc)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if wanted.server else [])]
    builder = (
        _builder(_named(wanted.common_name), issuer.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    also = [x509.IPAddress(ipaddress.ip_address(each)) for each in wanted.addresses]
    dns = [x509.DNSName(each) for each in wanted.names]
    if also or dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([*dns, *also]), critical=False)
    return _pair(builder.sign(signing, hashes.SHA256()), key)


def ends_at(certificate: str) -> datetime:
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def subject_of(certificate: str) -> bytes:
    """Its name in DER: as a server lists the authorities that it trusts."""
    return x509.load_pem_x509_certificate(certificate.encode()).subject.public_bytes()


def issuer_of(certificate: bytes) -> tuple[bytes, datetime]:
    """Of a certificate in DER: its issuer's name in DER, and when it ends."""
    found = x509.load_der_x509_certificate(certificate)
    return found.issuer.public_bytes(), found.not_valid_after_utc


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - EARLIER)
        .not_valid_after(until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), encoded.decode())
