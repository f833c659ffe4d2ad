"""What a soak came to: for JSON, and as the table of docs/reliability.md."""

from __future__ import annotations

import statistics
from typing import Any

from .judge import beyond_bounds, space_amplification, trends, write_amplification
from .run import Result

MIB = 1024 * 1024
UNITS = {
    "anonymous": (MIB, "MiB"),
    "disk": (MIB, "MiB"),
    "segments": (MIB, "MiB"),
    "append_p50": (1e-3, "ms"),
    "append_p99": (1e-3, "ms"),
    "read_p50": (1e-3, "ms"),
    "read_p99": (1e-3, "ms"),
}
TITLES = {
    "anonymous": "anonymous memory",
    "disk": "disk, whole directory",
    "segments": "disk, segments",
    "append_p50": "append, p50",
    "append_p99": "append, p99",
    "read_p50": "read, p50",
    "read_p99": "read, p99",
}


def summary(result: Result) -> dict[str, Any]:
    """``is clean``: nothing was lost, no bound passed, nothing grew."""
    samples, ledger, plan = result.samples, result.ledger, result.plan
    found = trends(samples)
    beyond = beyond_bounds(samples)
    return {
        "seconds": plan.seconds,
        "seed": plan.seed,
        "streams": plan.streams,
        "appends a second": plan.rate,
        "kills": result.kills,
        "start, median s": round(statistics.median(result.starts), 2),
        "start, longest s": round(max(result.starts), 2),
        "counts": dict(sorted(ledger.counts.items())),
        "violations": ledger.violations,
        "examples": ledger.examples,
        "appended": samples[-1].appended - samples[0].appended,
        "live": round(statistics.median(sample.live for sample in samples)),
        "write amplification": round(write_amplification(samples), 2),
        "space amplification": round(space_amplification(samples), 2),
        "segments, most": max(sample.segment_count for sample in samples),
        "beyond bounds": beyond,
        "trends": [
            {
                "name": trend.rule.name,
                "median": trend.median,
                "growth": trend.growth,
                "allowed": trend.allowed,
                "is flat": trend.is_flat,
            }
            for trend in found
        ],
        "is clean": not any(ledger.violations.values())
        and not beyond
        and all(trend.is_flat for trend in found),
    }


def table(found: dict[str, Any]) -> str:
    """For docs/reliability.md."""
    lines = ["| | median | grew by | may grow by |", "|---|--:|--:|--:|"]
    for trend in found["trends"]:
        scale, unit = UNITS.get(trend["name"], (1, ""))
        cells = [f"{trend[name] / scale:,.1f}" for name in ("median", "growth", "allowed")]
        title = ", ".join(part for part in (TITLES.get(trend["name"], trend["name"]), unit) if part)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
