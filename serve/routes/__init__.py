"""The HTTP routes, a file for each group; each has a function `router` that builds them around a `Service`."""
