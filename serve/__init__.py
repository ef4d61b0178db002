"""The application that answers searches over HTTP."""

import os

# Ray reads this when it is imported. A Ray that we start serves only this machine, so its ports listen on loopback.
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

from serve.proxy_environment import prepare_environment

prepare_environment()
