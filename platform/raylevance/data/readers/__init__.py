"""Readers, one for each format. Each returns `{table: rows}` for `raylevance.data.importing.import_tables`."""
