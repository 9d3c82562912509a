"""Import contracts that list what is allowed, for import-linter: everything else is forbidden."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedContract(Contract):
    """A package may import these modules of the root package, what is inside them, and itself; nothing else of it.

    Options: ``source``, the package; ``allowed``, a list of modules.
    """

    type_name = "allowed"
    source = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find all direct imports that are not allowed."""
        source = str(self.source)
        root = source.partition(".")[0]
        own = {source, *graph.find_descendants(source)}
        permitted = (source, *self.allowed)
        found = [
            (module, imported)
            for module in sorted(own)
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            if imported.partition(".")[0] == root
            and not any(imported == one or imported.startswith(f"{one}.") for one in permitted)
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each import that is not allowed."""
        found: list[tuple[str, str]] = check.metadata["found"]
        for module, imported in found:
            output.print_error(f"{module} imports {imported}, which is not among what {self.source} may import")
            output.new_line()
