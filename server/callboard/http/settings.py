"""Where the HTTP server listens, and the exact names under which it may be addressed."""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")

# Scheme, name and port, as they stand in Origin and Host: the name is never decoded or corrected.
_PUBLIC_URL: Final = re.compile(
    r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", re.IGNORECASE
)


@dataclass(frozen=True)
class HttpSettings:
    """Where the server listens, under which names it is known, and what it takes from a client."""

    host: str
    """The address to listen on."""
    port: int
    """The port to listen on; 0 lets the system choose one."""
    auth: bool = False
    """Whether every request but /health needs a bearer token."""
    public_url: str | None = None
    """The URL, without a path, under which clients reach the server through a reverse proxy."""
    extra_hosts: tuple[str, ...] = ()
    """Further values of `Host`, each exactly as clients send it: a name, or name:port."""
    extra_origins: tuple[str, ...] = ()
    """Further values of `Origin`: scheme://name, or scheme://name:port."""
    rate: float = 50
    """Requests a second that one principal may make in the long run, far more than an agent that thinks makes
    and far less than a server answers, so that one that does not think leaves the rest to others. Only with
    `auth`."""
    burst: int = 100
    """Requests that one principal may make at once after a pause."""
    body_limit: int = 1 << 20
    """The largest request body, in bytes."""


def check_bind(settings: HttpSettings) -> None:
    """Refuses to listen where strangers could call in, or read along.

    An address other than loopback needs authentication and a `public_url` that is https: the sign that
    something in front of the server does TLS.

    Raises:
        ValueError: Says what is missing.
    """
    if settings.public_url is not None and not _PUBLIC_URL.fullmatch(settings.public_url):
        raise ValueError(f"The public URL must be http://name or https://name, not {settings.public_url!r}.")
    if _is_loopback(settings.host):
        return
    if not settings.auth:
        raise ValueError(
            f"{settings.host or 'Every address'} is reachable from other machines: turn authentication on,"
            " or listen on 127.0.0.1."
        )
    if settings.public_url is None or not settings.public_url.lower().startswith("https:"):
        raise ValueError(
            f"{settings.host or 'Every address'} is reachable from other machines: name the https address"
            " of the TLS terminator in front as the public URL, or listen on 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: who knows where it points tomorrow
        return False


@dataclass(frozen=True)
class Names:
    """The exact values of `Host` and `Origin`, in lower case, with which this server may be addressed."""

    hosts: frozenset[str]
    origins: frozenset[str]


@lru_cache(maxsize=32)
def names(settings: HttpSettings, port: int | None) -> Names:
    """The names for connections to `port`. None stands for any port, in the `name:*` spelling of the SDK."""
    host = settings.host.lower()
    bound = {f"[{host}]" if ":" in host else host} if host not in ("", "0.0.0.0", "::") else set()
    if _is_loopback(host):
        bound.update(LOOPBACK_NAMES)
    hosts = {f"{name}:{'*' if port is None else port}" for name in bound}
    if port in (None, 80):
        hosts |= bound
    origins = {f"http://{name}" for name in hosts}
    for extra in map(str.lower, settings.extra_hosts):
        hosts.add(extra)
        origins |= {f"http://{extra}", f"https://{extra}"}
    if settings.public_url is not None and (url := _PUBLIC_URL.fullmatch(settings.public_url.lower())):
        scheme, name, explicit = url.groups()
        usual = "443" if scheme == "https" else "80"
        public = {f"{name}:{explicit or usual}"} | ({name} if explicit in (None, usual) else set())
        hosts |= public
        origins |= {f"{scheme}://{each}" for each in public}
    return Names(frozenset(hosts), frozenset(origins | {each.lower() for each in settings.extra_origins}))
