import os

if "RAY_ADDRESS" not in os.environ:
    # Read when Ray is imported: a Ray of our own is this machine's alone, so that its ports listen on loopback.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
