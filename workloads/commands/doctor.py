"""`raylevance doctor`."""

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, plain_table, print_json


@quiet
def doctor(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Look at what the work needs on this machine; exit 1 where something is missing."""
    from workloads.commands.examine_machine import as_json as findings_as_json
    from workloads.commands.examine_machine import examine

    with results_console() as results:
        findings = examine(store)
        rows = [["ok" if finding.ok else "MISSING", finding.subject, finding.text] for finding in findings]
        print_json(results, findings_as_json(findings)) if as_json else results.print(plain_table(["", "", ""], rows))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
