"""`quant recipes`."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes that come with quant; `quant recipes show NAME` prints one."""
    if ctx.invoked_subcommand is not None:
        return
    from quant.recipe import Recipe
    from quant.recipe_files import shipped_recipes

    rows = []
    for name, text in shipped_recipes().items():
        recipe = Recipe.from_yaml(text, name)
        schemes = ", ".join(dict.fromkeys(group.form.label for group in recipe.groups))
        rows.append((name, schemes, recipe.summary))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, schemes, summary in rows:
        click.echo(f"{name.ljust(widths[0])}  {schemes.ljust(widths[1])}  {summary}")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the recipe NAME as YAML: "w8a8" or "wan/w8a8"."""
    from quant.recipe_files import recipe_text

    click.echo(recipe_text(name)[1], nl=False)
