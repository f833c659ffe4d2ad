"""What one scenario showed, and how it is printed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from .usage import MIB, Usage

HEADINGS = (
    "scenario", "before, MiB", "peak, MiB", "bound, MiB", "after, MiB", "descriptors",
    "mappings", "healthy p50, ms", "p99, ms", "answers",
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """Sizes in bytes. ``wrong`` is what must not be: data lost, a healthy client refused."""

    scenario: str
    before: Usage
    after: Usage
    peak: int
    bound: int  # of anonymous memory, as docs/operations.md says
    answers: Counter[str] = field(default_factory=Counter)
    healthy: dict[str, float] = field(default_factory=dict)  # seconds
    facts: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.peak <= self.bound and not self.wrong

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        sizes = {"before": asdict(self.before), "after": asdict(self.after)}
        members = ("scenario", "peak", "bound", "healthy", "facts", "wrong", "is_good")
        return {
            **{name: getattr(self, name) for name in members},
            **sizes,
            "answers": dict(self.answers),
        }

    def markdown(self) -> str:
        milliseconds = [f"{self.healthy.get(name, 0) * 1e3:.0f}" for name in ("p50", "p99")]
        answers = ", ".join(f"{count:,} {name}" for name, count in sorted(self.answers.items()))
        sizes = (self.before.anonymous, self.peak, self.bound, self.after.anonymous)
        cells = [
            self.scenario,
            *(f"{size / MIB:,.0f}" for size in sizes),
            f"{self.before.descriptors} → {self.after.descriptors}",
            f"{self.before.mappings} → {self.after.mappings}",
            *milliseconds,
            answers or "none",
        ]
        return f"| {' | '.join(cells)} |"


def table_head() -> str:
    rule = "|---" + "|--:" * (len(HEADINGS) - 2) + "|---|"
    return f"| {' | '.join(HEADINGS)} |\n{rule}"
