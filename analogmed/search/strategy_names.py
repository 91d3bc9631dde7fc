"""Names of search strategies; importing this file imports no strategy and no Optuna."""

from analogmed.foundation.registry import plugin_names

GROUP = "analogmed.search"
"""Entry-point group for packages that provide search strategies."""

BUILT_IN = {
    "analognas": "analogmed.search.strategies.analognas:analognas",
    "evolution": "analogmed.search.strategies.evolution:evolution",
    "mias": "analogmed.search.strategies.mias:mias",
    "mt_mias": "analogmed.search.strategies.mias:mt_mias",
    "mt_mias_c": "analogmed.search.strategies.mias:mt_mias_c",
    "nsga2": "analogmed.search.strategies.samplers:nsga2",
    "nsga3": "analogmed.search.strategies.samplers:nsga3",
    "random": "analogmed.search.strategies.samplers:random",
    "tpe": "analogmed.search.strategies.samplers:tpe",
}
"""The built-in strategies, as ``module:function``."""


def strategy_names() -> tuple[str, ...]:
    """Return the names of the built-in and installed strategies, sorted."""
    return tuple(sorted({*BUILT_IN, *plugin_names(GROUP)}))
