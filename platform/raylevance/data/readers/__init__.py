"""One reader a format; each returns `{table: rows}` for `raylevance.data.importing.import_tables`."""
