"""`quant recipes`."""

from __future__ import annotations

import click


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List the recipes that come with quant; `quant recipes show NAME` prints one.

    With what each was measured to cost on the project's own small model: the bytes of the quantized component, and mean
    and worst PSNR of its videos against the original's. Large models differ; measure your own.
    """
    if ctx.invoked_subcommand is not None:
        return
    from quant.cli.tables import aligned
    from quant.recipe import Recipe
    from quant.recipe_files import expected_quality, shipped_recipes

    rows = [("recipe", "scheme", "of bf16", "PSNR", "")]
    for name, text in shipped_recipes().items():
        recipe = Recipe.from_yaml(text, name)
        schemes = ", ".join(dict.fromkeys(group.layer_format.label for group in recipe.groups))
        found = expected_quality(recipe)
        share = "-" if found is None else f"{found.share_of_bf16:.0%}"
        psnr = "-" if found is None else f"{found.psnr_mean:.0f} / {found.psnr_worst:.0f} dB"
        rows.append((name, schemes, share, psnr, recipe.summary))
    for line in aligned(rows, figures=(2, 3)):
        click.echo(line)


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the recipe NAME as YAML: "w8a8" or "wan/w8a8"."""
    from quant.recipe_files import recipe_text

    click.echo(recipe_text(name)[1], nl=False)
