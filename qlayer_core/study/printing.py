"""What the command line prints of each epoch, rung and cell as it comes."""


def epoch(row: dict) -> None:
    """Print a row of a training's history."""
    accuracy = "  ".join(
        f"{path or ''} " + " ".join(f"{value:.2f}" for value in sets.values())
        for path, sets in row["accuracy"].items()
    )
    losses = " ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
    print(
        f"epoch {row['epoch']}  score {row['score']:.2f}  {accuracy}  losses {losses}  {row.get('inactive', '')}",
        flush=True,
    )


def rung(cell: dict) -> None:
    """Print what is left after one rung of the ladder, or why it could not be climbed."""
    found = cell.get("missing") or f"{100 * cell['correct'] / cell['n']:.1f} % of {cell['n']:,} right"
    print(f"{cell['rung']} {cell['eps']:g}: {found}", flush=True)


def trail(row: dict) -> None:
    """Print what is left after one epoch of a trail."""
    found = "  ".join(
        f"{cell['attack']} {cell['eps']} {cell['path'] or ''} {cell['accuracy']:.1f}" for cell in row["cells"]
    )
    print(f"epoch {row['epoch']}  score {row['score']:.2f}  {found}", flush=True)


def accuracy(cell: dict) -> None:
    """Print a measured cell."""
    print(_of_cell(cell), f"{cell['accuracy']:.2f} % of {cell['n']:,} right", flush=True)


def difference(cell: dict, differ: int) -> None:
    """Print in how many images a cell that was measured again differs from the recorded one."""
    print(_of_cell(cell), f"{differ} of the first {cell['n']:,} answers differ", flush=True)


def _of_cell(cell: dict) -> str:
    words = [cell["setting"]]
    if cell["attack"] != "none":
        words += [cell["attack"], f"{cell['eps']:g}"]
    words += [f"made on {cell['source']}"] if cell["source"] else []
    words += [f"along {cell['attacked_path']}"] if cell["attacked_path"] else []
    return " ".join(words) + (f", path {cell['path']} answers:" if cell["path"] else ":")
