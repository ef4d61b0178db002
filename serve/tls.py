"""The certificate and the key to answer over https with."""

import ssl
from pathlib import Path

from raylevance.errors import RaylevanceError
from serve.settings import ServeSettings


def tls_options(settings: ServeSettings) -> dict[str, str]:
    """Return Ray Serve's options for https. Raises `RaylevanceError` when a file can't be read as what it should be."""
    if not (settings.tls_cert and settings.tls_key):
        return {}
    for name, file in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if not Path(file).is_file():
            raise RaylevanceError(f"{name}={file}: no such file")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise RaylevanceError(f"tls_cert={settings.tls_cert}, tls_key={settings.tls_key}: {error}") from None
    return {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
