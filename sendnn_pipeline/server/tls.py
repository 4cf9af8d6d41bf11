"""HTTPS without a proxy."""

import ssl

from sendnn_pipeline.config.serving import ServeConfig
from sendnn_pipeline.errors import ServeError
from sendnn_pipeline.paths import expand_path


def read_tls(serve: ServeConfig) -> ssl.SSLContext | None:
    """Return what HTTPS is spoken with; None where it is not asked for.

    Raises:
        ServeError: there is no certificate to the key, or a file cannot be used.
    """
    if serve.ssl_certfile is None:
        if serve.ssl_keyfile is not None:
            raise ServeError(f"serve.ssl_keyfile={serve.ssl_keyfile} has no certificate", hint="set serve.ssl_certfile")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = None if serve.ssl_keyfile is None else expand_path(serve.ssl_keyfile, "serve.ssl_keyfile")
    try:
        # Without the function the library would ask for the password of an encrypted key at the terminal.
        context.load_cert_chain(expand_path(serve.ssl_certfile, "serve.ssl_certfile"), key, password=lambda: "")
    except (OSError, ValueError) as error:
        files = " and ".join(str(file) for file in (serve.ssl_certfile, serve.ssl_keyfile) if file is not None)
        raise ServeError(
            f"{files} cannot be used: {getattr(error, 'strerror', None) or error}",
            hint="serve.ssl_certfile is a certificate chain in PEM form, serve.ssl_keyfile its key without a password",
        ) from None
    return context
