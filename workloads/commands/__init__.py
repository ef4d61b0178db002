"""The subcommands of `raylevance`, one file a group."""
