"""One soak: the load, and beside it the kills, backups and checks; at the end the reckoning."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from killing.ledger import UNEXPECTED, VERIFY, Ledger
from killing.process import Process

from .lane import Soil, no_latencies
from .load import Load
from .plan import Plan
from .sample import Sample, Sampler

LONG_POLL_SECONDS = 30.0
REPORT_SECONDS = 60.0


@dataclass
class Result:
    """What came of it. ``kills`` are seconds since the load began."""

    plan: Plan
    ledger: Ledger
    samples: list[Sample]
    kills: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # seconds until the first answer


class SoakRun:
    """Call ``run`` once. ``folder`` gets data, log, backups and ``samples.jsonl``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._data.mkdir(parents=True)
        self._log = self._folder / "server.log"
        self._process = Process(plan.server, self._data, self._log, LONG_POLL_SECONDS)
        self._ledger = Ledger()
        self._soil = Soil(self._process.port, plan.seed, self._ledger)
        self._load = Load(plan, self._soil)
        self._file = (self._folder / "samples.jsonl").open("w")
        self._sampler = Sampler(self._soil, self._load, self._data, self._file, plan.window)
        self._chance = random.Random(f"{plan.seed} operator")
        self._directory = asyncio.Lock()  # held by who stops the server, or reads what it wrote
        self.result = Result(plan, self._ledger, self._sampler.samples)

    async def run(self) -> Result:
        try:
            await self._start()
            await self._load.fill()
            self._say("filled")
            await self._soak()
            await self._reckon()
        finally:
            if not self._process.ended:
                self._process.kill()
            self._file.close()
        for trouble in self._plan.server.troubles(self._log.read_bytes()):
            self._ledger.violation(UNEXPECTED, trouble)
        return self.result

    async def _soak(self) -> None:
        self._began = time.monotonic()
        self._soil.latencies = no_latencies()
        self._load.start()
        beside = [
            asyncio.create_task(work())
            for work in (self._sampler.run, self._kill_now_and_then, self._back_up, self._report)
        ]
        load = asyncio.create_task(self._load.offer(self._plan.seconds))
        done, _ = await asyncio.wait([load, *beside], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # what failed ends the run
        await load
        async with self._directory:
            for task in beside:
                task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)

    # -- the server --------------------------------------------------------------------------

    async def _start(self) -> None:
        began = time.monotonic()
        self._process.start()
        await asyncio.to_thread(self._process.wait_ready)
        self.result.starts.append(time.monotonic() - began)
        self._ledger.generation += 1
        self._soil.up_since = time.monotonic()
        self._sampler.pid = self._process.pid
        self._soil.up.set()

    def _stop(self, *, orderly: bool = False) -> None:
        self._soil.up.clear()
        self._sampler.written.look(self._process.pid)
        self._sampler.pid = 0
        self._process.terminate() if orderly else self._process.kill()
        self._sampler.written.ended()

    async def _kill_now_and_then(self) -> None:
        plan = self._plan
        while True:
            await asyncio.sleep(self._chance.uniform(*plan.kill_after))
            if time.monotonic() - self._began > plan.kills_until:
                await asyncio.Event().wait()
            async with self._directory:
                self.result.kills.append(round(time.monotonic() - self._began, 1))
                self._stop()
                self._ledger.count("kills")
                if len(self.result.kills) % plan.verify_every == 0:
                    await self._command("verify", str(self._data))
                await self._start()

    # -- backups and checks ------------------------------------------------------------------

    async def _back_up(self) -> None:
        """And look at the store in use, in turn."""
        backup = ["backup", str(self._data), str(self._folder / "backup"), "--keep", "2"]
        look = ["verify", str(self._data), "--rate", "50"]
        while True:
            for arguments in (backup, look):
                await asyncio.sleep(self._chance.uniform(*self._plan.backup_after))
                await self._command(*arguments)

    async def _command(self, *arguments: str) -> None:
        """One of ours, which must end with 0."""
        program = [sys.executable, "-P", "-m", "durastream", *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        name = arguments[0]
        self._ledger.count(f"{name} runs")
        if process.returncode:
            kind = VERIFY if name == "verify" else UNEXPECTED
            told = f"{name}: exit status {process.returncode}: {output.decode()[-2000:]}"
            self._ledger.violation(kind, told)
            print(told, file=sys.stderr, flush=True)

    # -- the end -----------------------------------------------------------------------------

    async def _reckon(self) -> None:
        """Everything in full: after one more kill, and in a restored backup."""
        self._say("comparing everything")
        self._stop()
        await self._command("verify", str(self._data))
        await self._start()
        await self._load.audit()
        target, restored = self._folder / "backup", self._folder / "restored"
        await self._command("backup", str(self._data), str(target), "--keep", "2")
        self._stop(orderly=True)
        await self._command("verify", str(self._data))
        await self._command("restore", str(target), str(restored))
        await self._command("verify", str(restored))
        port = self._process.port
        self._process = Process(self._plan.server, restored, self._log, LONG_POLL_SECONDS)
        self._process.port = port
        await self._start()
        await self._load.audit()
        self._stop(orderly=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._say(f"{time.monotonic() - self._began:.0f} s")

    def _say(self, what: str) -> None:
        counts = self._ledger.counts
        broken = {kind: n for kind, n in self._ledger.violations.items() if n}
        print(
            f"{what}: {counts['kills']} kills, {counts['acknowledged writes']:,} appends, "
            f"{broken or 'nothing wrong'}",
            file=sys.stderr,
            flush=True,
        )
