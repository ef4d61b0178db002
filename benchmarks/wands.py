"""Write WANDS' 480 queries with a product class as the two files that query classification reads without a shop.

    python benchmarks/wands.py WANDS_FOLDER OUTPUT_FOLDER
    raylevance run classification-folds --set data=null --set labels.file=OUTPUT/labels.csv \
        --set sources.file=OUTPUT/queries.jsonl

WANDS_FOLDER has query.csv (query_id, query, query_class; separated by commas or tabs) of Chen et al. 2022 (ECIR).
Queries without a class are left out and counted.
"""

import csv
import json
import sys
from collections import Counter
from pathlib import Path


def main(source: Path, output: Path) -> None:
    """Write labels.csv and queries.jsonl."""
    text = (source / "query.csv").read_text(encoding="utf-8")
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=separator))
    labelled = [row for row in rows if row["query_class"].strip()]
    counts = Counter(row["query_class"].strip() for row in labelled)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["label_id", "name"])
        writer.writerows([name, name] for name in sorted(counts))
    with (output / "queries.jsonl").open("w", encoding="utf-8") as file:
        for row in labelled:
            file.write(json.dumps({"query": row["query"], "labels": [row["query_class"].strip()]}) + "\n")
    single = sum(count == 1 for count in counts.values())
    print(f"{len(labelled)} queries, {len(rows) - len(labelled)} without a class are left out")
    print(f"{len(counts)} classes, {single} of them of one query alone, which no other query can teach")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
