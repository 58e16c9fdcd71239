"""The plan of a load: what its options mean together, given or from the environment."""

from __future__ import annotations

import pytest

from techo._cli.load import COMMAND
from techo._cli.load_plan import plan_of, settle
from techo._cli.parsing import parse


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--arrivals=poisson"], {}, "--arrivals poisson: give --rate, too"),
        ([], {"TECHO_ARRIVALS": "poisson"}, "TECHO_ARRIVALS poisson: give --rate, too"),
        (["--seed=5", "-r", "9"], {}, "--seed 5: give --arrivals poisson"),
        ([], {"TECHO_SEED": "5"}, "TECHO_SEED 5: give --arrivals poisson"),
        (["-d", "1", "-n", "1"], {}, "--duration and --trips: give one of them"),
    ],
)
def test_what_makes_no_sense_is_refused_as_it_was_given(
    arguments: list[str], variables: dict[str, str], words: str
) -> None:
    """The text names the option or the variable, and the remedy."""
    with pytest.raises(ValueError, match=words):
        settle(parse(COMMAND, arguments, variables))


def test_a_seed_of_random_arrivals_is_taken() -> None:
    """With both and a rate, the plan has all three."""
    options = parse(COMMAND, ["--seed=5", "-r", "9"], {"TECHO_ARRIVALS": "poisson"})
    settle(options)
    plan = plan_of(options)
    assert (plan.rate, plan.arrivals, plan.seed) == (9, "poisson", 5)
