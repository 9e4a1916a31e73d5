"""Draws docs/pictures/watch-gate.svg and docs/pictures/watch-servers.svg.

    python scripts/watch_pictures.py

Two embedded engines are served over HTTP, and the same agents run on both, in real time: on the first without a gate,
on the second with one. After some minutes the two live views are drawn as they would be seen in a terminal of 80
columns.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from openai import AsyncOpenAI
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from concur_agents import ConcurGate
from concur_agents.cli.watch import WatchedServer
from concur_agents.simulation.api import OpenAIApi
from concur_agents.simulation.http import serving
from concur_agents.simulation.profile import EngineProfile, LinearProfile
from concur_agents.simulation.running import RunningEngine
from concur_agents.telemetry.dashboard import Dashboard
from concur_agents.telemetry.live.gate_view import gate_page
from concur_agents.telemetry.live.server_view import servers_page

if TYPE_CHECKING:
    from concur_agents.telemetry.live.page import Page

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
AFTER_S = 160.0
AGENTS = 96
PORTS = 8101, 8102

PROFILE = EngineProfile(
    name="made-up",
    description="made up: 32,768 tokens of cache, 25 ms a step, 5,000 prompt tokens a second",
    blocks=2049,
    max_model_len=8192,
    max_num_batched_tokens=2048,
    step_time=LinearProfile(step=0.025, token=0.0002),
)


class Terminal(io.StringIO):
    """One that nobody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """As the view asks."""
        return True


async def agent(gate: ConcurGate, client: AsyncOpenAI, number: int) -> None:
    """Contexts that grow from some 500 tokens to some 3,000."""
    rng = random.Random(number)
    kind = rng.choice(["coder", "critic"])
    async with gate.agent(f"{kind}-{number}", kind=kind):
        messages = [{"role": "user", "content": f"Task {number}. " + "word " * rng.randint(300, 600)}]
        for _ in range(rng.randint(10, 24)):
            answer = await client.chat.completions.create(
                model=PROFILE.name,
                messages=messages,  # type: ignore[arg-type]
                max_tokens=rng.randint(30, 120),
                extra_body={"ignore_eos": True},
            )
            messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})
            await asyncio.sleep(rng.expovariate(1.0))
            messages.append({"role": "user", "content": "result " * rng.randint(20, 120)})


async def main() -> None:
    """Run the agents, and draw what is seen of them."""
    async with AsyncExitStack() as stack:
        watched, gates = [], []
        for port, controller in zip(PORTS, ("none", "working-set"), strict=True):
            api = OpenAIApi(RunningEngine(PROFILE.engine()), model=PROFILE.name, version="0")
            url = await stack.enter_async_context(serving(api, host="127.0.0.1", port=port))
            gate = await stack.enter_async_context(ConcurGate(url, controller=controller))
            gates.append((gate, gate.openai(AsyncOpenAI(base_url=f"{url}/v1", api_key="-", timeout=3600))))
            watched.append(WatchedServer(url, 1.0))
        tasks = [asyncio.create_task(server.poller.run()) for server in watched]
        tasks += [asyncio.create_task(agent(*one, number)) for number in range(AGENTS) for one in gates]
        with Dashboard(gates[1][0], stream=Terminal()) as dashboard:
            await asyncio.sleep(AFTER_S)
            draw(gate_page(dashboard.look(), 80, 26), "gate.dashboard()", "watch-gate.svg")
            draw(servers_page([server.look() for server in watched], 80, 24), "concur watch", "watch-servers.svg")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def draw(page: Page, title: str, name: str) -> None:
    """A page as a picture that needs no network: rich's own template asks a server for its font."""
    console = Console(file=io.StringIO(), record=True, width=80, force_terminal=True, color_system="truecolor")
    console.print(page, end="")
    form = re.sub(r"@font-face \{\{.*?\}\}\s*|<!--.*?-->\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    console.save_svg(str(PICTURES / name), title=title, code_format=form, unique_id=name.removesuffix(".svg"))
    print(f"docs/pictures/{name}")


if __name__ == "__main__":
    asyncio.run(main())
